"""Token files of other trainers: nanoGPT's ``.bin``, and Megatron's ``.bin`` with ``.idx``.

*nanoGPT* (karpathy/nanoGPT, ``data/openwebtext/prepare.py``): ids end to end, 16 bits each, the
end token behind every document, no header. ``train.bin`` and ``val.bin``.

*Megatron* (NVIDIA/Megatron-LM, ``megatron/core/datasets/indexed_dataset.py``): the ``.bin`` holds
ids end to end, the ``.idx`` says what they are. All numbers are little-endian::

    9 bytes    "MMIDIDX", 0, 0
    uint64     version, 1
    uint8      type of an id: 1 uint8, 2 int8, 3 int16, 4 int32, 5 int64, 8 uint16 (6, 7: floats)
    uint64     number S of sequences
    uint64     number D of document boundaries: documents + 1
    int32 [S]  tokens of each sequence
    int64 [S]  where it begins in the ``.bin``, in bytes
    int64 [D]  number of the sequence that each document begins with, and S
    int8  [S]  modes, where there are any

Files come from strangers: a count is believed only if the file is as long as it says.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from storage.errors import SourceError
from storage.shards import Shards, Split, Tokens

Ints = npt.NDArray[np.int64]
Ids = npt.NDArray[np.integer]
Format = Literal["nanogpt", "megatron"]

MAGIC = b"MMIDIDX\x00\x00"
VERSION = 1
_HEADER = struct.Struct("<9sQBQQ")
_TYPES = {1: "u1", 2: "i1", 3: "i2", 4: "i4", 5: "i8", 8: "u2"}
_LARGEST_OF_16_BITS = 65_500
"""Vocabularies from this size on take 32 bits in Megatron."""
_AT_ONCE = 1 << 22
"""Tokens that are looked through at a time."""


@dataclass(frozen=True)
class Range:
    """A part of a token file: the documents that begin in it."""

    start: int
    stop: int


class NanoGPTFile:
    """A ``.bin`` of nanoGPT, memory-mapped; a document is known by the place of its first token."""

    def __init__(self, path: Path, dtype: Literal["uint16", "uint32"], end: int) -> None:
        """``end`` is the token behind every document. Raises SourceError for a file that is none."""
        self.ids = _mapped(path, np.dtype(dtype))
        self._end = end

    def ranges(self, tokens: int) -> list[Range]:
        """The file in parts of about so many tokens."""
        return [Range(start, min(start + tokens, len(self.ids))) for start in range(0, len(self.ids), tokens)]

    def documents(self, part: Range) -> Iterator[tuple[int, list[Ids]]]:
        """Documents that begin in the part, as (place, their ids without the end token)."""
        start = 0 if part.start == 0 else self._after_end(part.start - 1)
        while start < part.stop:
            following = self._after_end(start)
            ends = self.ids[following - 1] == self._end
            yield start, [self.ids[start : following - 1 if ends else following]]
            start = following

    def _after_end(self, place: int) -> int:
        """The place behind the next end token from ``place`` on, or the file's end."""
        size = 256  # documents are mostly short; those that are not are looked through in longer and longer pieces
        while place < len(self.ids):
            found = np.flatnonzero(self.ids[place : place + size] == self._end)
            if len(found):
                return place + int(found[0]) + 1
            place, size = place + size, min(2 * size, _AT_ONCE)
        return len(self.ids)


class MegatronFile:
    """A ``.bin`` with its ``.idx``; a document is known by its number."""

    def __init__(self, path: Path) -> None:
        """``path`` is that of the ``.bin``. Raises SourceError for files that do not fit together."""
        index = path.with_suffix(".idx")
        self._lengths, self._pointers, self._bounds, dtype = _read_index(index)
        self._ids = _mapped(path, dtype)
        size = len(self._ids) * dtype.itemsize
        wrong = (self._lengths < 0) | (self._pointers < 0) | (self._pointers > size)
        wrong |= self._pointers % dtype.itemsize != 0
        wrong |= self._lengths > (size - self._pointers) // dtype.itemsize
        if wrong.any():
            number = int(np.flatnonzero(wrong)[0])
            raise SourceError(
                f"{index}: sequence {number} does not lie within {path.name}; the files do not belong together"
            )
        self._starts = self._pointers // dtype.itemsize

    def ranges(self, tokens: int) -> list[Range]:
        """The documents, in parts of about so many tokens."""
        ends = np.concatenate([[0], np.cumsum(self._lengths, dtype=np.int64)])[self._bounds[1:]]
        if not len(ends):
            return []
        edges = np.searchsorted(ends, np.arange(tokens, int(ends[-1]) + tokens, tokens), side="left") + 1
        edges = np.unique(np.concatenate([[0], np.minimum(edges, len(ends)), [len(ends)]])).tolist()
        return [Range(start, stop) for start, stop in pairwise(edges)]

    def documents(self, part: Range) -> Iterator[tuple[int, list[Ids]]]:
        """Documents in the part, as (number, ids of their sequences)."""
        for number in range(part.start, part.stop):
            sequences = range(int(self._bounds[number]), int(self._bounds[number + 1]))
            yield number, [self._ids[self._starts[s] : self._starts[s] + self._lengths[s]] for s in sequences]


