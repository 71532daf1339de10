"""Pairs of segments to tell apart: what follows in a document, and what is from another one.

A document is cut into an even number of segments of equal length, so that two of them fill a
sequence at most: ``<s> A </s> B </s>``. Each two neighbours are a sequence; in half of the cases,
drawn by its number in the order of the data, B is replaced by a stretch of the same length from
another document (Devlin et al. 2019, section 3.1, "Next Sentence Prediction"). So neither the
length nor the place of a segment tells the answer.
"""

from __future__ import annotations

import numpy as np

from model.data.batches import Sequences, Tokens
from model.data.order import keyed
from model.data.packing import Ints
from storage.shards import Split

IS_NEXT, IS_OTHER = 0, 1
"""The classes, with the numbers that BERT's have in ``transformers``."""
_LEAST = 8
"""Tokens of a document that is cut into segments; shorter ones are left out."""
_DRAWS = 8
"""How often another document is drawn where the one before was too short."""


class PairRows:
    """The pairs of a split."""

    def __init__(self, split: Split, context: int, bos: int, eos: int, seed: int) -> None:
        """``context``: tokens of a sequence, at least 5."""
        self._split, self._bos, self._eos, self._seed = split, bos, eos, seed
        self._sizes = np.maximum(split.lengths.astype(np.int64) - 2, 0)  # without the beginning and the end token
        longest = (context - 3) // 2
        pairs = np.where(self._sizes >= _LEAST, -(-self._sizes // (2 * longest)), 0)
        self._documents = np.flatnonzero(pairs)
        if len(self._documents) < 2:  # there is no other document to draw from
            self._documents = self._documents[:0]
        self._pairs = pairs[self._documents]
        self._ends = np.cumsum(self._pairs)

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    @property
    def blocks(self) -> Ints:
        return np.array([0, len(self)], np.int64)

    def expect(self, block: int) -> None:
        """All documents are in reach: another one may be drawn from anywhere."""

    def documents(self, rows: Ints) -> list[str]:
        """The ids of the documents whose segments come first, each once."""
        at = np.searchsorted(self._ends, rows, side="right")
        return self._split.ids_of(np.unique(self._documents[at]))

    def read(self, rows: Ints, places: Ints | None = None) -> Sequences:
        """The pairs with these numbers; ``places`` in the order of the data say what is drawn for them."""
        places = rows if places is None else places
        at = np.searchsorted(self._ends, rows, side="right")
        pair, parts = rows - (self._ends[at] - self._pairs[at]), 2 * self._pairs[at]
        sizes = self._sizes[self._documents[at]]
        begin, middle, end = (sizes * (2 * pair + turn) // parts for turn in range(3))
        labels = np.where(keyed(places, self._seed * 4 + 1) & np.uint64(1) == 0, IS_NEXT, IS_OTHER)
        others, starts, lengths = self._drawn(at, end - middle, places)
        is_next = labels == IS_NEXT
        of_b = np.where(is_next, at, others)
        start_b, length_b = np.where(is_next, middle, starts), np.where(is_next, end - middle, lengths)
        first = self._split.pieces(self._documents[at], begin + 1, middle - begin)
        second = self._split.pieces(self._documents[of_b], start_b + 1, length_b)
        pieces = [self._joined(a, b) for a, b in zip(first, second, strict=True)]
        return Sequences(
            pieces=pieces,
            lengths=np.array([len(piece) - 1 for piece in pieces], np.int64),
            masked=np.zeros(len(pieces), np.int64),
            bounds=np.arange(len(pieces) + 1),
            labels=labels,
        )

    def _joined(self, a: Tokens, b: Tokens) -> Tokens:
        """``<s> A </s> B </s>``, and one more that is no input."""
        end = [self._eos]
        return np.concatenate([[self._bos], a, end, b, end, end]).astype(np.int64)

    def _drawn(self, at: Ints, wanted: Ints, places: Ints) -> tuple[Ints, Ints, Ints]:
        """For each pair, another document, and a stretch of it of the wanted length: document, start, length."""
        count = len(self._documents)
        others = at.copy()
        short = np.ones(len(at), np.bool_)
        for turn in range(_DRAWS):
            drawn = (keyed(places, self._seed * 64 + 8 + turn) % np.uint64(max(count - 1, 1))).astype(np.int64)
            drawn += drawn >= at  # any but its own
            others = np.where(short, drawn, others)
            short = self._sizes[self._documents[others]] < wanted
            if not short.any():
                break
        sizes = self._sizes[self._documents[others]]
        lengths = np.minimum(wanted, sizes)
        room = (sizes - lengths + 1).astype(np.uint64)
        return others, (keyed(places, self._seed * 4 + 2) % room).astype(np.int64), lengths
