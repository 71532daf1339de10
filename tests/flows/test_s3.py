"""Recipes whose store is on S3, run on several hosts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from flows.home import Home
from flows.outcome import StepOutcome
from storage import cache as cache_module
from storage.maintenance import problems
from tests.flows.conftest import make_all, planner_of
from tests.flows.site import CLEAN, COLLECT, PAGES_OF_A_PARTITION, Site, artifacts_of, english
from tests.s3 import S3

RECIPE = """\
name: remote
store: {store}
steps:
  pages:     {{task: collect, sources: [{{kind: files, path: "site/*.html"}}]}}
  documents: {{task: clean_html, pages: pages, extractor: beautifulsoup}}
  unique:    {{task: dedup, documents: documents}}
  tokenizer: {{task: train_tokenizer, documents: unique, vocab_size: 330}}
  shards:    {{task: shard, documents: unique, tokenizer: tokenizer, validation_fraction: 0.2}}
resources: {{workers: 1}}
"""


def athanor(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).parent / "athanor"), *arguments]
    environment = {**os.environ, "ATHANOR_HOME": str(home), "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=900)


def run(home: Path, recipe: Path) -> dict[str, Any]:
    done = athanor(home, "run", str(recipe), "--json")
    assert done.returncode == 0, done.stderr[-3000:]
    assert "something-secret" not in done.stdout + done.stderr
    summary: dict[str, Any] = json.loads(done.stdout)
    return summary["steps"]


REFRESHED = f"""\
name: remote
steps:
{COLLECT}{CLEAN}\
resources: {{workers: 1}}
"""
PARTITIONS = 6


@pytest.mark.slow
def test_a_refresh_elsewhere_fetches_only_the_partitions_that_it_works_on(
    home: Home, s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = Site(home.folder.parent)
    site.pages = {f"{n:02}": english(n) for n in range(PAGES_OF_A_PARTITION * PARTITIONS)}
    site.write()
    here = make_all(planner_of(home, REFRESHED))
    monkeypatch.setenv("ATHANOR_STORE", f"{s3.url}/team")
    one = Home(home.folder.parent / "one")
    first = make_all(planner_of(one, REFRESHED))
    assert artifacts_of(first) == artifacts_of(here)
    _check_that_no_copy_is_needed(one, first, monkeypatch)

    site.pages["09"] += " and more"
    site.write()
    other = Home(home.folder.parent / "other")  # of a host that has none of it
    second = make_all(planner_of(other, REFRESHED))
    store = other.open_store()
    for name in second:
        before, after = (store.manifest(str(outcomes[name].artifact)).files for outcomes in (first, second))
        same = [entry for file, entry in before.items() if after.get(file) == entry]
        assert len(same) == PARTITIONS - 1
        assert [entry for entry in same if store.objects.address(entry).exists()] == [], name
    assert second["unique"].metrics["partitions_reused"] == PARTITIONS - 1
    assert list(problems(store)) == []


def _check_that_no_copy_is_needed(home: Home, made: dict[str, StepOutcome], monkeypatch: pytest.MonkeyPatch) -> None:
    """The copies of partitions make room for others, though the process that has made them lives."""
    with monkeypatch.context() as full:
        full.setenv("ATHANOR_CACHE_GB", "1e-9")
        full.setattr(cache_module, "_UNTOUCHED_SECONDS", -60.0)
        store = home.open_store()
        (home.folder / "more").write_text("more")
        store.take(home.folder / "more")
        entries = [entry for o in made.values() for entry in store.manifest(str(o.artifact)).files.values()]
        assert [entry for entry in entries if store.objects.address(entry).exists()] == []


@pytest.mark.slow
def test_what_one_host_has_built_another_reuses(s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ATHANOR_STORE", raising=False)
    site = tmp_path / "site"
    site.mkdir()
    for number in range(30):
        words = " ".join(f"{number % 25 * n % 97}furnace heat 炉火纯青" for n in range(40))
        (site / f"{number}.html").write_text(f"<html><body><h1>{number % 25}</h1><p>{words}.</p></body></html>")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(RECIPE.format(store=f"{s3.url}/team"))
    first = run(tmp_path / "one", recipe)
    assert {step["status"] for step in first.values()} == {"built"}
    second = run(tmp_path / "two", recipe)
    assert {name: step["artifact"] for name, step in second.items()} == {
        name: step["artifact"] for name, step in first.items()
    }
    assert {step["status"] for step in second.values()} == {"reused"}
    monkeypatch.setenv("ATHANOR_STORE", f"{s3.url}/team")
    checked = athanor(tmp_path / "three", "verify")
    assert "all 5 artifacts are what was written" in checked.stdout
    freed = athanor(tmp_path / "three", "gc")
    assert freed.stdout.startswith("freed 0 artifacts")
    exported = athanor(tmp_path / "three", "export", "remote/tokenizer", str(tmp_path / "out"))
    assert exported.returncode == 0
    assert (tmp_path / "out" / "tokenizer.model").exists()
