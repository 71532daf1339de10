"""Hashes of words that can be summed: what the hash of a run of words is made of (see :mod:`tasks.rules.runs`)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np

from storage.mixing import GOLDEN, mixed

BASE = np.uint64(GOLDEN)
_INVERSE = np.uint64(pow(GOLDEN, -1, 2**64))


def powers(count: int) -> tuple[np.ndarray, np.ndarray]:
    """B^0 … B^(count-1) (or more), and their inverses; uint64."""
    kept = 1 << max(16, count.bit_length())
    return _powers(kept) if kept <= _KEPT else _powers.__wrapped__(count)


_KEPT = 1 << 22
"""So many powers are kept for the next time, at most."""


@cache
def _powers(count: int) -> tuple[np.ndarray, np.ndarray]:
    made = np.full((2, count), [[BASE], [_INVERSE]], dtype=np.uint64)
    made[:, 0] = 1
    raised = np.multiply.accumulate(made, axis=1)
    return raised[0], raised[1]


def code_points_of(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """The code points of texts, one behind the other (uint32); where each text begins, and the end (int64)."""
    codes = np.frombuffer("".join(texts).encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    return codes, np.cumsum([0, *map(len, texts)], dtype=np.int64)


class Spelling:
    """Hashes of parts of a row of numbers: Σ_k c_k B^k over a part, c_k a random number for its k-th; uint64."""

    def __init__(self, codes: np.ndarray) -> None:
        raised, self._lowered = powers(len(codes) + 1)
        self._running = np.zeros(len(codes) + 1, np.uint64)
        np.cumsum(mixed(codes + BASE) * raised[: len(codes)], out=self._running[1:])

    def of(self, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
        """The hash of each part from a start up to an end."""
        return (self._running.take(ends) - self._running.take(starts)) * self._lowered.take(starts)


class Table:
    """Codes (uint64) → numbers (int64), by open addressing with steps of one."""

    def __init__(self) -> None:
        self._allocate(16)
        self._count = 0

    def _allocate(self, bits: int) -> None:
        self._shift, self._mask = np.uint64(64 - bits), (1 << bits) - 1
        self._codes, self._numbers = np.zeros(1 << bits, np.uint64), np.full(1 << bits, -1, np.int64)

    def _first_slots(self, codes: np.ndarray) -> np.ndarray:
        return (codes * BASE >> self._shift).view(np.int64)

    def find(self, codes: np.ndarray) -> np.ndarray:
        """The number of each code; -1 of one that is not here."""
        codes = np.maximum(codes, np.uint64(1))  # 0 stands for a free slot
        slots = self._first_slots(codes)
        there = self._codes.take(slots)
        astray = ((there != codes) & (there > 0)).nonzero()[0]
        while len(astray):
            slots[astray] = (slots[astray] + 1) & self._mask
            there = self._codes[slots[astray]]
            astray = astray[(there != codes[astray]) & (there > 0)]
        return self._numbers.take(slots)

    def add(self, codes: np.ndarray, numbers: np.ndarray) -> None:
        """Put in codes that are not here yet, each once."""
        self._count += len(codes)
        if 4 * self._count > len(self._codes):
            taken = self._codes > 0
            old, of_old = self._codes[taken], self._numbers[taken]
            self._allocate(max(16, (8 * self._count).bit_length()))
            self._put(old, of_old)
        self._put(np.maximum(codes, np.uint64(1)), numbers)

    def _put(self, codes: np.ndarray, numbers: np.ndarray) -> None:
        slots = self._first_slots(codes)
        while len(codes):
            free = self._codes[slots] == 0
            self._codes[slots[free]] = codes[free]
            placed = self._codes[slots] == codes
            self._numbers[slots[placed]] = numbers[placed]
            codes, numbers, slots = codes[~placed], numbers[~placed], (slots[~placed] + 1) & self._mask


def repeats(codes: np.ndarray, bounds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which codes (uint64) stood before in their segment, ascending, and the first that equals each; both indices.

    ``bounds``: where each segment begins, and the end.
    """
    # Every code writes its place into a slot, the first of a segment last. Who finds its own code there has found the
    # first of its kind; codes that another one has kept from their slot try again elsewhere.
    table = np.empty(_SLOTS_PER_REPEAT * len(codes), dtype=np.int64)
    first, astray = _leaders(codes, bounds, np.arange(len(codes)), codes, table)
    places, turn = astray, codes
    while len(places):
        turn = mixed(turn.take(astray))
        leaders, astray = _leaders(turn, np.searchsorted(places, bounds), places, codes.take(places), table)
        first[places] = leaders
        places = places.take(astray)
    again = (first != np.arange(len(codes))).nonzero()[0]
    return again, first.take(again)


def _leaders(
    turn: np.ndarray, bounds: np.ndarray, places: np.ndarray, codes: np.ndarray, table: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """For each code the first place written into its slot, and which codes have found another code's."""
    slots = _slots(turn, bounds, _SLOTS_PER_REPEAT)
    table[slots[::-1]] = np.arange(len(codes))[::-1]
    leaders = table.take(slots)
    return places.take(leaders), (codes.take(leaders) != codes).nonzero()[0]


def counts_at_least(codes: np.ndarray, bounds: np.ndarray) -> np.ndarray:
    """How often each code (uint64) occurs in its segment, or more often: those that share a slot count together."""
    slots = _slots(codes, bounds, _SLOTS_PER_COUNT)
    return np.bincount(slots).take(slots)


def _slots(codes: np.ndarray, bounds: np.ndarray, per_code: int) -> np.ndarray:
    """A slot of a table for each code, by its upper half; int64.

    Every segment has a part of the table to itself, so that look-ups stay within a processor's innermost cache.
    """
    counts = np.diff(bounds)
    sizes, begins = (values.astype(np.uint64) * np.uint64(per_code) for values in (counts, bounds[:-1]))
    made = codes >> _HALF
    made *= np.repeat(sizes, counts)
    made >>= _HALF
    made += np.repeat(begins, counts)
    return made.view(np.int64)


_SLOTS_PER_REPEAT, _SLOTS_PER_COUNT = 4, 4
_HALF = np.uint64(32)
