"""A refresh does no work twice, and a killed one goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from flows.home import Home
from storage.store import Store
from tests.flows.conftest import make_all, planner_of
from tests.flows.site import CLEAN, Site, afresh, artifacts_of, english, text_of
from tests.made import made_tokenizer

RECIPE = f"""\
name: toy
steps:
  pages:     {{task: collect, sources: [{{kind: files, path: site}}], partition_pages: 4, compact_partitions: 2}}
{CLEAN}\
  shards:    {{task: shard, documents: unique, tokenizer: {{path: bytes}}, validation_fraction: 0.3}}
resources: {{workers: 1}}
"""


@pytest.fixture
def tokenizer(home: Home) -> None:
    made_tokenizer(home.folder.parent / "bytes")


@pytest.mark.usefixtures("tokenizer")
def test_one_page_more_or_changed_touches_one_partition_and_one_row_of_each_step(home: Home) -> None:
    site = Site(home.folder.parent)
    site.pages = {f"{number:02}": english(number) for number in range(24)}
    site.write()
    first = make_all(planner_of(home, RECIPE))
    assert all(first[name].metrics["partitions"] == 6 for name in first)
    site.pages["10"] += " and now it says more than it did"
    site.write()
    second = make_all(planner_of(home, RECIPE))
    for outcome in second.values():
        assert outcome.metrics["partitions"] - outcome.metrics["partitions_reused"] == 1, outcome.step
        assert outcome.metrics["rows"] - outcome.metrics["rows_reused"] == 1, outcome.step
    site.pages["99"] = english(99)
    site.write()
    third = make_all(planner_of(home, RECIPE))
    for outcome in third.values():
        assert outcome.metrics["partitions"] == 7
        assert outcome.metrics["partitions_reused"] == 6, outcome.step
        assert outcome.metrics["rows"] - outcome.metrics["rows_reused"] == 1, outcome.step
    store = Store(home.store_address(), home.folder)
    before, after = (store.manifest(str(outcomes["shards"].artifact)).files for outcomes in (second, third))
    assert len(after) == len(before) + 2
    assert all(after[name] == entry for name, entry in before.items() if name.startswith(("train-", "validation-")))


@pytest.mark.usefixtures("tokenizer")
@pytest.mark.parametrize("partitions", [3, pytest.param(8, marks=pytest.mark.slow)])
def test_a_refresh_that_is_killed_goes_on_and_equals_a_full_rebuild(home: Home, partitions: int) -> None:
    site = Site(home.folder.parent)
    site.pages = {f"{number:02}": text_of(number) for number in range(24)}
    site.write()
    make_all(planner_of(home, RECIPE))
    site.pages |= {"03": text_of(30), "17": site.pages["18"], "24": f"{site.pages['05']} indeed"}
    del site.pages["11"]
    site.write()
    code = f"""
from pathlib import Path
from flows.home import Home
from tests.flows.conftest import make_all, planner_of
from tests.flows.test_incremental import RECIPE
if __name__ == "__main__":
    make_all(planner_of(Home(Path({str(home.folder)!r})), RECIPE))
"""
    script = home.folder.parent / "refresh.py"
    script.write_text(code)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    running = subprocess.Popen([sys.executable, str(script)], env=environment, stderr=subprocess.DEVNULL)
    records = home.folder / "store" / "partitions"
    before = len(list(records.iterdir()))
    while running.poll() is None and len(list(records.iterdir())) < before + partitions:
        time.sleep(0.01)
    running.send_signal(signal.SIGKILL)
    running.wait()
    refreshed = make_all(planner_of(home, RECIPE))
    fresh = afresh(home, RECIPE)
    assert artifacts_of(refreshed) == artifacts_of(fresh)
