"""A corpus that has grown gives the same bytes whether earlier work on its partitions is reused or not."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from storage.corpus import DOCUMENTS_SCHEMA, Documents, table_of, write_table
from storage.stored import AnyFile, located
from tasks.context import PlainWorld, RunContext
from tasks.dedup import Dedup
from tasks.drop_passages import DropPassages
from tasks.task import Resources, Task
from tests.helpers import FolderMemory


def _corpus(folder: Path, rows: list[tuple[str, str, int]], partitions: int = 10) -> Documents:
    """A document's partition depends on its id alone."""
    for number in range(partitions):
        mine = [
            {"id": i, "text": text, "url": f"https://a.org/{i}", "source": "made", "first_seen": first}
            for i, text, first in rows
            if int(i) % partitions == number
        ]
        write_table(table_of(mine, DOCUMENTS_SCHEMA), folder / f"{number:05}.parquet")
    return Documents.of_folder(folder)


def _bytes(
    task: Task,
    documents: Documents,
    folder: Path,
    memory: FolderMemory | None = None,
    shared: dict[str, AnyFile] | None = None,
) -> dict[str, bytes]:
    (folder / "output").mkdir(parents=True)
    (reference,) = task.inputs().values()
    context = RunContext(
        output=folder / "output",
        scratch=folder / "scratch",
        world=PlainWorld(folder),
        inputs={reference: documents},
        resources=Resources(workers=1),
        identity="this task",
        memory=memory,
        shared=shared,
    )
    task.run(context)
    return {path.name: path.read_bytes() for path in (folder / "output").iterdir()}


def _pages(numbers: range, first_seen: int) -> list[tuple[str, str, int]]:
    rng = random.Random(7)
    common = [f"this line stands on several pages, being number {n}" for n in range(8)]
    rows = []
    for number in range(max(numbers) + 1):
        words = [f"word{rng.randrange(30 if number % 3 else 9)}" for _ in range(12)]
        lines = [*rng.sample(common, 2), " ".join(words), common[number % 8]]
        if number in numbers:
            rows.append((f"{number:04}", "\n".join(lines), first_seen))
    return rows


@pytest.mark.parametrize(
    "task",
    [
        Dedup(documents="d", similarity=0.5, max_source_loss=1.0),  # type: ignore[arg-type]
        DropPassages(documents="d"),  # type: ignore[arg-type]
        DropPassages(documents="d", unit="words", words=5, min_documents=2, keep="none"),  # type: ignore[arg-type]
    ],
    ids=["dedup", "lines", "words"],
)
def test_reuse_equals_a_full_rebuild(tmp_path: Path, task: Task) -> None:
    memory = FolderMemory(tmp_path / "memory")
    old = _pages(range(60), 1)
    _bytes(task, _corpus(tmp_path / "old", old), tmp_path / "first", memory)
    # Only partitions 1 and 2 grow, and one of the new pages is older than all others.
    new = [row for row in _pages(range(60, 90), 2) if row[0][-1] in "12"]
    grown = _corpus(tmp_path / "grown", [*old, *new, ("0091", old[5][1] + " older", 0)])
    reused = _bytes(task, grown, tmp_path / "second", memory)
    assert memory.hits >= 8
    assert reused == _bytes(task, grown, tmp_path / "whole")
    assert reused != _bytes(task, _corpus(tmp_path / "again", old), tmp_path / "third")


@pytest.mark.parametrize(
    "task",
    [Dedup(documents="d", similarity=0.5, max_source_loss=1.0), DropPassages(documents="d")],  # type: ignore[arg-type]
    ids=["dedup", "lines"],
)
def test_a_partition_may_go_where_all_others_are_known(tmp_path: Path, task: Task) -> None:
    memory = FolderMemory(tmp_path / "memory")
    rows = _pages(range(60), 1)
    _bytes(task, _corpus(tmp_path / "old", rows), tmp_path / "first", memory)
    _corpus(tmp_path / "left", rows)
    (tmp_path / "left" / "00009.parquet").unlink()
    left = Documents.of_folder(tmp_path / "left")
    shared: dict[str, AnyFile] = {}  # as in a store, whose files are not linked to
    reused = _bytes(task, left, tmp_path / "second", memory, shared)
    assert memory.hits >= 9
    reused |= {name: located(where).read_bytes() for name, where in shared.items()}
    assert reused == _bytes(task, left, tmp_path / "whole")


def _variant(rng: random.Random) -> str:
    """One of a few texts with some words exchanged, so that similarities lie on both sides of the threshold."""
    words = random.Random(rng.randrange(4)).choices([f"word{number}" for number in range(500)], k=60)
    for _ in range(rng.choice((0, 1, 1, 2, 3, 5))):
        words[rng.randrange(60)] = f"other{rng.randrange(8)}"
    return " ".join(words)


@pytest.mark.parametrize("seed", [1, 2])
def test_any_sequence_of_additions_changes_and_removals_equals_a_rebuild(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    task = Dedup(documents="d", similarity=0.7, max_source_loss=1.0)  # type: ignore[arg-type]
    memory = FolderMemory(tmp_path / "memory")
    rows: dict[str, tuple[str, int]] = {}
    for refresh in range(1, 6):
        for name in rng.sample(sorted(rows), len(rows) // 8):
            del rows[name]
        for name in rng.sample(sorted(rows), len(rows) // 8):
            rows[name] = (_variant(rng), rows[name][1])
        for _ in range(60 if refresh == 1 else 8):
            rows[f"{rng.randrange(10_000):04}"] = (_variant(rng), rng.choice((refresh, refresh, 0)))
        documents = _corpus(tmp_path / f"{refresh}", [(name, *row) for name, row in sorted(rows.items())], 3)
        reused = _bytes(task, documents, tmp_path / f"reused-{refresh}", memory)
        assert reused == _bytes(task, documents, tmp_path / f"whole-{refresh}")


def test_only_documents_that_meet_others_than_before_are_compared_again(tmp_path: Path) -> None:
    rng = random.Random(3)
    task = Dedup(documents="d", similarity=0.7, max_source_loss=1.0)  # type: ignore[arg-type]
    memory = FolderMemory(tmp_path / "memory")
    rows = [(f"{number:04}", _variant(rng), 1) for number in range(200)]
    _bytes(task, _corpus(tmp_path / "old", rows), tmp_path / "first", memory)
    _bytes(task, _corpus(tmp_path / "same", rows[::-1]), tmp_path / "second", memory)
    _bytes(
        task, _corpus(tmp_path / "new", [*rows, ("0200", "a text like no other at all", 2)]), tmp_path / "third", memory
    )
    (last, text, _), *_ = reversed(rows)
    changed = [*rows[:-1], (last, text.replace("word", "thing", 3), 1)]
    _bytes(task, _corpus(tmp_path / "changed", changed), tmp_path / "fourth", memory)

    def compared(build: str) -> int:
        """Of how many documents 5-grams were made."""
        return sum(len(np.load(path)) for path in (tmp_path / build / "scratch").rglob("*.rows.npy"))

    assert compared("first") > 100
    assert compared("second") == compared("third") == 0
    assert 0 < compared("fourth") < compared("first") / 2
