"""A refresh makes, byte for byte, what a full rebuild makes of the same collection, and does no work twice."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from flows.build import StepOutcome
from flows.home import Home
from storage.store import Store
from tests.flows.conftest import make_all, planner_of
from tests.made import made_tokenizer

RECIPE = """\
name: toy
steps:
  pages:     {task: collect, sources: [{kind: files, path: site}], partition_pages: 4, compact_partitions: 2}
  documents: {task: clean_html, pages: pages, extractor: resiliparse}
  kept:      {task: filter, documents: documents, rules: [length, characters]}
  scrubbed:  {task: scrub_pii, documents: kept}
  unique:    {task: dedup, documents: scrubbed, similarity: 0.6, max_source_loss: 1}
  shards:    {task: shard, documents: unique, tokenizer: {path: bytes}, validation_fraction: 0.3}
resources: {workers: 1}
"""
DERIVED = ("documents", "kept", "scrubbed", "unique", "shards")
WORDS = ["the", "furnace", "keeps", "an", "even", "heat", "for", "weeks", "once", "it", "has", "been", "fed", "coal"]
HANZI = "床前明月光疑是地上霜舉頭望低思故鄉白日依山盡黃河入海流欲窮千里目更上一層樓"


def _text(chance: random.Random) -> str:
    """A page: English or Chinese, now and then too short to be kept, or with an address in it."""
    kind = chance.randrange(8)
    if kind == 0:
        return "too short"
    if kind < 3:
        return "".join(chance.choices(HANZI, k=120))
    address = f" write to {chance.choice(WORDS)}@alchemy.org please" if kind == 3 else ""
    return " ".join(chance.choices(WORDS, k=60)) + address


class Site:
    """A folder of pages that come, change, are copied and go."""

    def __init__(self, folder: Path, seed: int, pages: int) -> None:
        self.folder, self.chance = folder, random.Random(seed)
        self.pages: dict[str, str] = {}
        for _ in range(pages):
            self.add()
        self.write()

    def add(self) -> None:
        self.pages[f"{self.chance.randrange(10**6):06}.html"] = _text(self.chance)

    def some(self) -> str:
        return self.chance.choice(sorted(self.pages))

    def change(self) -> None:
        """A few additions, changes, copies (whole, or nearly so) and removals."""
        for _ in range(self.chance.randint(1, 5)):
            what = self.chance.choice(["add", "add", "change", "copy", "nearly", "remove"])
            if what == "add":
                self.add()
            elif what == "change":
                self.pages[self.some()] = _text(self.chance)
            elif what == "copy":
                self.pages[f"copy{self.chance.randrange(10**6):06}.html"] = self.pages[self.some()]
            elif what == "nearly":
                self.pages[self.some()] = f"{self.pages[self.some()]} indeed"
            elif len(self.pages) > 6:
                del self.pages[self.some()]
        self.write()

    def write(self) -> None:
        """Bring the folder up to date, leaving the files alone whose content is the same."""
        self.folder.mkdir(exist_ok=True)
        for gone in {path.name for path in self.folder.iterdir()} - set(self.pages):
            (self.folder / gone).unlink()
        for name, text in self.pages.items():
            content = f"<!doctype html><html><body><main><p>{text}</p></main></body></html>"
            if not (self.folder / name).exists() or (self.folder / name).read_text() != content:
                (self.folder / name).write_text(content)


@pytest.fixture
def tokenizer(home: Home) -> None:
    made_tokenizer(home.folder.parent / "bytes")


def _artifacts(outcomes: Mapping[str, StepOutcome]) -> dict[str, str | None]:
    return {name: outcomes[name].artifact for name in DERIVED}


def _afresh(home: Home) -> dict[str, StepOutcome]:
    """The same in a copy of the store, where everything after the collection is built without any reuse."""
    copy = Home(home.folder.parent / "copy")
    shutil.rmtree(copy.folder, ignore_errors=True)
    shutil.copytree(home.folder, copy.folder, symlinks=True)
    shutil.rmtree(copy.folder / "views", ignore_errors=True)
    return make_all(planner_of(copy, RECIPE, rebuild=frozenset(["documents"])))


@pytest.mark.usefixtures("tokenizer")
@pytest.mark.parametrize(
    ("seed", "refreshes"), [(1, 3), *(pytest.param(seed, 6, marks=pytest.mark.slow) for seed in range(2, 6))]
)
def test_refreshes_equal_full_rebuilds(home: Home, seed: int, refreshes: int) -> None:
    site = Site(home.folder.parent / "site", seed, pages=14)
    make_all(planner_of(home, RECIPE))
    reused = 0.0
    for _ in range(refreshes):
        site.change()
        refreshed = make_all(planner_of(home, RECIPE))
        fresh = _afresh(home)
        assert _artifacts(refreshed) == _artifacts(fresh)
        assert fresh["pages"].status == "reused"
        for name in DERIVED[:3]:
            reuse = {"partitions_reused", "rows_reused"}
            mine, theirs = refreshed[name].metrics, fresh[name].metrics
            assert {k: v for k, v in mine.items() if k not in reuse} == {
                k: v for k, v in theirs.items() if k not in reuse
            }
            assert theirs["rows_reused"] == theirs["partitions_reused"] == 0
            reused += mine["rows_reused"]
    assert reused


@pytest.mark.usefixtures("tokenizer")
def test_one_page_more_or_changed_touches_one_partition_and_one_row_of_each_step(home: Home) -> None:
    site = Site(home.folder.parent / "site", 3, pages=0)
    for number in range(24):
        site.pages[f"{number:02}.html"] = " ".join(site.chance.choices(WORDS, k=60)) + f" {number}"
    site.write()
    first = make_all(planner_of(home, RECIPE))
    assert all(first[name].metrics["partitions"] == 6 for name in first)
    site.pages["10.html"] += " and now it says more than it did"
    site.write()
    second = make_all(planner_of(home, RECIPE))
    for outcome in second.values():
        assert outcome.metrics["partitions"] - outcome.metrics["partitions_reused"] == 1, outcome.step
        assert outcome.metrics["rows"] - outcome.metrics["rows_reused"] == 1, outcome.step
    site.pages["99.html"] = " ".join(site.chance.choices(WORDS, k=60))
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
    site = Site(home.folder.parent / "site", seed=5, pages=24)
    make_all(planner_of(home, RECIPE))
    site.change()
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
    assert _artifacts(refreshed) == _artifacts(_afresh(home))
