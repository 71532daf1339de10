"""From documents to batches: sequences of packed documents, and the share of each training process.

How documents are cut and packed is told in ``model.data.packing``, the order of the sequences in
``model.data.order``. Tokens are handled as views of the files they lie in, and copied once, into the
batch.

    B sequences   T context, in tokens
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from model.data.packing import Ints, Packing
from model.network.sight import PADDING
from model.network.transformer import IGNORED

Tokens = npt.NDArray[np.integer]


@dataclass(frozen=True)
class Sequences:
    """Some training sequences, each of pieces of documents that have at most T inputs together."""

    pieces: Sequence[Tokens]
    """Consecutive tokens of one document each, sequence after sequence: the inputs, and one more, only predicted."""
    lengths: Ints
    """(pieces) number of inputs."""
    masked: Ints
    """(pieces) how many of the first predictions do not count."""
    bounds: Ints
    """(sequences + 1) where each sequence's pieces begin."""
    labels: Ints | None = None
    """(sequences) what class each one is of, where there are classes."""

    def __len__(self) -> int:
        return len(self.bounds) - 1

    def take(self, numbers: Sequence[int] | Ints | range) -> Sequences:
        """The sequences with these numbers, in this order."""
        chosen = np.asarray(numbers, np.int64)
        sizes = np.diff(self.bounds)[chosen]
        bounds = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        places = np.repeat(self.bounds[chosen] - bounds[:-1], sizes) + np.arange(bounds[-1])
        pieces = [self.pieces[place] for place in places.tolist()]
        labels = None if self.labels is None else self.labels[chosen]
        return Sequences(pieces, self.lengths[places], self.masked[places], bounds, labels)


def joined(parts: Sequence[Sequences]) -> Sequences:
    """The sequences of all parts, one part after the other."""
    if len(parts) == 1:
        return parts[0]
    sizes = [np.diff(part.bounds) for part in parts]
    labels = [part.labels for part in parts if part.labels is not None]
    return Sequences(
        pieces=list(itertools.chain.from_iterable(part.pieces for part in parts)),
        lengths=np.concatenate([np.zeros(0, np.int64), *(part.lengths for part in parts)]),
        masked=np.concatenate([np.zeros(0, np.int64), *(part.masked for part in parts)]),
        bounds=np.cumsum(np.concatenate([[0], *sizes])).astype(np.int64),
        labels=np.concatenate(labels) if labels else None,
    )


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
    rows_B: Tensor
    """int64, the number of each sequence in the endless order of the data: what is drawn at random (masks, dropout)
    follows from it, so that it is the same after a resume and on any number of processes."""
    labels_B: Tensor
    """int64, the class of each sequence, or IGNORED where it has none."""

    @property
    def predicted(self) -> int:
        """Number of predicted tokens."""
        return int((self.targets_BT != IGNORED).sum())

    def to(self, device: torch.device) -> Batch:
        return Batch(**{name: tensor.to(device, non_blocking=True) for name, tensor in vars(self).items()})


class Rows(Protocol):
    """Sequences that can be read in any order."""

    def __len__(self) -> int: ...

    @property
    def blocks(self) -> Ints:
        """(blocks + 1) where each block of sequences begins that is to be read as a whole."""

    def read(self, rows: Ints, places: Ints | None = None) -> Sequences:
        """The sequences with these numbers, in this order.

        ``places``: their numbers in the endless order of the data, by which anything of them that is
        drawn anew each time is drawn (default: ``rows``).
        """

    def expect(self, block: int) -> None:
        """Be told which block comes next."""

    def documents(self, rows: Ints) -> list[str]:
        """The ids of the documents that these sequences are of, each once."""


@dataclass(frozen=True)
class Text:
    """A document in memory, of which only the tokens from ``first`` on are to be predicted."""

    tokens: Tokens
    first: int = 1


class TextRows:
    """The sequences of documents held in memory, such as prompts with their responses."""

    def __init__(self, texts: Sequence[Text], context: int, ids: Sequence[str] | None = None) -> None:
        """``ids`` of the texts; None: their numbers stand for them."""
        self._texts = list(texts)
        self._ids = ids
        self._first = np.array([text.first for text in texts], np.int64)
        self._packing = Packing(np.array([len(text.tokens) for text in texts], np.int64), context)

    def __len__(self) -> int:
        return len(self._packing)

    @property
    def blocks(self) -> Ints:
        return np.array([0, len(self)], np.int64)

    def expect(self, block: int) -> None:
        """All is in memory already."""

    def documents(self, rows: Ints) -> list[str]:
        numbers = np.unique(self._packing.pieces(rows).documents).tolist()
        return [self._ids[number] if self._ids is not None else f"text {number}" for number in numbers]

    def read(self, rows: Ints, places: Ints | None = None) -> Sequences:
        """The sequences with these numbers, in this order."""
        found = self._packing.pieces(rows)
        pieces = zip(found.documents.tolist(), found.starts.tolist(), found.lengths.tolist(), strict=True)
        views = [self._texts[document].tokens[start : start + length + 1] for document, start, length in pieces]
        masked = np.clip(self._first[found.documents] - 1 - found.starts, 0, found.lengths)
        return Sequences(views, found.lengths, masked, found.bounds)


