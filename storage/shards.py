"""Token shards: documents as token ids in Arrow IPC files, memory-mapped, one row a document.

A file per split and document partition: ``train-00000.arrow``, ``validation-00000.arrow`` …, and
``index.arrow``, which knows the lengths of all documents; the tokenizer that made the ids lies
below ``tokenizer/``. Every document is stored with its beginning and end tokens.
"""

from __future__ import annotations

import os
import random
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from storage.artifact import STORED, Artifact, FileEntry, Manifest, Stored
from storage.errors import SourceError
from storage.shard_index import INDEX, Index, Ints, index_of, read_index
from storage.stored import StoredFile

if TYPE_CHECKING:
    from storage.tokenizer import Tokenizer

SplitName = Literal["train", "validation"]
TokenType = Literal["uint16", "uint32"]
Tokens = npt.NDArray[np.uint16] | npt.NDArray[np.uint32]

_MOST_OPEN = 16_384
"""Files mapped at a time: a quarter of what Linux allows a process by default."""
_FETCHED_AT_ONCE = 8
"""Files of a remote store."""
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
            # Closed, it stays mapped for as long as it is used, and needs no file descriptor.
            with pa.memory_map(str(path), "r") as source:
                table = pa.ipc.open_file(source)
                if table.num_record_batches != 1:
                    raise SourceError(f"{path.name}: {table.num_record_batches} record batches; a shard file holds one")
                batch = table.get_batch(0)
            tokens = batch.column("tokens")
            offsets, values = tokens.offsets.to_numpy(zero_copy_only=True), tokens.values.to_numpy(zero_copy_only=True)
            if offsets[0] != 0 or offsets[-1] > len(values) or (np.diff(offsets) < 0).any():
                raise SourceError(f"{path.name}: not a shard file: its documents do not add up")
            return cls(
                ids=batch.column("id"),
                offsets=offsets,
                values=values,
                utf8_bytes=batch.column("utf8_bytes").to_numpy(zero_copy_only=True),
            )
        except (pa.ArrowInvalid, KeyError) as error:
            raise SourceError(f"{path.name}: not a shard file: {error}") from error

    @property
    def documents(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """(documents) tokens of each."""
        return np.diff(self.offsets)

    def document(self, index: int) -> Tokens:
        """Tokens of one document of this file, as a view."""
        return self.values[self.offsets[index] : self.offsets[index + 1]]


class Split:
    """The documents of one split, in the order of files and rows.

    How many there are, and of how many tokens, is known from the index; a file is opened when a
    document of it is read. Of very many files the one opened longest ago is closed again. Files of a
    remote store are fetched side by side.
    """

    def __init__(self, index: Index, path_of: Callable[[str], Path], remote: int = 0, size: int = 0) -> None:
        """``path_of`` gives the local path of a file by its name, ``size`` the files' bytes.

        ``remote``: how many bytes of a remote store's files the local disk is to hold; 0 for local files.
        """
        self.index = index
        self.remote, self.bytes = remote, size
        self._path_of = path_of
        self._values: list[Tokens | None] = [None] * len(index.files)
        self._opened: deque[int] = deque()
        self._coming: dict[int, Future[Tokens]] = {}

    @property
    def documents(self) -> int:
        return len(self.index.lengths)

    @property
    def tokens(self) -> int:
        """Beginning and end tokens included."""
        return int(self.index.lengths.sum(dtype=np.int64))

    @property
    def utf8_bytes(self) -> int:
        """Size of the documents' texts."""
        return int(self.index.utf8_bytes.sum())

    @property
    def lengths(self) -> npt.NDArray[np.uint32]:
        """(documents) tokens of each."""
        return self.index.lengths

    @property
    def files(self) -> Iterator[ShardFile]:
        """Every file, opened one after the other."""
        return (self._file(number) for number in range(len(self.index.files)))

    @cached_property
    def ids(self) -> list[str]:
        return [name for file in self.files for name in file.ids.to_pylist()]

    def ids_of(self, documents: Ints) -> list[str]:
        """The ids of these documents; only the files that hold them are opened."""
        files = np.searchsorted(self.index.bounds, documents, side="right") - 1
        opened = {number: self._file(number).ids for number in np.unique(files).tolist()}
        places = zip(files.tolist(), (documents - self.index.bounds[files]).tolist(), strict=True)
        return [opened[file][place].as_py() for file, place in places]

    def document(self, index: int) -> Tokens:
        """Tokens of a document, beginning and end tokens included, as a view of the file."""
        if not 0 <= index < self.documents:
            raise IndexError(f"document {index} of {self.documents}")
        return self.pieces(*(np.array([number], np.int64) for number in (index, 0, self.lengths[index])))[0]

    def pieces(self, documents: Ints, starts: Ints, lengths: Ints) -> list[Tokens]:
        """Of each of these documents so many tokens from a start on, as views of the files."""
        bounds, where = self.index.bounds, self.index.starts
        files = np.searchsorted(bounds, documents, side="right") - 1
        begin = where[documents] - where[bounds[files]] + starts
        values = self._values
        if self.remote:
            self._fetch(np.unique(files).tolist())
        made = []
        for file, start, stop in zip(files.tolist(), begin.tolist(), (begin + lengths).tolist(), strict=True):
            tokens = values[file]
            made.append((self._open(file) if tokens is None else tokens)[start:stop])
        return made

    def prefetch(self, files: Sequence[int]) -> None:
        """Begin to fetch these files, by their numbers; nothing for local ones."""
        wanted = [number for number in files if self._values[number] is None and number not in self._coming]
        if self.remote:
            # Processes that fetch the same files each begin at others, and find what the others have fetched.
            random.Random(os.getpid()).shuffle(wanted)  # noqa: S311
            self._coming |= {number: self._background.submit(self._load, number) for number in wanted}

    def release(self, files: Sequence[int]) -> None:
        """Close these files; their copies may make room for others."""
        gone = set(files)
        for number in gone:
            self._values[number] = None
            if (coming := self._coming.pop(number, None)) is not None:
                coming.cancel()
        self._opened = deque(number for number in self._opened if number not in gone)

    def _fetch(self, files: Sequence[int]) -> None:
        """Open these files, all of them fetched at a time; what was to be fetched later comes first now."""
        missing = [number for number in files if self._values[number] is None]
        coming: dict[int, Future[Tokens]] = {}
        for number in missing:
            begun = self._coming.pop(number, None)
            coming[number] = self._urgent.submit(self._load, number) if begun is None or begun.cancel() else begun
        for number, future in coming.items():
            self._keep(number, future.result())

    @cached_property
    def _background(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(_FETCHED_AT_ONCE, thread_name_prefix="prefetch")

    @cached_property
    def _urgent(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(_FETCHED_AT_ONCE, thread_name_prefix="fetch")

    def _load(self, number: int) -> Tokens:
        return self._file(number).values

    def _open(self, number: int) -> Tokens:
        return self._keep(number, self._load(number))

    def _keep(self, number: int, values: Tokens) -> Tokens:
        if len(self._opened) >= _MOST_OPEN:
            self._values[self._opened.popleft()] = None
        self._values[number] = values
        self._opened.append(number)
        return values

    def _file(self, number: int) -> ShardFile:
        name = self.index.files[number]
        file = ShardFile.open(self._path_of(name))
        known = self.index.lengths[self.index.bounds[number] : self.index.bounds[number + 1]]
        if not np.array_equal(file.lengths, known):
            raise SourceError(f"{name}: other documents than {INDEX} says; make the shards again")
        return file


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

    @cached_property
    def index(self) -> Index:
        """The documents of both splits; of shards that came without an index, by opening every file."""
        names = self.names("*.arrow")
        if INDEX not in names:
            return index_of_files({name: self.path(name) for name in names})
        index = read_index(self.path(INDEX))
        if index.files != [name for name in names if name != INDEX]:
            raise SourceError(f"{INDEX}: it lists other files than there are; make the shards again")
        return index

    def split(self, name: SplitName) -> Split:
        """The split's documents; a split may be empty."""
        index = self.index.only(f"{name}-")
        size = sum(self.manifest.files[file].bytes for file in index.files)
        return Split(index, self.path, self._stored.cache_limit if self._stored else 0, size)

    def path(self, name: str) -> Path:
        """Local path of the file called ``name``, fetched now if it is a remote store's."""
        if self._stored is None or not self.is_fetched_later(name):
            return super().path(name)
        entry = self.manifest.files[name]
        return StoredFile(self._stored.url, self._stored.cache, self._stored.cache_limit, entry).path()

    @cached_property
    def _stored(self) -> Stored | None:
        path = self.folder / STORED
        return Stored.model_validate_json(path.read_text(encoding="utf-8")) if path.is_file() else None

    @classmethod
    def is_fetched_later(cls, name: str) -> bool:
        """Tokens are; what says how many there are, and the tokenizer, are small and needed at once."""
        return name.endswith(".arrow") and name != INDEX and "/" not in name


def index_of_files(paths: Mapping[str, Path]) -> Index:
    """The index of shard files, by opening each."""
    files = {name: ShardFile.open(path) for name, path in paths.items()}
    return index_of({name: (file.lengths, int(file.utf8_bytes.sum())) for name, file in files.items()})
