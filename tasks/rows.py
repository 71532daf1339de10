"""Working on rows: what a step made of a row is taken over as long as the row stays the same.

A step that makes each of its output rows of one input row alone hands a :class:`RowWork` to
``context.map_rows``. Of a partition that was touched, only the rows are worked on that the same
step has not seen in this partition before; the others' results are taken from the partition's
earlier result, and all are put in the order of the rows. So the bytes, counts included, are those
that working on the whole partition gives.

What has to be remembered of a row beside its result is little: a digest, and what it was counted
as. Samples belong to rows too, so that none is shown of a text that has gone.
"""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from storage.artifact import JsonValue
from storage.corpus import read_table, write_table
from storage.identity import canonical_json
from tasks.tally import SampleOfRow, Tally, fewest, stats_of
from tasks.task import Guard, Sample

Positions = npt.NDArray[np.int64]

_KEY_BYTES = 16
_NO_LENGTH, _NO_VALUE = pa.scalar("-", pa.large_string()), pa.scalar(b"", pa.large_binary())
_SHORT_RUN = 4
"""Rows in a run that are about as fast taken one by one."""


@dataclass(frozen=True)
class Worked:
    """What was made of some rows."""

    table: pa.Table
    """Output rows, in the order of the rows that they were made of."""
    origin: Sequence[int]
    """Number of the input row that each output row was made of, ascending."""
    tally: Tally
    """Counts and samples, by the numbers of the input rows."""


class RowWork(ABC):
    """What a step does to rows: a picklable value with all that the result depends on beside the rows.

    Rows must not depend on each other; working on many at once is only a matter of speed.
    """

    def load(self, source: Path, name: str) -> pa.Table:
        """The rows of a partition, with the columns that matter; a row is the same if all of them are."""
        return read_table(source)

    def load_some(self, source: Path, rows: pa.Table, numbers: Positions) -> pa.Table:
        """Those of the loaded ``rows`` that are to be worked on, with what ``load`` may have left out."""
        return rows if len(numbers) == len(rows) else rows.take(pa.array(numbers))

    @abstractmethod
    def work(self, rows: pa.Table, guard: Guard) -> Worked:
        """What becomes of these rows: all those of a partition, or only new and changed ones."""

    def save(self, made: pa.Table, output: Path) -> Positions | None:
        """Write the partition's result: the file ``output``, or others beside it.

        Returns the order in which the rows then lie in the files, if it is another one.
        """
        write_table(made, output)
        return None

    def note(self, made: pa.Table) -> dict[str, JsonValue]:
        """What later steps of the task have to know of a partition's result, to save them opening it; no counts."""
        return {}

    def outdated(self, files: Mapping[str, Path]) -> Sequence[int]:
        """Numbers of the saved rows that would not be made today, whatever the input: those to be forgotten.

        Nothing else may be outdated: what a row is made into is a matter of the step's identity.
        """
        return ()

    def doubtful(self) -> str | None:
        """A count: what was made of rows that have it may be another today. None if there is no such count."""
        return None

    def is_outdated(self, files: Mapping[str, Path], stats: Mapping[str, JsonValue]) -> bool:
        """Whether some rows of an earlier result, with these counts, have to be worked on again."""
        doubtful = self.doubtful()
        return doubtful in stats["counts"] or len(self.outdated(files)) > 0

    def saved(self, files: Mapping[str, Path]) -> pa.Table:
        """The rows that ``save`` wrote, in the order in which they lie in the files."""
        (path,) = files.values()
        return read_table(path)


