"""A table from short byte strings to their ids that is searched in columns, in bounded memory.

A string of up to 15 bytes is its own key (two numbers, the length among them), so nothing rests on
a hash: it only says where to look first. Places are searched one behind the other (open addressing).
"""

from __future__ import annotations

import os
from itertools import repeat

import numpy as np
import numpy.typing as npt

Ids = npt.NDArray[np.int32]
Numbers = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]

LONGEST_KEY = 15
"""Bytes of the longest string that is its own key."""
ABSENT = -1

_LEAST_BITS, _MOST_BITS = 14, 20
_MOST_POOLED = 1 << 21
_MOST_NAMED_BYTES = 1 << 21
_LONGEST_NAMED = 256
"""Longer strings hardly come twice."""
_COUNT_BITS = 32
"""A value holds where the ids begin, and in these lower bits how many there are."""
MOST_MEGABYTES = 72
"""What a full table takes at most: 24 bytes a place, the ids, and strings of more than 15 bytes."""

_FIRST, _SECOND = (np.uint64(int.from_bytes(os.urandom(8)) | 1) for _ in range(2))
"""Drawn for each process, so that no page can be written to make the search slow. No id depends on them."""
_MASKS = np.array([(1 << 8 * size) - 1 for size in range(8)], np.uint64)
_LENGTHS = np.arange(LONGEST_KEY + 1, dtype=np.uint64) << np.uint64(56)


def keys_of(words: Words, starts: Numbers, sizes: Numbers) -> tuple[Words, Words]:
    """The keys of the strings of ``sizes`` (1 to 15) bytes at ``starts``; ``words``: the 8 bytes from every place."""
    low = words[starts]
    high = np.zeros(len(starts), np.uint64)
    long = sizes > 7
    wide = np.flatnonzero(long)
    marks = _LENGTHS.take(sizes, mode="clip")
    short_masks = _SHORT_MASKS.take(sizes, mode="clip")
    low &= short_masks
    if wide.size:
        high[wide] = (words[starts[wide] + 8] & _MASKS.take(sizes[wide] - 8, mode="clip")) | marks[wide]
        marks[wide] = 0
    low |= marks
    return low, high


_SHORT_MASKS = np.append(_MASKS, np.full(LONGEST_KEY - 7, (1 << 64) - 1, np.uint64))


class Known:
    """Byte strings and their ids."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self._empty(_LEAST_BITS)
        self._count = 0
        self._pool = np.empty(1 << 12, np.int32)
        self._pooled = 0
        self._named: dict[bytes, int] = {}
        self._named_bytes = 0

    @property
    def full(self) -> bool:
        """Whether it has come to its bound and should be cleared before more is added."""
        return self._count > 1 << (_MOST_BITS - 1) or self._pooled > _MOST_POOLED

    def find(self, low: Words, high: Words) -> Numbers:
        """The value of each key, or ``ABSENT``."""
        slots = self._slots(low, high)
        values: Numbers = self._values.take(slots, mode="clip")
        astray = np.flatnonzero(
            (self._low.take(slots, mode="clip") != low) | (self._high.take(slots, mode="clip") != high)
        )
        slots = slots[astray]
        while astray.size:
            values[astray] = self._values[slots]
            mine = (self._low[slots] == low[astray]) & (self._high[slots] == high[astray])
            values[astray[~mine]] = ABSENT
            going_on = ~mine & (self._high[slots] | self._low[slots] != 0)
            astray, slots = astray[going_on], (slots[going_on] + 1) & self._last
        return values

    def find_named(self, names: list[bytes]) -> list[int]:
        """The value of each string of more than 15 bytes, or ``ABSENT``."""
        return list(map(self._named.get, names, repeat(ABSENT)))

    def pool(self, ids: Ids, counts: Numbers) -> Numbers:
        """Keep the ids of several strings, one behind the other; returns the strings' values."""
        needed = self._pooled + len(ids)
        if needed > len(self._pool):
            grown = np.empty(max(needed, 2 * len(self._pool)), np.int32)
            grown[: self._pooled] = self._pool[: self._pooled]
            self._pool = grown
        self._pool[self._pooled : needed] = ids
        starts = np.cumsum(counts) - counts + self._pooled
        self._pooled = needed
        return (starts << _COUNT_BITS) | counts

    def add(self, low: Words, high: Words, values: Numbers) -> None:
        """Enter keys that are absent, each once."""
        self._count += len(low)
        bits = self._bits
        while self._count > 1 << (bits - 1) and bits < _MOST_BITS:
            bits += 1
        if bits > self._bits:
            used = np.flatnonzero(self._low | self._high)
            # Early ones first: they are the frequent ones, and get the places that are looked at first.
            used = used[np.argsort(self._values[used])]
            kept = self._low[used], self._high[used], self._values[used]
            self._empty(bits)
            self._enter(*kept)
        self._enter(low, high, values)

    def add_named(self, name: bytes, value: int) -> None:
        """Enter a string of more than 15 bytes, if it is short enough to be worth it."""
        if self._named_bytes > _MOST_NAMED_BYTES:
            self._named.clear()
            self._named_bytes = 0
        if len(name) <= _LONGEST_NAMED:
            self._named[name] = value
            self._named_bytes += len(name)

    def gather(self, values: Numbers, into: Ids) -> tuple[int, Numbers]:
        """Write the ids that the values stand for, end to end: how many all have, and each."""
        counts = values & ((1 << _COUNT_BITS) - 1)
        places = values >> _COUNT_BITS
        ends = np.cumsum(counts)
        places -= ends
        places += counts
        whole = np.repeat(places, counts)
        whole += np.arange(len(whole))
        self._pool.take(whole, mode="clip", out=into[: len(whole)])
        return len(whole), counts

    def _empty(self, bits: int) -> None:
        self._bits, self._last = bits, (1 << bits) - 1
        self._low, self._high = np.zeros(1 << bits, np.uint64), np.zeros(1 << bits, np.uint64)
        self._values = np.full(1 << bits, ABSENT, np.int64)

    def _slots(self, low: Words, high: Words) -> Numbers:
        mixed = high * _SECOND
        mixed ^= low
        mixed *= _FIRST
        mixed >>= np.uint64(64 - self._bits)
        return mixed.view(np.int64)

    def _enter(self, low: Words, high: Words, values: Numbers) -> None:
        slots = self._slots(low, high)
        waiting = np.arange(len(low))
        while waiting.size:
            free = self._low[slots] | self._high[slots] == 0
            # Of several that want one place the first gets it: its number is written there last.
            claims, claimed = waiting[free], slots[free]
            self._values[claimed[::-1]] = claims[::-1]
            won = self._values[claimed] == claims
            got, at = claims[won], claimed[won]
            self._low[at], self._high[at], self._values[at] = low[got], high[got], values[got]
            again = ~free
            again[np.flatnonzero(free)[~won]] = True
            waiting, slots = waiting[again], (slots[again] + 1) & self._last
