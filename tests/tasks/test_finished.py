"""Notes on finished partitions."""

from __future__ import annotations

from pathlib import Path

from storage.corpus import Partition
from tasks.finished import Finished


def test_what_a_killed_build_was_writing_costs_that_note_alone(tmp_path: Path) -> None:
    first, second, third = (Partition(f"{n}.parquet", tmp_path / f"{n}.parquet", f"{n}" * 64) for n in range(3))
    path = tmp_path / "finished.jsonl"
    Finished(path).add(first, {"rows": 1}, ["0.parquet"])
    Finished(path).add(second, {"rows": 2}, ["1.parquet"])
    path.write_bytes(path.read_bytes()[:-5])
    Finished(path).add(third, {"rows": 3}, ["b.arrow", "a.arrow"])
    notes = Finished(path)
    assert notes.of(first) == ({"rows": 1}, ["0.parquet"])
    assert notes.of(second) is None
    assert notes.of(third) == ({"rows": 3}, ["a.arrow", "b.arrow"])


def test_a_note_is_about_a_partition_s_content(tmp_path: Path) -> None:
    partition = Partition("0.parquet", tmp_path / "0.parquet", "a" * 64)
    Finished(tmp_path / "notes").add(partition, {}, [])
    assert Finished(tmp_path / "notes").of(Partition("0.parquet", partition.path, "b" * 64)) is None