@dataclass(frozen=True)
class Record:
    """What is remembered of the rows of a partition."""

    keys: list[bytes]
    """Digests of the input rows."""
    origin: Positions
    """For each output row, in the order of the files, the number of its input row."""
    counts: dict[str, Positions]
    """Name → count of each input row."""

    def packed(self) -> str:
        """As text; some 25 bytes a row."""
        names = sorted(self.counts)
        head = canonical_json({"rows": len(self.keys), "made": len(self.origin), "counts": names})
        # Most rows are made of the next one.
        numbers = [np.diff(self.origin, prepend=-1), *(self.counts[name] for name in names)]
        content = [head.encode() + b"\n", *self.keys, *(column.astype("<i8").tobytes() for column in numbers)]
        return base64.b64encode(zlib.compress(b"".join(content), 1)).decode()

    @classmethod
    def unpacked(cls, text: str) -> Record:
        line, content = zlib.decompress(base64.b64decode(text)).split(b"\n", 1)
        head, step = json.loads(line), _KEY_BYTES
        keys = [content[at : at + step] for at in range(0, step * head["rows"], step)]
        numbers = np.frombuffer(content, "<i8", offset=step * head["rows"])
        made = head["made"]
        counts = numbers[made:].reshape(len(head["counts"]), head["rows"])
        return cls(keys, np.cumsum(numbers[:made]) - 1, dict(zip(head["counts"], counts, strict=True)))


@dataclass(frozen=True)
class Before:
    """What a worker needs of an earlier result of its partition; small, and can be pickled."""

    packed: str
    stats: dict[str, JsonValue]
    files: dict[str, Path]

    @cached_property
    def record(self) -> Record:
        return Record.unpacked(self.packed)

    @property
    def samples(self) -> list[SampleOfRow]:
        return [(row, Sample(*sample)) for row, *sample in self.stats["samples"]]


def work_on_rows(
    work: RowWork, source: Path, output: Path, guard: Guard, before: Before | None = None
) -> dict[str, JsonValue]:
    """Work on the rows of a partition that are not as they were ``before``.

    Returns counts and samples, the numbers ``rows`` and ``rows_reused``, and under ``record`` what
    is to be remembered.
    """
    rows = work.load(source, output.name)
    keys = row_keys(rows)
    was = {key: row for row, key in enumerate(before.record.keys if before else [])}
    if before is not None:
        for number in work.outdated(before.files):
            del was[before.record.keys[before.record.origin[number]]]
        for row in np.flatnonzero(before.record.counts.get(work.doubtful() or "", ())):
            del was[before.record.keys[row]]
    same = np.array([was.get(key, -1) for key in keys], np.int64)
    fresh = np.flatnonzero(same < 0)
    tables: list[pa.Table] = []
    origins: list[Positions] = []
    counts: dict[str, npt.NDArray[np.int64]] = {}
    samples: list[SampleOfRow] = []

    if before is not None and len(fresh) < len(keys):
        _take_over(work.saved(before.files), before, same, tables, origins, counts, samples)
    if len(fresh) or not tables:
        worked = work.work(work.load_some(source, rows, fresh), guard)
        tables.append(worked.table)
        origins.append(fresh[np.asarray(worked.origin, np.int64)])
        for name, by_row in worked.tally.counts.items():
            column = counts.setdefault(name, np.zeros(len(keys), np.int64))
            column[fresh[list(by_row)]] += list(by_row.values())
        samples += [(int(fresh[row]), sample) for row, sample in worked.tally.samples(beside=samples)]

    origin = np.concatenate(origins)
    order = np.argsort(origin, kind="stable")
    made = pa.concat_tables(tables)
    if (np.diff(origin) < 0).any():
        made = rows_of(made, order)
    lies = work.save(made.combine_chunks(), output)
    origin = origin[order] if lies is None else origin[order][lies]
    record = Record(keys, origin, {name: column for name, column in counts.items() if column.any()})
    stats = stats_of({name: int(column.sum()) for name, column in record.counts.items()}, fewest(samples))
    stats |= {"rows": len(keys), "rows_reused": len(keys) - len(fresh), "record": record.packed()}
    return stats | work.note(made)


