"""From documents to batches: packing, order, and the share of each training process.

A document of n tokens is n - 1 predictions: every token after its first. It is cut, from its own
start, into pieces of at most ``context`` predictions, and pieces are packed whole into sequences
(best fit, longest first, within a shard file). So no prediction is lost or made twice, and what a
document scores depends on nothing that lies beside it.

The order of the sequences is a pure function of (seed, shards, sequences drawn so far): each pass
over the data permutes them anew by arithmetic on their index. The world's size does not enter.

    B sequences   T context, in tokens
"""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from model.transformer import IGNORED, PADDING
from storage.shards import Split

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Piece:
    """Consecutive tokens of one document."""

    tokens: npt.NDArray[np.integer]
    """The inputs, and one more token, which is only predicted."""
    masked: int = 0
    """How many of the first predictions do not count."""


Row = list[Piece]
"""A sequence: pieces of at most T inputs together."""


@dataclass(frozen=True)
class Batch:
    """Sequences of packed documents, as the network takes them."""

    tokens_BT: Tensor
    """int64 ids."""
    targets_BT: Tensor
    """int64 ids to be predicted, or IGNORED."""
    documents_BT: Tensor
    """int64, equal for the positions of one document; PADDING after the last."""
    positions_BT: Tensor
    """int64, from 0 in each document."""

    @property
    def predicted(self) -> int:
        """Number of predicted tokens."""
        return int((self.targets_BT != IGNORED).sum())

    def to(self, device: torch.device) -> Batch:
        return Batch(
            self.tokens_BT.to(device, non_blocking=True),
            self.targets_BT.to(device, non_blocking=True),
            self.documents_BT.to(device, non_blocking=True),
            self.positions_BT.to(device, non_blocking=True),
        )


class Rows(Protocol):
    """Sequences that can be read in any order."""

    def __len__(self) -> int: ...

    def row(self, index: int) -> Row: ...


@dataclass(frozen=True)
class Packing:
    """Which pieces of which documents make up each sequence."""

    documents: Ints
    """(pieces) the document of each piece, sequence after sequence."""
    starts: Ints
    """(pieces) index of a piece's first input token in its document."""
    lengths: Ints
    """(pieces) number of input tokens."""
    sequences: Ints
    """(sequences + 1) where each sequence's pieces begin."""


def pack(predictions: Ints, context: int) -> Packing:
    """Cut documents of that many predictions into pieces and pack them into sequences.

    Full pieces come first, in the order of their documents; then the rests, best fit, longest
    first. Time: O(documents x log), memory: O(pieces).
    """
    full, rest = predictions // context, predictions % context
    whole_documents = np.repeat(np.arange(len(predictions)), full)
    index_in_document = np.arange(len(whole_documents)) - np.repeat(np.cumsum(full) - full, full)
    bins = _best_fit(rest, context)
    rest_documents = np.array([document for contents in bins for document in contents], np.int64)
    bin_sizes = np.array([len(contents) for contents in bins], np.int64)
    sizes = np.concatenate([np.ones(len(whole_documents), np.int64), bin_sizes])
    return Packing(
        documents=np.concatenate([whole_documents, rest_documents]),
        starts=np.concatenate([index_in_document * context, full[rest_documents] * context]),
        lengths=np.concatenate([np.full(len(whole_documents), context), rest[rest_documents]]),
        sequences=np.concatenate([[0], np.cumsum(sizes)]),
    )


def _best_fit(lengths: Ints, capacity: int) -> list[list[int]]:
    """Indices of the lengths > 0, in bins of at most ``capacity``: each into the fullest bin that takes it."""
    bins: list[list[int]] = []
    by_room: list[tuple[int, int]] = []  # (room left, bin), sorted
    for index in np.argsort(-lengths, kind="stable"):
        length = int(lengths[index])
        if length == 0:
            break
        place = bisect.bisect_left(by_room, (length, -1))
        if place == len(by_room):
            room, chosen = capacity, len(bins)
            bins.append([])
        else:
            room, chosen = by_room.pop(place)
        bins[chosen].append(int(index))
        bisect.insort(by_room, (room - length, chosen))
    return bins


class ShardRows:
    """The sequences of a split: packed within each shard file, file after file."""

    def __init__(self, split: Split, context: int) -> None:
        self._files = split.files
        self._packings = [pack(np.maximum(np.diff(file.offsets) - 1, 0), context) for file in split.files]
        self._starts = np.cumsum([0] + [len(packing.sequences) - 1 for packing in self._packings])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def row(self, index: int) -> Row:
        number = int(np.searchsorted(self._starts, index, side="right")) - 1
        file, packing = self._files[number], self._packings[number]
        local = index - int(self._starts[number])
        pieces = range(int(packing.sequences[local]), int(packing.sequences[local + 1]))
        row: Row = []
        for piece in pieces:
            start = int(file.offsets[packing.documents[piece]] + packing.starts[piece])
            row.append(Piece(file.values[start : start + int(packing.lengths[piece]) + 1]))
        return row


@dataclass(frozen=True)
class Text:
    """A document in memory, of which only the tokens from ``first`` on are to be predicted."""

    tokens: npt.NDArray[np.integer]
    first: int = 1


class TextRows:
    """The sequences of documents held in memory, such as prompts with their responses."""

    def __init__(self, texts: Sequence[Text], context: int) -> None:
        self._texts = list(texts)
        self._packing = pack(np.array([max(len(text.tokens) - 1, 0) for text in texts], np.int64), context)

    def __len__(self) -> int:
        return len(self._packing.sequences) - 1

    def row(self, index: int) -> Row:
        packing = self._packing
        row: Row = []
        for piece in range(int(packing.sequences[index]), int(packing.sequences[index + 1])):
            text, start, length = self._texts[packing.documents[piece]], packing.starts[piece], packing.lengths[piece]
            masked = int(np.clip(text.first - 1 - start, 0, length))
            row.append(Piece(text.tokens[start : start + length + 1], masked))
        return row


