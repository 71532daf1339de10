"""Lines and paragraphs of many texts, as places in their bytes (see ``tasks.rules.content``)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, cached_property
from typing import TYPE_CHECKING

import numpy as np

from tasks.rules.hashes import repeats
from tasks.rules.segments import running, sums

if TYPE_CHECKING:
    from tasks.rules.content import Content


class Lines:
    """Parts of the texts (lines, paragraphs): where each begins and ends in the content, the bounds of each text's."""

    def __init__(self, content: Content, starts: np.ndarray, ends: np.ndarray, bounds: np.ndarray) -> None:
        self.content, self.starts, self.ends, self.bounds = content, starts, ends, bounds

    def __len__(self) -> int:
        return len(self.starts)

    @cached_property
    def counts(self) -> np.ndarray:
        """Lines of each document."""
        return np.diff(self.bounds)

    @cached_property
    def documents(self) -> np.ndarray:
        """The document of each line."""
        return np.repeat(np.arange(len(self.counts)), self.counts)

    @cached_property
    def lengths(self) -> np.ndarray:
        """Characters of each line."""
        return self.content.characters(self.starts, self.ends)

    @cached_property
    def chunk_bounds(self) -> np.ndarray:
        """Where the chunks of each line begin (lines that follow one another), and the end."""
        starts = self.content.chunks[0]
        return np.append(np.searchsorted(starts, self.starts), len(starts))

    @cached_property
    def printed(self) -> np.ndarray:
        """Which lines are not blank."""
        return np.diff(self.chunk_bounds) > 0

    @cached_property
    def stripped(self) -> Lines:
        """The lines without the white space around them; those of a blank line's begin and end where it begins."""
        starts, ends = self.starts.copy(), self.starts.copy()
        starts[self.printed] = self.content.chunks[0][self.chunk_bounds[:-1][self.printed]]
        ends[self.printed] = self.content.chunks[1][self.chunk_bounds[1:][self.printed] - 1]
        return Lines(self.content, starts, ends, self.bounds)

    @cached_property
    def hashes(self) -> np.ndarray:
        """A number for each line that equal lines share; uint64."""
        return self.content.hashes(self.starts, self.ends)

    @cached_property
    def repeated(self) -> np.ndarray:
        """Which lines stood in their document before."""
        made = np.zeros(len(self), dtype=bool)
        made[repeats(self.hashes, self.bounds)[0]] = True
        return made

    def where(self, mask: np.ndarray) -> Lines:
        """Only some of the lines."""
        kept = mask.nonzero()[0]
        made = Lines(self.content, self.starts.take(kept), self.ends.take(kept), running(mask)[self.bounds])
        for known in ("lengths", "hashes"):
            if known in self.__dict__:
                made.__dict__[known] = self.__dict__[known].take(kept)
        return made

    def at(self, places: np.ndarray) -> np.ndarray:
        """The line of each of these places in the content (lines that follow one another); int64."""
        return np.searchsorted(self.starts, places, side="right") - 1

    def sums(self, values: np.ndarray) -> np.ndarray:
        return sums(values, self.bounds)

    def strings(self, places: np.ndarray) -> list[str]:
        """Some of the lines themselves."""
        return self.content.strings(self.starts[places], self.ends[places])

    def start_with(self, *starts: str) -> np.ndarray:
        """Which lines start so."""
        return self._match(self.starts, starts)

    def end_with(self, *ends: str) -> np.ndarray:
        """Which lines end so."""
        found = np.zeros(len(self), dtype=bool)
        for size, last, codes in _endings(ends):
            places = self._filled[last.take(self._last).nonzero()[0]]
            if size > 1 and len(places):
                places = places[self.ends[places] - self.starts[places] >= size]
                tails = np.zeros(len(places), dtype=np.int64)
                for place in range(size, 0, -1):
                    tails = tails << 8 | self.content.bytes[self.ends[places] - place]
                places = places[np.isin(tails, codes)]
            found[places] = True
        return found

    @cached_property
    def _filled(self) -> np.ndarray:
        """Which lines are not empty; indices."""
        return (self.ends > self.starts).nonzero()[0]

    @cached_property
    def _last(self) -> np.ndarray:
        """The last byte of those."""
        return self.content.bytes.take(self.ends[self._filled] - 1)

    def _match(self, at: np.ndarray, marks: Sequence[str]) -> np.ndarray:
        found = np.zeros(len(self), dtype=bool)
        for mark in marks:
            code = mark.encode()
            places = np.flatnonzero(self.ends - self.starts >= len(code))
            for k, byte in enumerate(code):
                places = places[self.content.bytes[at[places] + k] == byte]
            found[places] = True
        return found


@cache
def _endings(ends: tuple[str, ...]) -> list[tuple[int, np.ndarray, np.ndarray]]:
    """For each size of endings in bytes: the size, which bytes are their last (bool, 256), their codes (int64)."""
    by_size: dict[int, list[bytes]] = {}
    for end in ends:
        by_size.setdefault(len(end.encode()), []).append(end.encode())
    made = []
    for size, marks in by_size.items():
        last = np.zeros(256, dtype=bool)
        last[[mark[-1] for mark in marks]] = True
        made.append((size, last, np.array([int.from_bytes(mark, "big") for mark in marks])))
    return made