def _take_over(
    saved: pa.Table,
    before: Before,
    same: Positions,
    tables: list[pa.Table],
    origins: list[Positions],
    counts: dict[str, npt.NDArray[np.int64]],
    samples: list[SampleOfRow],
) -> None:
    """Take over what was made of the rows that are the same; ``same`` says which row each one was, or -1."""
    now = np.full(len(before.record.keys), -1, np.int64)
    mine = np.flatnonzero(same >= 0)
    now[same[mine]] = mine
    came_of = now[before.record.origin]
    taken = np.flatnonzero(came_of >= 0)
    tables.append(rows_of(saved, taken))
    origins.append(came_of[taken])
    for name, column in before.record.counts.items():
        counts[name] = np.zeros(len(same), np.int64)
        counts[name][mine] = column[same[mine]]
    samples += [(int(now[row]), sample) for row, sample in before.samples if now[row] >= 0]


def rows_of(table: pa.Table, numbers: Positions) -> pa.Table:
    """The rows with these numbers, in this order; successive ones are copied together: for lists much faster."""
    runs = np.flatnonzero(np.diff(numbers, prepend=-2, append=-2) != 1)
    if _SHORT_RUN * len(runs) > len(numbers):
        return table.take(pa.array(numbers))
    slices = ((int(numbers[begin]), int(end - begin)) for begin, end in pairwise(runs.tolist()))
    return pa.concat_tables([table.slice(first, count) for first, count in slices])


def row_keys(rows: pa.Table) -> list[bytes]:
    """A digest of each row, over all its columns; rows that come twice are told apart by their number among these."""
    # Of a column without a value in any row all say the same; but the first column makes rows of what is joined.
    said = {n: _as_bytes(c) for n, c in enumerate(rows.columns) if n == 0 or c.null_count < len(c)}
    # First how long each value is, or that it is none; so no two rows are read as the same bytes.
    lengths = [_lengths(said[n]) if n in said else _NO_LENGTH for n in range(rows.num_columns)]
    head = pc.binary_join_element_wise(*lengths, pa.scalar(",", pa.large_string())).cast(pa.large_binary())
    filled = [pc.fill_null(said[n], b"") if n in said else _NO_VALUE for n in range(rows.num_columns)]
    # What may be large is not copied.
    large = [pt.is_binary(kind) for kind in rows.schema.types]
    raw = [_views(filled[n]) for n in said if large[n]]
    rest = [values for values, is_large in zip(filled, large, strict=True) if not is_large]
    joined = pc.binary_join_element_wise(head, *rest, pa.scalar(b";", pa.large_binary()))
    seen: dict[bytes, int] = {}
    keys = []
    for row in zip(_views(joined), *raw, strict=True):
        digest = hashlib.sha256()
        for content in row:
            digest.update(content)
        key = digest.digest()[:_KEY_BYTES]
        again = seen.get(key, 0)
        seen[key] = again + 1
        if again:
            key = hashlib.sha256(key + str(again).encode()).digest()[:_KEY_BYTES]
        keys.append(key)
    return keys


def _as_bytes(column: pa.ChunkedArray) -> pa.LargeBinaryArray:
    """Each value as bytes that stand for nothing else."""
    values = column.combine_chunks()
    kind = values.type
    if pt.is_nested(kind):
        values = pa.array([None if value is None else repr(value) for value in values.to_pylist()], pa.large_string())
    elif not (pt.is_string(kind) or pt.is_large_string(kind) or pt.is_binary(kind) or pt.is_fixed_size_binary(kind)):
        values = (values.cast(pa.int64()) if pt.is_temporal(kind) else values).cast(pa.large_string())
    return values.cast(pa.large_binary())


def _lengths(column: pa.LargeBinaryArray) -> pa.LargeStringArray:
    """How long each value is, as text; ``-`` for none."""
    found = pc.binary_length(column).cast(pa.large_string())
    return pc.fill_null(found, "-") if found.null_count else found


def _views(column: pa.LargeBinaryArray) -> Iterator[memoryview]:
    """The bytes of each value, none of which is null."""
    _, offsets, data = column.buffers()
    whole = memoryview(data or b"")
    ends = np.frombuffer(offsets, np.int64)[column.offset : column.offset + len(column) + 1].tolist()
    return (whole[start:end] for start, end in pairwise(ends))
