"""The bytes of many texts, and parts of them, by where they begin and end: lines, paragraphs, chunks.

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

from tasks.rules.hashes import powers
from tasks.rules.lines import Lines
from tasks.rules.segments import running
from tasks.rules.signs import are_letters

_NEWLINE = 10


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