def collate(sequences: Sequences, context: int, first_row: int = 0) -> Batch:
    """One batch of the sequences; those of a single document come first, where attention is cheapest.

    ``first_row``: the number of the first of them in the order of the data; the others follow it.
    No sequences give one of padding alone, for a process that has nothing to do while others have.
    """
    shared = np.diff(sequences.bounds) > 1
    rows = first_row + np.arange(max(1, len(sequences)))
    if (shared[:-1] > shared[1:]).any():
        places = np.argsort(shared, kind="stable")
        sequences, rows = sequences.take(places), rows[places]
    lengths, bounds, count = sequences.lengths, sequences.bounds, len(sequences)
    if not count:
        lengths, bounds, count = np.zeros(0, np.int64), np.zeros(2, np.int64), 1
    padding = context - np.diff(np.concatenate([[0], np.cumsum(lengths)])[bounds])
    # Segments: the pieces of each sequence, and its padding behind them.
    of_piece = np.arange(len(lengths)) + np.repeat(np.arange(count), np.diff(bounds))
    of_padding = bounds[1:] + np.arange(count)
    sizes, numbers = np.empty((2, len(lengths) + count), np.int64)
    sizes[of_piece], sizes[of_padding] = lengths, padding
    numbers[of_piece] = np.arange(len(lengths)) - np.repeat(bounds[:-1], np.diff(bounds))
    numbers[of_padding] = PADDING
    ends = np.cumsum(sizes)
    # One array for all: small ones are given back to the system and have to be mapped anew every time.
    made = np.empty((4, count * context), np.int64)
    tokens, targets, documents, positions = made
    np.concatenate(_with_padding([piece[:-1] for piece in sequences.pieces], bounds, padding, context), out=tokens)
    targets[:-1] = tokens[1:]
    targets[ends[of_piece] - 1] = [piece[-1] for piece in sequences.pieces]
    documents[:] = np.repeat(numbers, sizes)
    np.subtract(np.arange(count * context), np.repeat(ends - sizes, sizes), out=positions)
    empty = documents == PADDING
    targets[empty], positions[empty] = IGNORED, 0
    if sequences.masked.any():
        masked = np.zeros(len(sizes), np.int64)
        masked[of_piece] = sequences.masked
        targets[positions < np.repeat(masked, sizes)] = IGNORED
    tokens_BT, targets_BT, documents_BT, positions_BT = torch.from_numpy(made).view(4, count, context).unbind()
    labels = np.full(count, IGNORED, np.int64) if sequences.labels is None or not len(sequences) else sequences.labels
    return Batch(tokens_BT, targets_BT, documents_BT, positions_BT, torch.from_numpy(rows), torch.from_numpy(labels))


def _with_padding(views: Sequence[Tokens], bounds: Ints, padding: Ints, context: int) -> list[Tokens]:
    """The views, and behind those of each sequence so many zeros."""
    zeros = np.zeros(context, np.int64)
    made: list[Tokens] = []
    for (start, stop), places in zip(itertools.pairwise(bounds.tolist()), padding.tolist(), strict=True):
        made += views[start:stop]
        made.append(zeros[:places])
    return made


def share(count: int, rank: int, processes: int, micro_batch: int) -> list[range]:
    """The micro-batches of one process, of a batch of ``count`` sequences, by their numbers in it.

    As many micro-batches for each process, of sizes that differ by one at most; some are empty
    where there are fewer sequences than processes.
    """
    largest = math.ceil(count / processes)
    return _parts_of(_parts_of(range(count), processes)[rank], math.ceil(largest / micro_batch))


def _parts_of(numbers: range, parts: int) -> list[range]:
    """Consecutive numbers in that many parts, sizes as equal as can be."""
    edges = [len(numbers) * part // parts for part in range(parts + 1)]
    return [numbers[start:stop] for start, stop in itertools.pairwise(edges)]
