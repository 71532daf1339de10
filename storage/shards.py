"""Token shards: documents as token ids in Arrow IPC files, memory-mapped, one row a document.

A file per split and document partition: ``train-00000.arrow``, ``validation-00000.arrow`` …; the
tokenizer that made the ids lies below ``tokenizer/``. Every document is stored with its beginning
and end tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from storage.artifact import Artifact, FileEntry, Manifest
from storage.errors import SourceError

if TYPE_CHECKING:
    from storage.tokenizer import Tokenizer

SplitName = Literal["train", "validation"]
TokenType = Literal["uint16", "uint32"]
Tokens = npt.NDArray[np.uint16] | npt.NDArray[np.uint32]

_ARROW_TYPES = {"uint16": pa.uint16(), "uint32": pa.uint32()}


def token_type(vocab_size: int) -> TokenType:
    """The narrowest type that holds every id of a vocabulary."""
    return "uint16" if vocab_size <= 2**16 else "uint32"


def shard_schema(dtype: TokenType) -> pa.Schema:
    """Columns of a shard file."""
    return pa.schema(
        [
            pa.field("id", pa.string(), nullable=False),
            pa.field("tokens", pa.large_list(pa.field("item", _ARROW_TYPES[dtype], nullable=False)), nullable=False),
            pa.field("utf8_bytes", pa.int64(), nullable=False),
        ]
    )


def write_shard(
    path: Path,
    ids: Sequence[str],
    token_arrays: Sequence[npt.NDArray[np.integer]],
    utf8_bytes: Sequence[int],
    dtype: TokenType,
) -> None:
    """Write one shard file; the same documents give the same bytes.

    ``token_arrays[i]`` holds the ids of document ``ids[i]``, its beginning and end tokens included;
    ``utf8_bytes[i]`` is the size of its text. Raises OverflowError for an id that ``dtype`` cannot hold.
    """
    if not len(ids) == len(token_arrays) == len(utf8_bytes):
        raise ValueError(f"{len(ids)} ids, {len(token_arrays)} token arrays and {len(utf8_bytes)} sizes do not match")
    offsets = np.zeros(len(ids) + 1, np.int64)
    np.cumsum([len(tokens) for tokens in token_arrays], out=offsets[1:])
    wide = np.concatenate(token_arrays) if len(token_arrays) else np.empty(0, np.int64)
    if wide.size and (wide.min() < 0 or wide.max() > np.iinfo(dtype).max):
        raise OverflowError(f"{path.name}: token ids {wide.min()} to {wide.max()} do not fit {dtype}")
    schema = shard_schema(dtype)
    tokens = pa.LargeListArray.from_arrays(
        pa.array(offsets), pa.array(wide.astype(dtype), _ARROW_TYPES[dtype]), type=schema.field("tokens").type
    )
    columns = [pa.array(ids, pa.string()), tokens, pa.array(utf8_bytes, pa.int64())]
    path.parent.mkdir(parents=True, exist_ok=True)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=schema))


@dataclass(frozen=True)
class ShardFile:
    """One memory-mapped shard file."""

    ids: pa.StringArray
    offsets: npt.NDArray[np.int64]
    """(documents + 1) where each document's tokens begin in ``values``."""
    values: Tokens
    """The tokens of all documents, end to end."""
    utf8_bytes: npt.NDArray[np.int64]

    @classmethod
    def open(cls, path: Path) -> ShardFile:
        """Map the file; nothing but its header is read. SourceError for what is no shard file."""
        try:
            table = pa.ipc.open_file(pa.memory_map(str(path), "r"))
            if table.num_record_batches != 1:
                raise SourceError(f"{path.name}: {table.num_record_batches} record batches; a shard file holds one")
            batch = table.get_batch(0)
            tokens = batch.column("tokens")
            offsets = tokens.offsets.to_numpy(zero_copy_only=True)
            return cls(
                ids=batch.column("id"),
                offsets=offsets,
                values=tokens.values.to_numpy(zero_copy_only=True),
                utf8_bytes=batch.column("utf8_bytes").to_numpy(zero_copy_only=True),
            )
        except (pa.ArrowInvalid, KeyError) as error:
            raise SourceError(f"{path.name}: not a shard file: {error}") from error

    @property
    def documents(self) -> int:
        return len(self.offsets) - 1

    def document(self, index: int) -> Tokens:
        """Tokens of one document of this file, as a view."""
        return self.values[self.offsets[index] : self.offsets[index + 1]]


class Split:
    """The documents of one split, in the order of files and rows."""

    def __init__(self, files: Sequence[ShardFile]) -> None:
        self.files = list(files)
        self._starts = np.concatenate([[0], np.cumsum([file.documents for file in self.files], dtype=np.int64)])

    @property
    def documents(self) -> int:
        return int(self._starts[-1])

    @property
    def tokens(self) -> int:
        """Beginning and end tokens included."""
        return sum(int(file.offsets[-1] - file.offsets[0]) for file in self.files)

    @property
    def utf8_bytes(self) -> int:
        """Size of the documents' texts."""
        return sum(int(file.utf8_bytes.sum()) for file in self.files)

    @cached_property
    def ids(self) -> list[str]:
        return [name for file in self.files for name in file.ids.to_pylist()]

    def document(self, index: int) -> Tokens:
        """Tokens of a document, beginning and end tokens included, as a view of the file."""
        if not 0 <= index < self.documents:
            raise IndexError(f"document {index} of {self.documents}")
        position = int(np.searchsorted(self._starts, index, side="right")) - 1
        return self.files[position].document(index - int(self._starts[position]))


class Shards(Artifact):
    """Token shards with a training and a validation split, and their tokenizer."""

    kind = "shards"

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer that made the ids."""
        from storage.tokenizer import Tokenizer

        prefix = "tokenizer/"
        files: dict[str, FileEntry] = {
            name.removeprefix(prefix): entry for name, entry in self.manifest.files.items() if name.startswith(prefix)
        }
        return Tokenizer(self.folder / "tokenizer", Manifest(kind=Tokenizer.kind, files=files))

    def split(self, name: SplitName) -> Split:
        """The split's documents; a split may be empty."""
        return Split([ShardFile.open(self.path(file)) for file in self.names(f"{name}-*.arrow")])
