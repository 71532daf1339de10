"""What is made of rows is taken over where they are the same, and nobody can tell."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.corpus import DOCUMENTS_SCHEMA, PAGES_SCHEMA, Partition, read_table, table_of, write_table
from storage.identity import digest_of_file
from tasks.context import PlainWorld, RunContext
from tasks.rows import Before, Positions, Record, RowWork, Worked, row_keys, rows_of, work_on_rows
from tasks.tally import Tally, result_of
from tasks.task import Guard, Resources
from tests.helpers import FolderMemory

Row = tuple[str, str]
"""Id and text."""
ROWS = st.dictionaries(st.sampled_from("abcdefgh"), st.sampled_from(["", "x", "水", "drop", "twice", "long text"]))


@dataclass(frozen=True)
class Letters(RowWork):
    """Drops some rows, doubles some, and notes in a file which it worked on."""

    log: Path | None = None

    def work(self, rows: pa.Table, guard: Guard) -> Worked:
        tally, made, origin = Tally(), [], []
        for number, row in enumerate(rows.to_pylist()):
            tally.row = number
            if self.log:
                with self.log.open("a") as file:
                    file.write(row["id"] + "\n")
            if row["text"] == "drop":
                tally.drop("asked", len(row["text"]), row["url"], row["text"])
                continue
            tally.count("copies", int(row["text"] == "twice"))
            tally.keep(len(row["text"]), row["text"])
            for _ in range(1 + (row["text"] == "twice")):
                made.append(row | {"text": row["text"].upper()})
                origin.append(number)
        return Worked(table_of(made, DOCUMENTS_SCHEMA), origin, tally)


class Sides(Letters):
    """Writes empty texts into a file of their own."""

    def save(self, made: pa.Table, output: Path) -> Positions | None:
        empty = np.array([not text for text in made["text"].to_pylist()], np.bool_)
        write_table(made.filter(pa.array(empty)), output.with_name(f"empty-{output.name}"))
        write_table(made.filter(pa.array(~empty)), output.with_name(f"full-{output.name}"))
        return np.concatenate([np.flatnonzero(empty), np.flatnonzero(~empty)])

    def saved(self, files: Mapping[str, Path]) -> pa.Table:
        return pa.concat_tables([read_table(path) for _, path in sorted(files.items())])


def _table(rows: Mapping[str, str]) -> pa.Table:
    return table_of(
        [{"id": i, "text": t, "url": f"u/{i}", "source": "s", "first_seen": 1} for i, t in rows.items()],
        DOCUMENTS_SCHEMA,
    )


def _guard(document: str, function: Any, *arguments: Any) -> Any:
    return function(*arguments)


def _worked(
    work: RowWork, folder: Path, rows: Mapping[str, str], before: Before | None = None
) -> tuple[dict[str, Any], dict[str, Path]]:
    """Stats and files of one partition."""
    (folder / "out").mkdir(parents=True)
    write_table(_table(rows), folder / "in.parquet")
    stats = work_on_rows(work, folder / "in.parquet", folder / "out" / "0.parquet", _guard, before)
    return stats, {path.name: path for path in (folder / "out").iterdir()}


@pytest.mark.parametrize("work", [Letters(), Sides()], ids=["one file", "two files"])
@settings(max_examples=40, deadline=None)
@given(states=st.lists(ROWS, min_size=2, max_size=4), order=st.randoms())
def test_any_changes_give_what_a_fresh_build_gives(
    tmp_path_factory: pytest.TempPathFactory, work: RowWork, states: list[dict[str, str]], order: Any
) -> None:
    folder = tmp_path_factory.mktemp("rows")
    before = None
    for number, state in enumerate(states):
        items = list(state.items())
        order.shuffle(items)
        stats, files = _worked(work, folder / f"{number}", dict(items), before)
        fresh, expected = _worked(work, folder / f"{number}-fresh", dict(items))
        assert {name: path.read_bytes() for name, path in files.items()} == {
            name: path.read_bytes() for name, path in expected.items()
        }
        assert stats["counts"] == fresh["counts"]
        assert stats["record"] == fresh["record"]
        shown = {json.dumps(sample) for sample in stats["samples"]}
        assert len(shown) == len(stats["samples"])
        if len(state) <= 3:  # as many samples as are kept of one title
            assert sorted(shown) == sorted(json.dumps(sample) for sample in fresh["samples"])
        before = Before(stats["record"], stats, files)


def _partition(path: Path, rows: Mapping[str, str]) -> Partition:
    write_table(_table(rows), path)
    return Partition(path.name, path, digest_of_file(path))


def test_only_changed_rows_are_worked_on_and_it_is_counted(tmp_path: Path) -> None:
    memory, log = FolderMemory(tmp_path / "memory"), tmp_path / "log"

    def build(name: str, *partitions: Mapping[str, str], identity: str = "this") -> tuple[set[str], dict[str, float]]:
        log.unlink(missing_ok=True)
        folder = tmp_path / name
        context = RunContext(
            output=folder / "output",
            scratch=folder / "scratch",
            world=PlainWorld(folder),
            resources=Resources(workers=1),
            identity=identity,
            memory=memory,
        )
        made = [_partition(folder / f"{n:05}.parquet", rows) for n, rows in enumerate(partitions)]
        result = result_of("letters", context.map_rows(Letters(log), made))
        assert result.metrics["documents_in"] == sum(map(len, partitions))
        return set(log.read_text().split()) if log.exists() else set(), context.reuse.metrics()

    assert build("first", {"a": "x", "b": "y"}, {"c": "z"}) == (
        set("abc"),
        {"partitions": 2, "partitions_reused": 0, "rows": 3, "rows_reused": 0},
    )
    assert build("second", {"a": "x", "b": "changed", "new": "n"}, {"c": "z"}) == (
        {"b", "new"},
        {"partitions": 2, "partitions_reused": 1, "rows": 4, "rows_reused": 2},
    )
    # One that only lost a row is written again, and no row is worked on.
    assert build("third", {"a": "x", "new": "n"}, {"c": "z"})[0] == set()
    assert build("other settings", {"a": "x"}, identity="that")[0] == {"a"}


def test_no_sample_is_left_of_a_row_that_has_gone(tmp_path: Path) -> None:
    stats, files = _worked(Letters(), tmp_path / "first", {"a": "drop", "b": "x"})
    assert [sample[4] for sample in stats["samples"]] == ["u/a"]
    stats, _ = _worked(Letters(), tmp_path / "second", {"b": "x"}, Before(stats["record"], stats, files))
    assert stats["samples"] == []
    assert stats["rows_reused"] == 1


@given(numbers=st.lists(st.integers(0, 29)), runs=st.lists(st.tuples(st.integers(0, 20), st.integers(1, 9))))
def test_rows_are_those_that_are_asked_for(numbers: list[int], runs: list[tuple[int, int]]) -> None:
    table = pa.table({"number": np.arange(30), "lists": [list(range(n % 4)) for n in range(30)]})
    for asked in (numbers, [first + n for first, count in runs for n in range(count)]):
        assert rows_of(table, np.array(asked, np.int64)).to_pylist() == [
            table.slice(n, 1).to_pylist()[0] for n in asked
        ]


def test_keys_tell_rows_apart_by_every_column() -> None:
    table = _table({"a": "x"})
    keys = {row_keys(table)[0]}
    for column, value in {"id": "b", "text": "y", "language": "en", "first_seen": 2, "tags": ["t"]}.items():
        place = table.schema.get_field_index(column)
        changed = table.set_column(
            place, table.schema.field(column), pa.array([value], table.schema.field(column).type)
        )
        keys.add(row_keys(changed)[0])
    assert len(keys) == 6
    assert len(set(row_keys(pa.concat_tables([table, table, table])))) == 3
    # What one column ends with does not pass for the next one's beginning.
    assert row_keys(pa.table({"a": ["xy"], "b": ["z"]})) != row_keys(pa.table({"a": ["x"], "b": ["yz"]}))


def test_keys_of_pages_tell_every_value_from_none_and_from_nothing() -> None:
    day = datetime(2026, 1, 2, tzinfo=UTC)
    page: dict[str, Any] = {"id": "a", "url": "u", "content_type": "text/html", "source": "s", "first_seen": 1}
    others: list[dict[str, Any]] = [
        {}, {"content": b""}, {"content": b"0"}, {"license": ""}, {"license": "-"}, {"language": ""}, {"offset": 0},
        {"length": 0}, {"digest": bytes(16)}, {"collected_at": day}, {"collected_at": day + timedelta(microseconds=1)},
    ]  # fmt: skip
    table = table_of([page | other for other in others], PAGES_SCHEMA)
    keys = row_keys(table)
    assert len(set(keys)) == len(others)
    # A row's key is its own, whatever stands beside it, and however the column is cut.
    assert [row_keys(table.slice(number, 1))[0] for number in range(len(others))] == keys
    assert row_keys(pa.concat_tables([table.slice(0, 3), table.slice(3)])) == keys


def test_a_record_is_small_and_survives_its_packing() -> None:
    keys = row_keys(pa.table({"id": [str(n) for n in range(1000)]}))
    record = Record(keys, np.arange(1000), {"bytes_in": np.arange(1000) ** 2, "dropped": np.arange(1000) % 2})
    again = Record.unpacked(record.packed())
    assert again.keys == record.keys
    assert again.origin.tolist() == record.origin.tolist()
    assert {name: column.tolist() for name, column in again.counts.items()} == {
        name: column.tolist() for name, column in record.counts.items()
    }
    assert len(record.packed()) < 40 * 1000
