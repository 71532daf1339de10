"""A whole recipe on a Ray cluster, wherever its store is and whatever becomes of a node: the same artifacts."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest

from flows.home import Home
from storage.maintenance import problems
from tests.flows.conftest import make_all, planner_of
from tests.flows.site import CLEAN, COLLECT, PAGES_OF_A_PARTITION, Site, artifacts_of, english
from tests.s3 import S3

pytestmark = pytest.mark.slow

RECIPE = f"""\
name: spread
steps:
{COLLECT}{CLEAN}\
  tokenizer: {{task: train_tokenizer, documents: unique, vocab_size: 340}}
  shards:    {{task: shard, documents: unique, tokenizer: tokenizer, validation_fraction: 0.2}}
"""
HERE = "resources: {workers: 1}\n"


def test_a_recipe_makes_the_same_artifacts_on_a_cluster_that_loses_a_node(
    home: Home, cluster: Any, s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = Site(home.folder.parent)
    site.pages = {f"{n:02}": f"{english(n)} mail {n}@example.org" for n in range(6 * PAGES_OF_A_PARTITION)}
    site.pages["copy"] = site.pages["07"]
    site.write()
    here = make_all(planner_of(home, RECIPE + HERE))
    there = f"resources: {{engine: ray, address: '{cluster.address}'}}\n"

    shared = Home(home.folder.parent / "shared")
    killed_at: list[set[str]] = []
    killer = threading.Thread(target=_kill, args=(cluster, shared, killed_at))
    killer.start()
    spread = make_all(planner_of(shared, RECIPE + there))
    killer.join()
    assert killed_at == [{"pages"}], "the node was to die while pages were cleaned"
    assert artifacts_of(spread) == artifacts_of(here)
    assert {outcome.status for outcome in spread.values()} == {"built"}
    assert list(problems(shared.open_store())) == []

    monkeypatch.setenv("ATHANOR_STORE", f"{s3.url}/team")
    other = Home(home.folder.parent / "other")
    remote = make_all(planner_of(other, RECIPE + there))
    assert {outcome.status for outcome in remote.values()} == {"built"}
    assert artifacts_of(remote) == artifacts_of(here)


def _kill(cluster: Any, home: Home, killed_at: list[set[str]]) -> None:
    """Kill a node as soon as a worker has a page before it, and note which steps were finished then."""
    while not _at_work(home.folder):
        time.sleep(0.02)
    cluster.remove_node(cluster.workers.pop(), allow_graceful=False)
    killed_at.append({step for _, step in home.open_store().steps()})


def _at_work(folder: Path) -> bool:
    """Whether a worker has begun a document: what it is at lies in its stage."""
    try:
        return any(folder.rglob("stage.*/current"))
    except FileNotFoundError:  # a folder was removed meanwhile
        return False
