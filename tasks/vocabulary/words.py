"""How often each distinct word occurs in texts, counted in columns.

A word is a run of spaces with what follows it up to the next space, or what stands between other
boundaries; SentencePiece makes the same of a line, and counts, before it joins pairs of characters.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from storage.bpe.cuts import BEFORE, padded, words_at
from storage.bpe.known import LONGEST_KEY, Numbers, Words, keys_of
from storage.bpe.texts import column_of
from storage.mixing import mixed

_SPACE = ord(" ")
_COUNTED_BYTES = 1 << 23
"""So much text is counted at once."""


class WordCounts:
    """Words of UTF-8 bytes, and how often they came."""

    def __init__(self, boundaries: str) -> None:
        """``boundaries``: characters that are part of no word, one of ASCII at least."""
        self.counts: dict[bytes, int] = {}
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self._ascii = np.zeros(256, np.bool_)
        self._ascii[[ord(each) for each in boundaries if each.isascii()]] = True
        self._wide = [each.encode() for each in boundaries if not each.isascii()]
        self._single = next(each for each in boundaries if each.isascii()).encode()

    def add(self, texts: pa.ChunkedArray) -> None:
        """Count the words of some texts."""
        column = column_of(texts)
        if not len(column) or column.buffers()[2] is None:
            return
        offsets = np.frombuffer(column.buffers()[1], np.int64)[column.offset : column.offset + len(column) + 1]
        content = memoryview(column.buffers()[2])[offsets[0] : offsets[-1]].tobytes()
        for mark in self._wide:
            content = content.replace(mark, self._single * len(mark))
        # With a boundary between two texts; many are counted together, since most have the same words.
        for start, end in pairwise((offsets - offsets[0]).tolist()):
            self._waiting += content[start:end], self._single
        self._waiting_bytes += len(content)
        if self._waiting_bytes > _COUNTED_BYTES:
            self._count_waiting()

    def _count_waiting(self) -> None:
        content, self._waiting, self._waiting_bytes = b"".join(self._waiting), [], 0
        data = np.frombuffer(content, np.uint8)
        starts, ends = self._bounds(data)
        sizes = ends - starts
        short = np.flatnonzero(sizes <= LONGEST_KEY)
        low, high = keys_of(words_at(padded(data, 0, len(data))), starts[short] + BEFORE, sizes[short])
        places, often = _grouped(low, high)
        self._count(content, starts[short[places]], ends[short[places]], often)
        long = np.flatnonzero(sizes > LONGEST_KEY)
        self._count(content, starts[long], ends[long], np.ones(len(long), np.int64))

    def _bounds(self, data: npt.NDArray[np.uint8]) -> tuple[Numbers, Numbers]:
        """Where words begin and end."""
        inside, space = ~self._ascii.take(data), data == _SPACE
        begins, behind = inside.copy(), np.ones(len(data), np.bool_)
        begins[1:] &= ~inside[:-1] | (space[1:] & ~space[:-1])
        behind[:-1] = begins[1:] | ~inside[1:]
        return np.flatnonzero(begins), np.flatnonzero(inside & behind) + 1

    def _count(self, content: bytes, starts: Numbers, ends: Numbers, often: Numbers) -> None:
        counts = self.counts
        for start, end, count in zip(starts.tolist(), ends.tolist(), often.tolist(), strict=True):
            word = content[start:end]
            counts[word] = counts.get(word, 0) + count

    def items(self) -> Iterator[tuple[str, int]]:
        """Each word and how often it came."""
        self._count_waiting()
        for word, count in self.counts.items():
            yield word.decode(), count


def _grouped(low: Words, high: Words) -> tuple[Numbers, Numbers]:
    """One place of each distinct pair of numbers, and how often the pair is there."""
    # Hashes whose last bits are replaced by their places are sorted in one go, many times as fast as pairs.
    bits = np.uint64(max(1, len(low).bit_length()))
    order = np.sort(mixed(low ^ mixed(high)) >> bits << bits | np.arange(len(low), dtype=np.uint64))
    places = (order & np.uint64((1 << int(bits)) - 1)).view(np.int64)
    same_hash = (order[1:] ^ order[:-1]) >> bits == 0
    same = (low[places[1:]] == low[places[:-1]]) & (high[places[1:]] == high[places[:-1]])
    if (same_hash != same).any():  # two that differ in their last bits alone: hardly ever
        places = np.lexsort((low, high))
        same = (low[places[1:]] == low[places[:-1]]) & (high[places[1:]] == high[places[:-1]])
    first = np.flatnonzero(np.concatenate([np.ones(min(1, len(low)), np.bool_), ~same]))
    return places[first], np.diff(first, append=len(places))