def collate(rows: Sequence[Row], context: int) -> Batch:
    """One batch of the rows; those of a single document come first, where attention is cheapest.

    No rows give one of padding alone, for a process that has nothing to do while others have.
    """
    rows = sorted(rows, key=lambda row: len(row) > 1)
    shape = (max(len(rows), 1), context)
    tokens_BT, positions_BT = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    targets_BT, documents_BT = np.full(shape, IGNORED, np.int64), np.full(shape, PADDING, np.int64)
    for b, row in enumerate(rows):
        t = 0
        for number, piece in enumerate(row):
            length = len(piece.tokens) - 1
            span = slice(t, t + length)
            tokens_BT[b, span] = piece.tokens[:-1]
            targets_BT[b, span] = piece.tokens[1:]
            targets_BT[b, t : t + piece.masked] = IGNORED
            documents_BT[b, span] = number
            positions_BT[b, span] = np.arange(length)
            t += length
    return Batch(*(torch.from_numpy(array) for array in (tokens_BT, targets_BT, documents_BT, positions_BT)))


def mixed(value: Ints | int, key: int) -> npt.NDArray[np.uint64]:
    """A hash of integers to 64 bits (the finaliser of splitmix64, Steele et al. 2014)."""
    with np.errstate(over="ignore"):
        z = np.asarray(value).astype(np.uint64) + np.uint64(key % 2**64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def permuted(indices: Ints, size: int, key: int) -> Ints:
    """Where a keyed permutation of range(size) sends each index.

    A Feistel network over the next even number of bits, walked until it falls inside the range
    (Black and Rogaway 2002): no table, and the same on every version of every library.
    """
    half = max(1, ((size - 1).bit_length() + 1) // 2)
    low = np.uint64((1 << half) - 1)
    values = np.asarray(indices).astype(np.uint64)
    outside = np.ones(len(values), bool)
    while outside.any():
        left, right = values[outside] >> np.uint64(half), values[outside] & low
        for turn in range(4):
            left, right = right, left ^ (mixed(right.astype(np.int64), key * 4 + turn + 1) & low)
        values[outside] = (left << np.uint64(half)) | right
        outside = values >= size
    return values.astype(np.int64)


class Order:
    """The endless sequence of training rows, drawn from one or several parts in proportion to their weights."""

    def __init__(self, parts: Sequence[Rows], weights: Sequence[float], seed: int) -> None:
        if not parts or any(len(part) == 0 for part in parts):
            raise ValueError("every part must hold at least one sequence")
        self._parts = list(parts)
        self._bounds = np.cumsum(np.asarray(weights, np.float64)) / float(np.sum(weights))
        self._seed = seed
        self._drawn = np.zeros(len(parts), np.int64)
        self._position = 0

    def rows(self, start: int, count: int) -> list[Row]:
        """Rows ``start`` to ``start + count`` of the sequence."""
        return [self._parts[part].row(index) for part, index in self.places(start, count)]

    def places(self, start: int, count: int) -> list[tuple[int, int]]:
        """For each of these rows, its part and its index in that part."""
        self._seek(start)
        chosen = self._choose(np.arange(start, start + count))
        indices = np.empty(count, np.int64)
        for part in np.unique(chosen).tolist():
            mine, size = np.flatnonzero(chosen == part), len(self._parts[part])
            epochs, within = np.divmod(self._drawn[part] + np.arange(len(mine)), size)
            for epoch in np.unique(epochs).tolist():
                key = int(mixed(epoch, self._seed * 1_000_003 + part))
                indices[mine[epochs == epoch]] = permuted(within[epochs == epoch], size, key)
            self._drawn[part] += len(mine)
        self._position = start + count
        return list(zip(chosen.tolist(), indices.tolist(), strict=True))

    def _choose(self, numbers: Ints) -> Ints:
        """The part of each row: multiples of the golden ratio, so that shares hold in every stretch."""
        if len(self._parts) == 1:
            return np.zeros(len(numbers), np.int64)
        with np.errstate(over="ignore"):
            turned = mixed(0, self._seed) + numbers.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        return np.minimum(np.searchsorted(self._bounds, turned / 2.0**64, side="right"), len(self._parts) - 1)

    def _seek(self, position: int) -> None:
        """Count how many rows each part has given before ``position``."""
        if position < self._position:
            self._drawn[:], self._position = 0, 0
        block = 1 << 20
        for start in range(self._position, position, block):
            chosen = self._choose(np.arange(start, min(start + block, position)))
            self._drawn += np.bincount(chosen, minlength=len(self._parts))
        self._position = position


def share(rows: Sequence[Row], rank: int, processes: int, micro_batch: int) -> list[list[Row]]:
    """The micro-batches of one process: the same number for each, sizes that differ by one at most.

    Some are empty where there are fewer rows than processes.
    """
    largest = math.ceil(len(rows) / processes)
    return _parts_of(_parts_of(rows, processes)[rank], math.ceil(largest / micro_batch))


def _parts_of(rows: Sequence[Row], parts: int) -> list[list[Row]]:
    """Consecutive rows in that many parts, sizes as equal as can be."""
    edges = [len(rows) * part // parts for part in range(parts + 1)]
    return [list(rows[start:stop]) for start, stop in itertools.pairwise(edges)]
