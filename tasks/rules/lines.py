"""The bytes of many texts, and parts of them: lines, paragraphs, chunks, by where they begin and end.

Parts are found, stripped, measured, compared and numbered by their places in the bytes, all of a batch
at once; no part becomes an object. The hash of any part costs two look-ups: with x_i the i-th byte
and one (no byte of UTF-8 is 255), B odd and S_i = Σ_{j<i} x_j B^j (mod 2^64), the part from s to e has
(S_e − S_s) B^{−s}.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cache, cached_property

import numpy as np
import pyarrow as pa

from tasks.rules.hashes import powers, repeats
from tasks.rules.signs import are_letters

_NEWLINE = 10


def sums(values: np.ndarray, bounds: np.ndarray) -> np.ndarray:
    """Sums of ``values[bounds[i] : bounds[i + 1]]``, which together are all values; segments may be empty."""
    numbers = values if values.dtype.kind == "f" else values.astype(np.int64, copy=False)
    made = np.zeros(len(bounds) - 1, dtype=numbers.dtype)
    filled = np.flatnonzero(bounds[1:] > bounds[:-1])
    if len(filled):
        # A segment's sum is its own: a difference of running sums would depend on what stands before it.
        made[filled] = np.add.reduceat(numbers, bounds[filled])
    return made


def running(values: np.ndarray) -> np.ndarray:
    """Sums of all values before each, and of all; int64."""
    made = np.zeros(len(values) + 1, dtype=np.int64)
    np.cumsum(values.astype(np.int64, copy=False), out=made[1:])  # adding up other types is ten times as slow
    return made


def shares(counts: np.ndarray, totals: np.ndarray) -> np.ndarray:
    """Quotients; 0 where there is nothing to divide by."""
    return np.divide(counts, totals, out=np.zeros(len(counts)), where=totals > 0)


@cache
def _spaces() -> np.ndarray:
    """Code point (below 2^16, where all white space is) → whether it is white space; bool."""
    return np.array([chr(code).isspace() for code in range(0x10000)])


_SINGLE_SPACES = bytes(byte < 0x80 and chr(byte).isspace() for byte in range(0x100))
"""Byte → 1 if it is white space by itself."""
_SINGLE_LETTERS = bytes(byte < 0x80 and chr(byte).isalpha() for byte in range(0x100))
"""Byte → 1 if it is a letter by itself."""
_LETTERS_AND_DIGITS = bytes(byte < 0x80 and chr(byte).isalnum() for byte in range(0x100))
"""Byte → 1 if it is a letter or a digit by itself."""


def code_points(content: np.ndarray, places: np.ndarray) -> np.ndarray:
    """The characters of two to four bytes that begin at these places of valid UTF-8 (uint8); int32."""
    codes = np.empty(len(places), dtype=np.int32)
    leads = content.take(places)
    for size, least, most in ((2, 0xC2, 0xDF), (3, 0xE0, 0xEF), (4, 0xF0, 0xFF)):
        these = ((leads >= least) & (leads <= most)).nonzero()[0]
        made = (leads.take(these) & (0x7F >> size)).astype(np.int32)
        for k in range(1, size):
            made = made << 6 | content.take(places.take(these) + k) & 0x3F
        codes[these] = made
    return codes


class Content:
    """Texts in UTF-8, one behind the other.

    ``bytes``: uint8; ``bounds``: where each text begins, and the end; int64.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        array = pa.array(texts, pa.large_string())
        self.bounds = np.frombuffer(array.buffers()[1], dtype=np.int64)[: len(array) + 1]
        self.bytes = np.frombuffer(array.buffers()[2] or b"", dtype=np.uint8)[: self.bounds[-1]]

    @cached_property
    def lowered(self) -> bytes:
        """All bytes, ASCII letters in lower case."""
        return self.bytes.tobytes().lower()

    def texts_with(self, phrase: str) -> Iterator[int]:
        """Which texts have the phrase (ASCII, in any case); it is looked for in all of them at once."""
        sought = phrase.lower().encode()
        at = self.lowered.find(sought) if sought else -1
        while at >= 0:
            text = int(np.searchsorted(self.bounds, at, side="right")) - 1
            if at + len(sought) <= self.bounds[text + 1]:
                yield text
                at = int(self.bounds[text + 1]) - 1
            at = self.lowered.find(sought, at + 1)

    def all_of(self, sign: str) -> np.ndarray:
        """Where a string begins, overlapping or not; a place where it goes beyond a text may be among them. int64."""
        code = sign.encode()
        places = (self.bytes[: len(self.bytes) - len(code) + 1] == code[0]).nonzero()[0]
        for k, byte in enumerate(code[1:], 1):
            places = places[self.bytes[places + k] == byte]
        return places

    def places_of(self, pattern: re.Pattern[bytes]) -> np.ndarray:
        """Where the matches of a pattern begin; int64."""
        return np.array([found.start() for found in pattern.finditer(self.bytes.data)], dtype=np.int64)

    @cached_property
    def _inner(self) -> np.ndarray:
        """Where bytes are that begin no character."""
        return np.flatnonzero((self.bytes & 0xC0) == 0x80)

    def characters(self, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
        """Characters of the parts; int64."""
        if not len(self._inner):
            return ends - starts
        return ends - starts - (np.searchsorted(self._inner, ends) - np.searchsorted(self._inner, starts))

    @cached_property
    def _is_space(self) -> np.ndarray:
        """Which bytes are of white space."""
        made = np.frombuffer(bytearray(self.bytes).translate(_SINGLE_SPACES), dtype=bool)
        places = np.flatnonzero((self.bytes >= 0xC2) & (self.bytes < 0xF0))
        if len(places):
            padded = np.concatenate([self.bytes, np.zeros(2, np.uint8)]).astype(np.uint16)
            first, second, third = (padded[places + k] for k in range(3))
            long = first >= 0xE0
            three = (first & 0xF) << 12 | (second & 0x3F) << 6 | third & 0x3F
            codes = np.where(long, three, (first & 0x1F) << 6 | second & 0x3F)
            found = _spaces()[codes]
            for k in range(3):
                made[places[found & (long | (k < 2))] + k] = True
        return made

    @cached_property
    def are_letters(self) -> np.ndarray:
        """Which bytes begin a letter (see :func:`tasks.rules.signs.is_letter`)."""
        made = np.frombuffer(bytearray(self.bytes).translate(_SINGLE_LETTERS), dtype=bool)
        places = np.flatnonzero(self.bytes >= 0xC2)
        if len(places):
            made[places] = are_letters(code_points(self.bytes, places))
        return made

    @cached_property
    def have_words(self) -> np.ndarray:
        """Which chunks hold a letter or digit of ASCII, and with it a word that is no mere symbol."""
        starts = self.chunks[0]
        if not len(starts):
            return np.zeros(0, dtype=bool)
        plain = np.frombuffer(bytearray(self.bytes).translate(_LETTERS_AND_DIGITS), dtype=bool)
        return np.logical_or.reduceat(plain, starts)  # up to the next chunk: the white space between has none

    @cached_property
    def chunks(self) -> tuple[np.ndarray, np.ndarray]:
        """Where the runs of characters that are no white space begin and end; none goes from one text into the next."""
        space = self._is_space
        edges = self.bounds[self.bounds < len(space)]
        before, after = np.ones(len(space), dtype=bool), np.ones(len(space), dtype=bool)
        before[1:], after[:-1] = space[:-1], space[1:]
        before[edges], after[edges - 1] = True, True
        return (before & ~space).nonzero()[0], (after & ~space).nonzero()[0] + 1

    @cached_property
    def _sums(self) -> np.ndarray:
        made = np.empty(len(self.bytes) + 1, dtype=np.uint64)
        made[0], made[1:] = 0, self.bytes
        made[1:] += 1
        made[1:] *= powers(len(self.bytes))[0][: len(self.bytes)]
        return np.cumsum(made, out=made)

    def hashes(self, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
        """A number for each part that equal parts share; uint64."""
        return (self._sums.take(ends) - self._sums.take(starts)) * powers(len(self._sums))[1].take(starts)

    def strings(self, starts: np.ndarray, ends: np.ndarray) -> list[str]:
        """The parts themselves."""
        content = self.bytes.data
        return [str(content[a:b], "utf-8") for a, b in zip(starts.tolist(), ends.tolist(), strict=True)]

    def code_points(self, starts: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The characters of the parts, one behind the other (uint32); where each part's begin, and the end (int64)."""
        sizes = ends - starts
        bounds = running(sizes)
        content = self.bytes.take(np.repeat(starts - bounds[:-1], sizes) + np.arange(bounds[-1]))
        codes = np.frombuffer(str(content.data, "utf-8").encode("utf-32-le"), dtype=np.uint32)
        return codes, running((content & 0xC0) != 0x80).take(bounds)

    @cached_property
    def lines(self) -> Lines:
        """What newlines separate, blank lines too."""
        newlines = np.flatnonzero(self.bytes == _NEWLINE)
        bounds = np.searchsorted(newlines, self.bounds) + np.arange(len(self.bounds))
        inner = np.ones(int(bounds[-1]), dtype=bool)
        starts, ends = np.empty((2, len(inner)), dtype=np.int64)
        inner[bounds[:-1]] = False
        starts[bounds[:-1]], starts[inner] = self.bounds[:-1], newlines + 1
        inner[:] = True
        inner[bounds[1:] - 1] = False
        ends[bounds[1:] - 1], ends[inner] = self.bounds[1:], newlines
        return Lines(self, starts, ends, bounds)


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
