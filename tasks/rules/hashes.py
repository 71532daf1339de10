"""Hashes of words that can be summed: what the hash of a run of words is made of (see :mod:`tasks.rules.runs`)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np

BASE = np.uint64(0x9E3779B97F4A7C15)
_INVERSE = np.uint64(pow(0x9E3779B97F4A7C15, -1, 2**64))


def mixed(numbers: np.ndarray) -> np.ndarray:
    """Whole numbers → pseudo-random 64-bit ones (the finaliser of SplitMix64, Steele et al. 2014)."""
    made = numbers.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    made = (made ^ (made >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    made = (made ^ (made >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return made ^ (made >> np.uint64(31))


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
    running = np.concatenate([np.zeros(1, np.uint64), np.cumsum(mixed(codes) * raised[: len(codes)])])
    ends = np.cumsum([len(word) for word in words], dtype=np.int64)
    starts = np.concatenate([np.zeros(1, np.int64), ends])[:-1]
    return (running[ends] - running[starts]) * lowered[starts]


class Table:
    """Codes (uint64) → numbers (int32), by open addressing with steps of one."""

    def __init__(self) -> None:
        self._allocate(16)
        self._count = 0

    def _allocate(self, bits: int) -> None:
        self._shift, self._mask = np.uint64(64 - bits), (1 << bits) - 1
        self._codes, self._numbers = np.zeros(1 << bits, np.uint64), np.full(1 << bits, -1, np.int32)

    def _first_slots(self, codes: np.ndarray) -> np.ndarray:
        return (codes * BASE >> self._shift).astype(np.int64)

    def find(self, codes: np.ndarray) -> np.ndarray:
        """The number of each code; -1 of one that is not here."""
        codes = np.maximum(codes, np.uint64(1))  # 0 stands for a free slot
        slots = self._first_slots(codes)
        there = self._codes[slots]
        astray = np.flatnonzero((there != codes) & (there > 0))
        while len(astray):
            slots[astray] = (slots[astray] + 1) & self._mask
            there = self._codes[slots[astray]]
            astray = astray[(there != codes[astray]) & (there > 0)]
        return self._numbers[slots]

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


def _slots(codes: np.ndarray, factor: int) -> tuple[np.ndarray, int]:
    bits = max(8, int(3 * len(codes)).bit_length())
    return (codes * np.uint64(factor) >> np.uint64(64 - bits)).astype(np.int64), 1 << bits


def at_least(codes: np.ndarray) -> np.ndarray:
    """How often each code (uint64) occurs, or more often: those that share a slot of a table are counted together."""
    slots, size = _slots(codes, int(BASE))
    return np.bincount(slots, minlength=size)[slots]


def first_of(codes: np.ndarray, factor: int = int(BASE)) -> np.ndarray:
    """For each code (uint64) the index of the first that equals it.

    By a table with several slots a code; those that share a slot with another, earlier code go through
    a smaller table, by another hash (B, B^3, B^5 …), and a few that are left are sorted.
    """
    if len(codes) <= _SORTED:
        _, first, inverse = np.unique(codes, return_index=True, return_inverse=True)
        return first[inverse]
    slots, size = _slots(codes, factor)
    table = np.zeros(size, dtype=np.int32)
    table[slots[::-1]] = np.arange(len(codes) - 1, -1, -1, dtype=np.int32)
    first = table[slots].astype(np.int64)
    hidden = np.flatnonzero(codes[first] != codes)
    first[hidden] = hidden[first_of(codes[hidden], factor * int(BASE) ** 2 % 2**64)]
    return first


_SORTED = 256
"""So few codes are sorted."""
