"""Word 5-grams of texts, as sets of 64-bit hashes, made in columns.

A *word* is a run of letters, digits and underscores; in scripts written without spaces (Chinese,
Japanese, Thai, Lao, Khmer, Burmese, Tibetan) every character is a word of its own, so that there
5-grams of characters are compared, in mixed text too. Case, compatibility forms (full-width
letters), punctuation and white space do not count.

Strings are never cut into words. The hash of a word is the polynomial Σ character·P^position
modulo 2^64, taken for all words at once as differences of one running sum, times a power of P's
inverse that undoes where in the column the word stands. A 5-gram is a polynomial in its words'
hashes, made in the same way.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from storage.mixing import GOLDEN, Hashes, mixed
from tasks.batches import batches
from tasks.copies.characters import ALONE, BATCH_CHARACTERS, LETTER, LONE, Characters, Positions

WORDS_PER_SHINGLE = 5
_USUAL_BITS = 17
"""The powers are made for so many places (2^17) at first: those of a batch, and for more when a text is longer."""
_PLACE = GOLDEN
"""P: odd, so that it has an inverse modulo 2^64."""

_UNSEGMENTED = "".join(f"{chr(first)}-{chr(last)}" for first, last in LONE)
_WORD = re.compile(rf"[{_UNSEGMENTED}]|[^\W{_UNSEGMENTED}]+")


def words_of(text: str) -> list[str]:
    """The words of a normalised text as strings: what ``Words`` holds the hashes of."""
    return _WORD.findall(text)


@dataclass(frozen=True)
class Words:
    """The words of several texts, in a row."""

    hashes: Hashes
    starts: Positions
    """(texts + 1) number of the first word of each text."""
    begins: Positions
    """Where in the column of characters each word begins …"""
    ends: Positions
    """… and ends, that place excluded."""

    @classmethod
    def of(cls, characters: Characters) -> Words:
        letter, alone = characters.classes == LETTER, characters.classes == ALONE
        # Every text ends with white space, so a word never reaches the end of the column.
        first, last = letter.copy(), letter.copy()
        first[1:] &= ~letter[:-1]
        last[:-1] &= ~letter[1:]
        begins, ends = np.flatnonzero(first | alone), np.flatnonzero(last | alone) + 1
        hashes = polynomials(characters.folded, begins, ends)
        return cls(hashes, np.searchsorted(begins, characters.starts), begins, ends)


@lru_cache(maxsize=2)
def _powers(length: int) -> tuple[Hashes, Hashes]:
    """P^0, P^1, … and the inverses of these, modulo 2^64."""
    made = []
    for base in (_PLACE, pow(_PLACE, -1, 1 << 64)):
        powers = np.full(length, base, np.uint64)
        powers[0] = 1
        made.append(np.cumprod(powers, out=powers))
    return made[0], made[1]


def windows_of(words: Words, length: int) -> tuple[Hashes, Positions]:
    """The hash of ``length`` successive words from every word on, and where (texts + 1) each text's windows start.

    A text of fewer words has one window, of all its words; one without words has none.
    """
    counts = np.diff(words.starts)
    kept = np.where(counts > 0, np.maximum(counts - length + 1, 1), 0)
    starts = np.concatenate([[0], np.cumsum(kept)])
    first = np.arange(starts[-1]) + np.repeat(words.starts[:-1] - starts[:-1], kept)
    behind = np.minimum(first + length, np.repeat(words.starts[1:], kept))
    return polynomials(words.hashes, first, behind), starts


def polynomials(column: npt.NDArray[np.unsignedinteger], first: Positions, behind: Positions) -> Hashes:
    """The hash of each run ``column[first:behind]``, the same wherever in the column it stands."""
    powers, inverses = _powers(1 << max(_USUAL_BITS, len(column).bit_length()))
    running = np.zeros(len(column) + 1, np.uint64)
    np.cumsum(np.multiply(column, powers[: len(column)], dtype=np.uint64), out=running[1:])
    return mixed((running[behind] - running[first]) * inverses[first])


def grams_of(texts: Sequence[str]) -> tuple[Hashes, Positions]:
    """Hashes of the texts' 5-grams, repetitions included, and where (texts + 1) each text's start."""
    return windows_of(Words.of(Characters.normalised(texts)), WORDS_PER_SHINGLE)


def shingles_of(texts: Sequence[str]) -> list[Hashes]:
    """For every text the sorted distinct hashes of its word 5-grams.

    A text of fewer words is one shingle, one without words none.
    """
    sets: list[Hashes] = []
    for batch in batches(texts, len, BATCH_CHARACTERS):
        grams, starts = grams_of(batch)
        sets += [_distinct(grams[start:end]) for start, end in pairwise(starts.tolist())]
    return sets


def _distinct(values: Hashes) -> Hashes:
    values = np.sort(values)
    return values[np.concatenate([[True], values[1:] != values[:-1]])] if len(values) else values


def jaccard(first: Hashes, second: Hashes) -> float:
    """Size of the intersection ÷ size of the union, of two arrays of sorted distinct hashes; 0 for two empty ones."""
    if len(first) == 0 or len(second) == 0:
        return 0.0
    together = np.concatenate((first, second))
    together.sort()
    both = int(np.count_nonzero(together[1:] == together[:-1]))
    return both / (len(together) - both)
