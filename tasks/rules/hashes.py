"""Hashes of words that can be summed: what the hash of a run of words is made of (see :mod:`tasks.rules.runs`)."""

from __future__ import annotations

from collections.abc import Sequence

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
    """B^0 … B^(count-1), and their inverses; uint64."""
    made = np.full((2, max(count, 1)), [[BASE], [_INVERSE]], dtype=np.uint64)
    made[:, 0] = 1
    raised = np.multiply.accumulate(made, axis=1)
    return raised[0], raised[1]


def spellings(words: Sequence[str]) -> np.ndarray:
    """Σ_k c_k B^k over each word's characters, c_k a random number for the k-th; uint64."""
    codes = np.frombuffer("".join(words).encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    raised, lowered = powers(len(codes))
    running = np.concatenate([np.zeros(1, np.uint64), np.cumsum(mixed(codes) * raised)])
    ends = np.cumsum([len(word) for word in words], dtype=np.int64)
    starts = np.concatenate([np.zeros(1, np.int64), ends])[:-1]
    return (running[ends] - running[starts]) * lowered[starts]


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
