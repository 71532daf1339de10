"""Packing documents into training sequences, by arithmetic on their lengths alone.

A document of n tokens is n - 1 predictions: every token after its first. It is cut, from its own
start, into pieces of ``context`` predictions and a shorter rest. A full piece is a row of its own;
rests are packed whole, best fit, longest first. So no prediction is lost or made twice, and what a
document scores depends on nothing that lies beside it.

Documents of one length are interchangeable, so what is packed is the histogram of lengths: a *kind*
of row (300 + 500 + 200 of 1,000 places) stands for as many rows as there are such documents. That
takes time by the number of different lengths instead of the number of documents, which makes it
possible to begin on millions of documents at once. (Krell et al. 2021, arXiv 2107.02027, pack
histograms too.)
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]

_RADIX = 1 << 16
"""NumPy sorts 16-bit numbers in linear time."""


@dataclass(frozen=True)
class Pieces:
    """What some rows are made of, row after row."""

    documents: Ints
    """(pieces) number of the document."""
    starts: Ints
    """(pieces) index of a piece's first input token in its document."""
    lengths: Ints
    """(pieces) number of input tokens."""
    bounds: Ints
    """(rows + 1) where each row's pieces begin."""


class Packing:
    """Which pieces of which documents make up each row.

    Memory: 4 bytes a document, 12 for one longer than the context. Time to make: linear in the
    documents, and about a microsecond for every different length of a rest.
    """

    def __init__(self, lengths: npt.NDArray[np.integer], context: int, room: Ints | None = None) -> None:
        """``lengths[i]`` is the number of tokens of document ``i``.

        ``room`` (rising, from 0): the places of a row that a piece of so many predictions takes, as far as it fits;
        None: as many.
        """
        self._lengths, self._longest = lengths, _longest(context, room)
        full, rest = _cut(lengths, self._longest)
        rest = rest if room is None else room[rest]
        self._whole = np.flatnonzero(full)
        self._whole_starts = _starts(full[self._whole])
        kinds = pack_lengths(np.bincount(rest, minlength=1), context)
        self._kind_starts = _starts(kinds.rows) + self._whole_starts[-1]
        self._kind_bounds = kinds.bounds
        # Documents by their rests; those without one come first and are left out.
        narrow = rest.astype(np.uint16) if context <= _RADIX else rest
        by_rest = np.argsort(narrow, kind="stable")
        self._by_rest = by_rest.astype(np.uint32) if len(lengths) < 2**32 else by_rest
        self._places = _places_of(kinds, np.bincount(rest, minlength=context))

    def __len__(self) -> int:
        return int(self._kind_starts[-1])

    def pieces(self, rows: Ints) -> Pieces:
        """The pieces of these rows, in the order of ``rows``."""
        whole = rows < self._whole_starts[-1]
        kinds = np.searchsorted(self._kind_starts, rows, side="right") - 1
        kinds[whole] = 0
        sizes = self._kind_bounds[kinds + 1] - self._kind_bounds[kinds] if len(self._kind_bounds) > 1 else kinds
        sizes = np.where(whole, 1, sizes)
        bounds = _starts(sizes)
        of_row = np.repeat(np.arange(len(rows)), sizes)
        documents, starts = np.empty(bounds[-1], np.int64), np.empty(bounds[-1], np.int64)
        lengths = np.full(bounds[-1], self._longest, np.int64)
        is_whole = whole[of_row]
        found = np.searchsorted(self._whole_starts, rows[whole], side="right") - 1
        documents[is_whole] = self._whole[found]
        starts[is_whole] = (rows[whole] - self._whole_starts[found]) * self._longest
        rests = np.flatnonzero(~is_whole)
        row = of_row[rests]
        slot = self._kind_bounds[kinds[row]] + (rests - bounds[row])
        chosen = self._by_rest[self._places[slot] + rows[row] - self._kind_starts[kinds[row]]]
        predictions = self._lengths[chosen].astype(np.int64) - 1
        documents[rests], lengths[rests] = chosen, predictions % self._longest
        starts[rests] = predictions - lengths[rests]
        return Pieces(documents, starts, lengths, bounds)


def count_rows(lengths: npt.NDArray[np.integer], context: int, room: Ints | None = None) -> int:
    """How many rows documents of these lengths are packed into."""
    full, rest = _cut(lengths, _longest(context, room))
    rest = rest if room is None else room[rest]
    return int(full.sum()) + int(pack_lengths(np.bincount(rest, minlength=1), context).rows.sum())


