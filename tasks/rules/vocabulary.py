"""What is known of each distinct word: split, measured and classified once, then looked up by number."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from functools import cache

import numpy as np

from tasks.rules.hashes import Table, spellings
from tasks.rules.lines import Content
from tasks.rules.signs import LETTERS_PER_WORD, SENTENCE_ENDS, SYMBOLS, is_letter
from tasks.rules.unspaced import script_of, wide_signs
from tasks.rules.words import split_chunk

MAX_CHUNKS = 1_000_000
"""A vocabulary that holds more distinct chunks is begun afresh (about 300 bytes each)."""

SYMBOL, ALPHABETIC, SENTENCE_END, PUNCTUATION, LETTER, WIDE_SIGN = 1, 2, 4, 8, 16, 32
"""Flags of a word: nothing but symbols; has a letter; is a mark that ends sentences; nothing but punctuation;
is a letter of a script without spaces; is a sign that stands between such letters."""


class Column:
    """Numbers in an array that grows."""

    def __init__(self, dtype: type) -> None:
        self._values: np.ndarray = np.zeros(1024, dtype=dtype)
        self._size = 0

    @property
    def values(self) -> np.ndarray:
        return self._values[: self._size]

    def extend(self, values: Sequence[float] | np.ndarray) -> None:
        needed = self._size + len(values)
        if needed > len(self._values):
            self._values = np.concatenate([self._values, np.zeros(max(needed, len(self._values)), self._values.dtype)])
        self._values[self._size : needed] = values
        self._size = needed


class _Numbers(dict[str, int]):
    """Numbers texts as they come; ``fresh`` are those not looked at yet."""

    def __init__(self) -> None:
        super().__init__()
        self.fresh: list[str] = []

    def __missing__(self, text: str) -> int:
        number = self[text] = len(self)
        self.fresh.append(text)
        return number


class Vocabulary:
    """Chunks (what stands between white space) and the words in them, by number.

    Per chunk: ``first``, ``count`` (its words are ``parts[first : first + count]``). Per word:
    ``word_length`` in characters, ``flags``, ``weight`` (words it counts for: 1, or less for a letter of
    a script without spaces), ``spelling`` (see :mod:`tasks.rules.hashes`).
    """

    def __init__(self) -> None:
        self._chunks, self._words = Table(), _Numbers()
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
            self._learn(content.strings(starts[unknown[first]], ends[unknown[first]]))
            self._chunks.add(fresh, known + np.arange(len(fresh)))
            numbers[unknown] = known + same
        return numbers

    def number_of_word(self, word: str) -> int:
        """The number of a word; -1 if no chunk had it yet."""
        return self._words.get(word, -1)

    def is_full(self) -> bool:
        return len(self._first.values) > MAX_CHUNKS

    first = property(lambda self: self._first.values)
    count = property(lambda self: self._count.values)
    parts = property(lambda self: self._parts.values)
    word_length = property(lambda self: self._word_length.values)
    flags = property(lambda self: self._flags.values)
    weight = property(lambda self: self._weight.values)
    spelling = property(lambda self: self._spelling.values)

    def _learn(self, chunks: Sequence[str]) -> None:
        known = len(self._parts.values)
        parts: list[int] = []
        counts = []
        for chunk in chunks:
            words = split_chunk(chunk)
            counts.append(len(words))
            parts.extend(self._words[word] for word in words)
        self._first.extend(known + np.cumsum([0, *counts[:-1]]))
        self._count.extend(counts)
        self._parts.extend(parts)
        words, self._words.fresh = self._words.fresh, []
        self._word_length.extend([len(word) for word in words])
        self._spelling.extend(spellings(words))
        flags = [_flags_of(word) for word in words]
        self._flags.extend(flags)
        self._weight.extend([_weight_of(word, flag) for word, flag in zip(words, flags, strict=True)])


def _flags_of(word: str) -> int:
    if word.isascii() and word.isalpha():
        return ALPHABETIC
    flags = 0
    if SYMBOLS.issuperset(word):
        flags |= SYMBOL | (PUNCTUATION if _is_punctuation(word) else 0)
    elif not word.isascii() and _is_punctuation(word):
        flags |= PUNCTUATION
    if any(map(is_letter, word)):
        flags |= ALPHABETIC
    if word in SENTENCE_ENDS:
        flags |= SENTENCE_END
    if len(word) == 1 and not word.isascii():
        flags |= (LETTER if script_of(word) else 0) | (WIDE_SIGN if word in wide_signs() else 0)
    return flags


def _is_punctuation(word: str) -> bool:
    return all(unicodedata.category(character).startswith("P") for character in word)


def _weight_of(word: str, flags: int) -> float:
    return 1 / LETTERS_PER_WORD[script_of(word)] if flags & LETTER else 1.0


@cache
def _one() -> list[Vocabulary]:
    return [Vocabulary()]


def vocabulary() -> Vocabulary:
    """This process's vocabulary, which all batches share. Its numbers shape nothing but its own size."""
    if _one()[0].is_full():
        _one()[0] = Vocabulary()
    return _one()[0]
