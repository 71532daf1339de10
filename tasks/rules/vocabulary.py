"""What is known of each distinct word: split, measured and classified once, then looked up by number."""

from __future__ import annotations

import unicodedata
from functools import cache

import numpy as np

from tasks.rules.columns import Column
from tasks.rules.content import Content
from tasks.rules.hashes import Spelling, Table, code_points_of
from tasks.rules.segments import running
from tasks.rules.shapes import Shapes
from tasks.rules.signs import LETTERS_PER_WORD, SENTENCE_ENDS, SYMBOLS, CodeTable, is_letter
from tasks.rules.unspaced import script_of, wide_signs

MAX_CHUNKS = 1_000_000
"""A vocabulary that holds more distinct chunks is begun afresh (about 300 bytes each)."""

SYMBOL, ALPHABETIC, SENTENCE_END, PUNCTUATION, LETTER, WIDE_SIGN = 1, 2, 4, 8, 16, 32
"""Flags of a word: nothing but symbols; has a letter; is a mark that ends sentences; nothing but punctuation;
is a letter of a script without spaces; is a sign that stands between such letters."""


class Vocabulary:
    """Chunks (what stands between white space) and the words in them, by number.

    Per chunk: ``first``, ``count`` (its words are ``parts[first : first + count]``). Per word:
    ``word_length`` in characters, ``flags``, ``weight`` (words it counts for: 1, or less for a letter of
    a script without spaces), ``spelling`` (see :mod:`tasks.rules.hashes`).
    """

    def __init__(self) -> None:
        self._chunks, self._words, self._shapes = Table(), Table(), Shapes()
        self._first, self._count = Column(np.int64), Column(np.int64)
        self._parts, self._word_length = Column(np.int64), Column(np.int64)
        self._flags, self._weight, self._spelling = Column(np.uint8), Column(np.float64), Column(np.uint64)

    def numbers_of(self, content: Content, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
        """The numbers of chunks, int64."""
        codes = content.hashes(starts, ends)
        numbers = self._chunks.find(codes)
        unknown = np.flatnonzero(numbers < 0)
        if len(unknown):
            fresh, first, same = np.unique(codes[unknown], return_index=True, return_inverse=True)
            known = len(self._first.values)
            self._learn(*content.code_points(starts[unknown[first]], ends[unknown[first]]))
            self._chunks.add(fresh, known + np.arange(len(fresh)))
            numbers[unknown] = known + same
        return numbers

    def number_of_word(self, word: str) -> int:
        """The number of a word; -1 if no chunk had it yet."""
        codes, _ = code_points_of([word])
        return int(self._words.find(Spelling(codes).of(np.array([0]), np.array([len(codes)])))[0])

    def is_full(self) -> bool:
        return len(self._first.values) > MAX_CHUNKS

    first = property(lambda self: self._first.values)
    count = property(lambda self: self._count.values)
    parts = property(lambda self: self._parts.values)
    word_length = property(lambda self: self._word_length.values)
    flags = property(lambda self: self._flags.values)
    weight = property(lambda self: self._weight.values)
    spelling = property(lambda self: self._spelling.values)

    def _learn(self, codes: np.ndarray, bounds: np.ndarray) -> None:
        """Take in chunks: their code points, one behind the other, and where each begins, and the end."""
        spelling = Spelling(codes)
        starts, counts = self._shapes.split(codes, bounds, spelling)
        ends = np.append(starts[1:], len(codes))
        spelled = spelling.of(starts, ends)
        numbers = self._words.find(spelled)
        unknown = np.flatnonzero(numbers < 0)
        if len(unknown):
            fresh, first, same = np.unique(spelled[unknown], return_index=True, return_inverse=True)
            known = len(self._spelling.values)
            self._words.add(fresh, known + np.arange(len(fresh)))
            numbers[unknown] = known + same
            self._describe(codes, starts[unknown[first]], ends[unknown[first]])
            self._spelling.extend(fresh)
        self._first.extend(len(self._parts.values) + running(counts)[:-1])
        self._count.extend(counts)
        self._parts.extend(numbers)

    def _describe(self, codes: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> None:
        """Measure and classify new words."""
        lengths = ends - starts
        within = np.repeat(starts - running(lengths)[:-1], lengths) + np.arange(lengths.sum())
        flags, begins = _flags.of(codes.take(within)), running(lengths)[:-1]
        of_all = np.bitwise_and.reduceat(flags, begins)
        alone = np.where(lengths == 1, of_all & (SENTENCE_END | LETTER | WIDE_SIGN), 0).astype(np.uint8)
        some = np.bitwise_or.reduceat(flags, begins) & ALPHABETIC
        self._word_length.extend(lengths)
        self._flags.extend(of_all & (SYMBOL | PUNCTUATION) | some | alone)
        weights = np.ones(len(starts))
        for word in np.flatnonzero(alone & LETTER).tolist():
            weights[word] = 1 / LETTERS_PER_WORD[script_of(chr(codes[starts[word]]))]
        self._weight.extend(weights)


def _flags_of(code: int) -> int:
    """The flags of a word of this one character."""
    character = chr(code)
    facts = {
        SYMBOL: character in SYMBOLS,
        ALPHABETIC: is_letter(character),
        SENTENCE_END: character in SENTENCE_ENDS,
        PUNCTUATION: unicodedata.category(character).startswith("P"),
        LETTER: bool(script_of(character)),
        WIDE_SIGN: character in wide_signs(),
    }
    return sum(flag for flag, holds in facts.items() if holds)


_flags = CodeTable(_flags_of)


@cache
def _one() -> list[Vocabulary]:
    return [Vocabulary()]


def vocabulary() -> Vocabulary:
    """This process's vocabulary, which all batches share. Its numbers shape nothing but its own size."""
    if _one()[0].is_full():
        _one()[0] = Vocabulary()
    return _one()[0]