def _longest(context: int, room: Ints | None) -> int:
    """Predictions of a full piece."""
    return context if room is None else len(room) - 1


def _cut(lengths: npt.NDArray[np.integer], longest: int) -> tuple[Ints, Ints]:
    """Per document: the number of its full pieces, and of the predictions that remain."""
    return np.divmod(np.maximum(lengths.astype(np.int64) - 1, 0), longest)


def _starts(sizes: npt.NDArray[np.integer]) -> Ints:
    return np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)]).astype(np.int64)


@dataclass(frozen=True)
class Kinds:
    """Kinds of rows: those made of rests of the same lengths."""

    rows: Ints
    """(kinds) how many rows of this kind there are."""
    lengths: Ints
    """(slots) what they are made of, kind after kind, longest first."""
    bounds: Ints
    """(kinds + 1) where each kind's slots begin in ``lengths``."""


def pack_lengths(counts: npt.NDArray[np.integer], capacity: int) -> Kinds:
    """Pack ``counts[n]`` items of each length ``n > 0`` into rows of at most ``capacity``.

    Best fit, longest first: exactly what placing one item after the other gives, each into the
    fullest row that takes it.
    """
    packer = _Packer(capacity)
    for length in np.flatnonzero(counts)[::-1].tolist():
        if length:
            packer.place(length, int(counts[length]))
    return packer.kinds()


class _Packer:
    """Rows being filled, told apart only by the room left in them and by what they hold."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._rooms: list[int] = []
        """Different amounts of room > 0, sorted."""
        self._open: dict[int, list[tuple[int, int]]] = {}
        """Room left → (number of rows, node), those to be filled first at the end."""
        self._full: list[tuple[int, int]] = []
        self._nodes: list[tuple[int, int, int]] = [(-1, 0, 0)]
        """(node of what they held before, length added, how many times)."""

    def place(self, length: int, count: int) -> None:
        """Place so many items of a length, which is at most that of the items before."""
        while count:
            place = bisect.bisect_left(self._rooms, length)
            if place == len(self._rooms):
                room, rows, node = self._capacity, count, 0
            else:
                room = self._rooms[place]
                rows, node = self._open[room].pop()
                if not self._open[room]:
                    del self._rooms[place]
            # A row takes as many as fit before the next one is begun: it stays the fullest.
            times = room // length
            filled = min(rows, count // times)
            over = min(count - filled * times, times - 1) if filled < rows else 0
            left = rows - filled - (over > 0)
            if left and node:
                self._put(room, left, node)
            if filled:
                self._add(room, filled, node, length, times)
            if over:
                self._add(room, 1, node, length, over)
            count -= filled * times + over

    def _add(self, room: int, rows: int, node: int, length: int, times: int) -> None:
        self._nodes.append((node, length, times))
        self._put(room - length * times, rows, len(self._nodes) - 1)

    def _put(self, room: int, rows: int, node: int) -> None:
        if room == 0:
            self._full.append((rows, node))
            return
        known = self._open.setdefault(room, [])
        if not known:
            bisect.insort(self._rooms, room)
        known.append((rows, node))

    def kinds(self) -> Kinds:
        """The kinds of rows made, the fullest first."""
        made = self._full + [kind for room in self._rooms for kind in self._open[room]]
        slots: list[int] = []
        bounds = [0]
        for _, node in made:
            held: list[int] = []
            while node:
                node, length, times = self._nodes[node]
                held += [length] * times
            slots += held[::-1]
            bounds.append(len(slots))
        rows = [rows for rows, _ in made]
        return Kinds(np.array(rows, np.int64), np.array(slots, np.int64), np.array(bounds, np.int64))


def _places_of(kinds: Kinds, counts: Sequence[int] | Ints) -> Ints:
    """(slots) where the documents for each slot begin among all documents sorted by their rests.

    The rows of a kind take consecutive documents of a slot's length, one each.
    """
    rows_of_slot = np.repeat(kinds.rows, np.diff(kinds.bounds))
    by_length = np.argsort(kinds.lengths, kind="stable")
    taken = np.cumsum(rows_of_slot[by_length]) - rows_of_slot[by_length]
    # Every document with a rest is taken once, so the running total counts those of shorter rests too.
    places = np.empty(len(kinds.lengths), np.int64)
    places[by_length] = taken + int(counts[0])
    return places