def _mapped(path: Path, dtype: np.dtype[np.integer]) -> Ids:
    if not path.is_file():
        raise SourceError(f"{path}: there is no such file; correct the path")
    size = path.stat().st_size
    if size == 0 or size % dtype.itemsize:
        raise SourceError(f"{path}: {size:,} bytes are no {dtype.name} ids; is it complete, and of this type?")
    return np.memmap(path, dtype.newbyteorder("<"), mode="r")


def _read_index(path: Path) -> tuple[Ints, Ints, Ints, np.dtype[np.integer]]:
    """Lengths and pointers of the sequences, document boundaries, and the type of the ids."""
    if not path.is_file():
        raise SourceError(f"{path}: there is no such file; Megatron's .bin needs its .idx beside it")
    size = path.stat().st_size
    with path.open("rb") as file:
        header = file.read(_HEADER.size)
    if len(header) < _HEADER.size or not header.startswith(MAGIC):
        raise SourceError(f"{path}: not an index of Megatron's; only its memory-mapped datasets can be read")
    _, version, code, sequences, boundaries = _HEADER.unpack(header)
    if version != VERSION or code not in _TYPES:
        raise SourceError(f"{path}: version {version} with ids of type {code} is not known; make it with another one")
    needed = _HEADER.size + 12 * sequences + 8 * boundaries
    if size not in (needed, needed + sequences):
        raise SourceError(f"{path}: {size:,} bytes, but its header promises {needed:,}; copy it again")
    content = np.memmap(path, np.uint8, mode="r")
    lengths = np.frombuffer(content, "<i4", sequences, _HEADER.size)
    pointers = np.frombuffer(content, "<i8", sequences, _HEADER.size + 4 * sequences)
    bounds = np.frombuffer(content, "<i8", boundaries, _HEADER.size + 12 * sequences)
    # Sorted, and within range: differences of untrusted 64-bit numbers could wrap.
    if not boundaries or bounds[0] != 0 or bounds[-1] != sequences or (bounds[1:] < bounds[:-1]).any():
        raise SourceError(f"{path}: its documents do not add up to its {sequences:,} sequences; make it again")
    return lengths.astype(np.int64), pointers.astype(np.int64), bounds.astype(np.int64), np.dtype(_TYPES[code])


# Writing


def export_tokens(shards: Shards, folder: Path, form: Format) -> int:
    """Write the documents of both splits into a folder; returns the number of files.

    The beginning token is left out where it is another than the end token, and every document
    ends with the end token: as ``prepare.py`` of nanoGPT and Megatron's ``--append-eod`` do.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write, name = _WRITERS[form]
    begin = shards.tokenizer.bos_id
    made = 0
    for split, file in (("train", "train"), ("validation", name)):
        made += write(folder / file, shards.split(split), begin, shards.tokenizer.vocab_size)  # type: ignore[arg-type]
    return made


def _write_nanogpt(path: Path, split: Split, begin: int, vocabulary: int) -> int:
    dtype = np.dtype("<u2") if vocabulary <= 2**16 else np.dtype("<u4")
    _write_ids(path.with_suffix(".bin"), split, begin, dtype)
    return 1


def _write_megatron(path: Path, split: Split, begin: int, vocabulary: int) -> int:
    dtype, code = (np.dtype("<u2"), 8) if vocabulary < _LARGEST_OF_16_BITS else (np.dtype("<i4"), 4)
    lengths = np.array(_write_ids(path.with_suffix(".bin"), split, begin, dtype), np.int64)
    if len(lengths) and lengths.max() >= 2**31:
        raise SourceError(f"{path}: a document of {lengths.max():,} tokens is too long for Megatron's index")
    with path.with_suffix(".idx").open("wb") as file:
        file.write(_HEADER.pack(MAGIC, VERSION, code, len(lengths), len(lengths) + 1))
        file.write(lengths.astype("<i4").tobytes())
        file.write(((np.cumsum(lengths) - lengths) * dtype.itemsize).astype("<i8").tobytes())
        file.write(np.arange(len(lengths) + 1, dtype="<i8").tobytes())
    return 2


def _write_ids(path: Path, split: Split, begin: int, dtype: np.dtype[np.integer]) -> list[int]:
    """Write all documents end to end; returns their lengths."""
    lengths: list[int] = []
    with path.open("wb") as file:
        for shard in split.files:
            documents = [_without(begin, shard.document(number)) for number in range(shard.documents)]
            lengths += map(len, documents)
            for document in documents:
                file.write(document.astype(dtype).tobytes())
    return lengths


def _without(begin: int, document: Tokens) -> Tokens:
    return document[1:] if len(document) and document[0] == begin else document


_Writer = Callable[[Path, Split, int, int], int]
_WRITERS: dict[Format, tuple[_Writer, str]] = {
    "nanogpt": (_write_nanogpt, "val"),
    "megatron": (_write_megatron, "validation"),
}
FORMATS: Sequence[Format] = tuple(_WRITERS)
