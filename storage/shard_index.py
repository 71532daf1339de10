"""The index of token shards: how many tokens every document has, known without opening a shard file.

``index.arrow`` lies beside the shard files: Arrow IPC, memory-mapped, one row a file, with the
lengths of its documents in their order. It is about 4 bytes a document, and all that is needed to
pack and to shuffle; a shard file is opened when one of its documents is read.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from storage.errors import SourceError

INDEX = "index.arrow"
Lengths = npt.NDArray[np.uint32]
Ints = npt.NDArray[np.int64]

_SCHEMA = pa.schema(
    [
        pa.field("file", pa.string(), nullable=False),
        pa.field("utf8_bytes", pa.int64(), nullable=False),
        pa.field("lengths", pa.large_list(pa.field("item", pa.uint32(), nullable=False)), nullable=False),
    ]
)


@dataclass(frozen=True)
class Index:
    """The documents of some shard files, file after file."""

    files: list[str]
    """Names, sorted."""
    utf8_bytes: Ints
    """(files) size of their documents' texts."""
    bounds: Ints
    """(files + 1) number of each file's first document."""
    lengths: Lengths
    """(documents) tokens, beginning and end tokens included."""

    @cached_property
    def starts(self) -> Ints:
        """(documents + 1) where each document's tokens begin, all files end to end."""
        return np.concatenate([[0], np.cumsum(self.lengths, dtype=np.int64)])

    def only(self, prefix: str) -> Index:
        """The part of the files whose names begin so."""
        chosen = [number for number, name in enumerate(self.files) if name.startswith(prefix)]
        if not chosen:
            return Index([], np.zeros(0, np.int64), np.zeros(1, np.int64), np.zeros(0, np.uint32))
        first, last = chosen[0], chosen[-1] + 1  # sorted names with a common beginning follow one another
        start, stop = self.bounds[first], self.bounds[last]
        bounds = self.bounds[first : last + 1] - start
        return Index(self.files[first:last], self.utf8_bytes[first:last], bounds, self.lengths[start:stop])


def index_of(files: Mapping[str, tuple[Sequence[int] | npt.NDArray[np.integer], int]]) -> Index:
    """The index of shard files, given the lengths of the documents of each, and the size of their texts."""
    names = sorted(files)
    lengths = [np.asarray(files[name][0], np.uint32) for name in names]
    return Index(
        files=names,
        utf8_bytes=np.array([files[name][1] for name in names], np.int64),
        bounds=np.concatenate([[0], np.cumsum([len(part) for part in lengths], dtype=np.int64)]).astype(np.int64),
        lengths=np.concatenate([np.zeros(0, np.uint32), *lengths]),
    )


def write_index(folder: Path, index: Index) -> None:
    """Write ``index.arrow``; the same index gives the same bytes."""
    lists = pa.LargeListArray.from_arrays(
        pa.array(index.bounds), pa.array(index.lengths, pa.uint32()), type=_SCHEMA.field("lengths").type
    )
    columns = [pa.array(index.files, pa.string()), pa.array(index.utf8_bytes), lists]
    folder.mkdir(parents=True, exist_ok=True)
    with pa.OSFile(str(folder / INDEX), "wb") as sink, pa.ipc.new_file(sink, _SCHEMA) as writer:
        writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=_SCHEMA))


def read_index(path: Path) -> Index:
    """Map an index. SourceError for what is none."""
    try:
        with pa.memory_map(str(path), "r") as source:
            batch = pa.ipc.open_file(source).get_batch(0)
        if batch.schema != _SCHEMA:
            raise SourceError(f"{path.name}: not an index of shards; run the step that made them again")
        lists = batch.column("lengths")
        bounds, lengths = lists.offsets.to_numpy(), lists.values.to_numpy()
    except (pa.ArrowInvalid, IndexError) as error:
        raise SourceError(f"{path.name}: not an index of shards ({error}); make the shards again") from error
    if (np.diff(bounds) < 0).any() or bounds[0] != 0 or bounds[-1] != len(lengths):
        raise SourceError(f"{path.name}: its documents do not add up; run the step that made the shards again")
    return Index(batch.column("file").to_pylist(), batch.column("utf8_bytes").to_numpy(), bounds, lengths)


def packed_lengths(lengths: Sequence[int] | npt.NDArray[np.integer]) -> str:
    """Lengths as text: base64 of little-endian 32-bit numbers."""
    return base64.b64encode(np.asarray(lengths).astype("<u4").tobytes()).decode()


def unpacked_lengths(text: str) -> Lengths:
    """What ``packed_lengths`` was given."""
    return np.frombuffer(base64.b64decode(text), "<u4").astype(np.uint32)
