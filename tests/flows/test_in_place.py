"""Pages that a collection leaves in a large file, through plans, refreshes and moves of the file."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from flows.home import Home
from flows.outcome import StepOutcome
from storage.store import Store
from tests.flows.conftest import built, make_all, planner_of

RECIPE = """\
name: toy
steps:
  pages:
    task: collect
    sources: [{kind: jsonl, path: days, url: url, date: date, in_place_megabytes: 0, language: zh}]
    partition_pages: 4
  documents: {task: clean_html, pages: pages}
resources: {workers: 1}
"""


def _write(path: Path, rows: dict[str, str], day: int) -> None:
    path.parent.mkdir(exist_ok=True)
    lines = [{"url": url, "text": text, "date": f"2025-01-0{day}"} for url, text in rows.items()]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def _texts(home: Home, outcomes: dict[str, StepOutcome]) -> dict[str, Any]:
    documents = Store(home.store_address(), home.folder).open(str(outcomes["documents"].artifact))
    rows = [row for table in documents.tables() for row in table.to_pylist()]  # type: ignore[attr-defined]
    assert {row["language"] for row in rows} == {"zh"}
    return {row["url"]: row["text"] for row in rows}


@pytest.fixture
def days(home: Home) -> Path:
    return home.folder.parent / "days"


def test_a_refresh_of_pages_left_in_place_equals_a_full_rebuild(home: Home, days: Path) -> None:
    _write(days / "1.jsonl", {f"u{n}": f"第{n}頁 炉火" for n in range(10)}, 1)
    make_all(planner_of(home, RECIPE))
    assert built(make_all(planner_of(home, RECIPE))) == []
    _write(days / "2.jsonl", {"u3": "換了", "v": "新的"}, 2)
    refreshed = make_all(planner_of(home, RECIPE))
    assert refreshed["documents"].metrics["rows_reused"] == 9
    expected = {f"u{n}": f"第{n}頁 炉火" for n in range(10)} | {"u3": "換了", "v": "新的"}
    assert _texts(home, refreshed) == expected
    copy = Home(home.folder.parent / "copy")
    shutil.copytree(home.folder, copy.folder, symlinks=True)
    afresh = make_all(planner_of(copy, RECIPE, rebuild=frozenset(["documents"])))
    assert afresh["documents"].artifact == refreshed["documents"].artifact
    # What was newest goes, and an older version is in its place again.
    (days / "2.jsonl").unlink()
    assert _texts(home, make_all(planner_of(home, RECIPE)))["u3"] == "第3頁 炉火"


def test_files_may_move_between_collecting_and_cleaning(home: Home, days: Path) -> None:
    _write(days / "1.jsonl", {"u": "words"}, 1)
    outcomes = make_all(planner_of(home, RECIPE, until="pages"))
    assert set(outcomes) == {"pages"}
    days.rename(days.parent / "elsewhere")
    moved = make_all(planner_of(home, RECIPE.replace("path: days", "path: elsewhere")))
    assert moved["pages"].artifact == outcomes["pages"].artifact
    assert _texts(home, moved) == {"u": "words"}
