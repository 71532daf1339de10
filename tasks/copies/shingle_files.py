"""The 5-grams of the documents that have to be compared, on disk: 8 bytes a word."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from storage.artifact import JsonValue
from storage.corpus import Documents, read_table
from storage.identity import digest_of_bytes, digest_of_value
from storage.mixing import Hashes
from tasks.copies.characters import Positions
from tasks.copies.shingles import shingles_of
from tasks.task import Context, Guard

_ABSENT = -1


@dataclass
class Shingles:
    """The sorted distinct 5-grams of some documents, memory-mapped."""

    documents: Documents
    folder: Path
    _values: list[Hashes] = field(default_factory=list)
    """Of each file, all 5-grams end to end."""
    _file: Positions = field(init=False)
    """Of each document, by number, the file that it lies in; -1 for those that were not made."""
    _starts: Positions = field(init=False)
    _ends: Positions = field(init=False)

    def __post_init__(self) -> None:
        total = self.documents.rows
        self._file = np.full(total, _ABSENT, np.int64)
        self._starts, self._ends = np.zeros(total, np.int64), np.zeros(total, np.int64)

    def make(self, wanted: Positions, context: Context) -> None:
        """Make those of the documents with these ascending numbers, in worker processes, if they are not there."""
        wanted = wanted[self._file[wanted] == _ABSENT]
        # Each time a folder of its own: files made before are in use.
        folder = self.folder / f"{len(self._values):06}"
        folder.mkdir(parents=True, exist_ok=True)
        partitions, rows, start = [], [], 0
        for partition in self.documents.partitions:
            behind = start + partition.size.rows
            here = wanted[slice(*np.searchsorted(wanted, (start, behind)))]
            if here.size:
                np.save(folder / f"{partition.name}.rows.npy", here - start)
                # What is made of a partition depends on the rows that are wanted, too.
                digest = digest_of_value([partition.digest, digest_of_bytes((here - start).tobytes())])
                partitions.append(replace(partition, digest=digest))
                rows.append(here)
            start = behind
        made = context.map_partitions(make_shingles, folder, partitions, output=folder, remembered=False)
        for numbers, result in zip(rows, made, strict=True):
            (path,) = result.files.values()
            column = pa.ipc.open_file(pa.memory_map(str(path), "r")).get_batch(0).column("shingles")
            ends = column.offsets.to_numpy()
            self._file[numbers] = len(self._values)
            self._starts[numbers], self._ends[numbers] = ends[:-1], ends[1:]
            self._values.append(column.values.to_numpy())

    def has(self, document: int) -> bool:
        """Whether they were made."""
        return bool(self._file[document] != _ABSENT)

    def sizes_of(self, documents: Sequence[int]) -> Positions:
        """How many each of these has."""
        sizes: Positions = self._ends[documents] - self._starts[documents]
        return sizes

    def of(self, document: int) -> Hashes:
        """Those of the document with this number, sorted."""
        values: Hashes = self._values[self._file[document]][self._starts[document] : self._ends[document]]
        return values


def make_shingles(folder: Path, source: Path, output: Path, guard: Guard) -> dict[str, JsonValue]:
    """Write the 5-grams of the rows that are wanted."""
    rows = np.load(folder / f"{output.name}.rows.npy")
    sets = shingles_of(read_table(source, ["text"])["text"].take(pa.array(rows)).to_pylist())
    ends = np.cumsum([0, *map(len, sets)])
    column = pa.LargeListArray.from_arrays(pa.array(ends), pa.array(np.concatenate([*sets, np.empty(0, np.uint64)])))
    batch = pa.record_batch({"shingles": column})
    path = output.with_suffix(".shingles.arrow")
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return {}
