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


def spellings(words: Sequence[str]) -> np.ndarray:
    """Σ_k c_k B^k over each word's characters, c_k a random number for the k-th; uint64."""
    codes = np.frombuffer("".join(words).encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    raised, lowered = powers(len(codes))
    running = np.concatenate([np.zeros(1, np.uint64), np.cumsum(mixed(codes + BASE) * raised[: len(codes)])])
    ends = np.cumsum([len(word) for word in words], dtype=np.int64)
    starts = np.concatenate([np.zeros(1, np.int64), ends])[:-1]
    return (running[ends] - running[starts]) * lowered[starts]


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
    own = codes ^ np.repeat(mixed(np.arange(len(bounds) - 1, dtype=np.uint64) + _SEGMENTS), np.diff(bounds))
    # Codes whose last bits are replaced by their places are sorted in one go, and several times as fast as places
    # by their codes.
    bits = np.uint64(max(1, len(own).bit_length()))
    order = np.sort(own >> bits << bits | np.arange(len(own), dtype=np.uint64))
    same = np.flatnonzero((order[1:] ^ order[:-1]) >> bits == 0)
    places = (order & np.uint64((1 << int(bits)) - 1)).view(np.int64)
    if (own[places[same]] != own[places[same + 1]]).any():  # two that differ in the last bits alone: about never
        places = np.argsort(own, kind="stable")
        same = np.flatnonzero(own[places[1:]] == own[places[:-1]])
    begins = np.ones(len(same), dtype=bool)
    begins[1:] = same[1:] != same[:-1] + 1
    leader = same[np.flatnonzero(begins)][np.cumsum(begins.astype(np.int64)) - 1]
    again, first = places[same + 1], places[leader]
    ascending = np.argsort(again)
    return again[ascending], first[ascending]


def counts_at_least(codes: np.ndarray, bounds: np.ndarray) -> np.ndarray:
    """How often each code (uint64) occurs in its segment, or more often: those that share a slot count together.

    Every segment has a part of the table to itself, so that look-ups stay within a processor's innermost cache.
    """
    sizes = np.diff(bounds).astype(np.uint64) * _SLOTS_PER_CODE
    counts = np.diff(bounds)
    begins = np.repeat(bounds[:-1].astype(np.uint64) * _SLOTS_PER_CODE, counts)
    slots = (((codes >> _HALF) * np.repeat(sizes, counts) >> _HALF) + begins).view(np.int64)
    return np.bincount(slots).take(slots)


_SEGMENTS = np.uint64(1 << 50) + BASE
"""Keeps the numbers of segments apart from those that codes were made of."""
_SLOTS_PER_CODE = np.uint64(4)
_HALF = np.uint64(32)
