"""Another key of pseudonyms rebuilds the step and all of its partitions; the key itself is nowhere in the store."""

from __future__ import annotations

import pytest

from flows.home import Home
from tests.flows.conftest import make_all, planner_of, statuses

RECIPE = """
name: letters
steps:
  pages: {task: fetch}
  documents: {task: clean, pages: pages}
  scrubbed: {task: scrub_pii, documents: documents, replace: pseudonym}
"""


def test_another_key_rebuilds_every_partition(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = home.folder.parent / "texts"
    (texts / "mail.txt").write_text("write to bob@example.com\n")
    seen = []
    for key in ("the first key of this test", "the second key of this test", "the first key of this test"):
        monkeypatch.setenv("ATHANOR_PII_KEY", key)
        outcomes = make_all(planner_of(home, RECIPE))
        artifact = outcomes["scrubbed"].artifact
        seen.append((statuses(outcomes)["scrubbed"], artifact))
    assert [status for status, _ in seen] == ["built", "built", "reused"]
    assert seen[0][1] != seen[1][1]
    assert seen[0][1] == seen[2][1]
    assert not any(b"key of this test" in path.read_bytes() for path in home.folder.rglob("*") if path.is_file())
