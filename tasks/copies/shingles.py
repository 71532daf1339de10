"""Word 5-grams of texts, as sets of 64-bit hashes, made in columns.

A *word* is a run of letters, digits and underscores; in scripts written without spaces (Chinese,
Japanese, Thai, Lao, Khmer, Burmese, Tibetan) every character is a word of its own, so that there
5-grams of characters are compared, in mixed text too. Case, compatibility forms (full-width
letters), punctuation and white space do not count.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from hashlib import blake2b

import numpy as np
import numpy.typing as npt

Hashes = npt.NDArray[np.uint64]

WORDS_PER_SHINGLE = 5
_UNSEGMENTED = (
    "\u0e00-\u0eff"  # Thai, Lao
    "\u0f00-\u0fff"  # Tibetan
    "\u1000-\u109f"  # Burmese
    "\u1780-\u17ff"  # Khmer
    "\u3005\u3007\u3040-\u30ff\u31f0-\u31ff"  # kana and marks of repetition
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # Chinese characters
)
_WORD = re.compile(rf"[{_UNSEGMENTED}]|[^\W{_UNSEGMENTED}]+")
_SPACED_WORD = re.compile(r"\w+")
"""The same for texts with none of those scripts, twice as fast."""
_ANY_UNSEGMENTED = re.compile(f"[{_UNSEGMENTED}]")
_FACTOR = np.uint64(0x9E3779B97F4A7C15)


def normalised(text: str) -> str:
    """The text as far as it counts for exact copies: compatibility forms, case and white space made one."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def words_of(text: str) -> list[str]:
    """The words of a normalised text."""
    spaced = text.isascii() or not _ANY_UNSEGMENTED.search(text)
    return (_SPACED_WORD if spaced else _WORD).findall(text)


def shingles_of(texts: Sequence[str]) -> list[Hashes]:
    """For every normalised text the sorted distinct hashes of its word 5-grams.

    A text of fewer words is one shingle, one without words none.
    """
    numbers: dict[str, int] = {}
    rows = [np.array([numbers.setdefault(word, len(numbers)) for word in words_of(text)], np.int64) for text in texts]
    hashes = np.array([_hash_of(word) for word in numbers], np.uint64)
    return [_distinct(hashes[row]) for row in rows]


def _distinct(words: Hashes) -> Hashes:
    """Sorted distinct hashes of the 5-grams of the words with these hashes."""
    if len(words) == 0:
        return words
    length = min(WORDS_PER_SHINGLE, len(words))
    grams = np.zeros(len(words) - length + 1, np.uint64)
    for offset in range(length):
        # A polynomial in the words' hashes, modulo 2^64: overflow is meant.
        grams = grams * _FACTOR + words[offset : offset + len(grams)]
    return np.unique(mixed(grams + np.uint64(length)))


def _hash_of(word: str) -> int:
    return int.from_bytes(blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


def mixed(values: Hashes) -> Hashes:
    """Every bit of the result depends on every bit of the value (the finaliser of SplitMix64, a bijection)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def jaccard(first: Hashes, second: Hashes) -> float:
    """Size of the intersection ÷ size of the union, of two arrays of sorted distinct hashes; 0 for two empty ones."""
    if len(first) == 0 or len(second) == 0:
        return 0.0
    both = np.intersect1d(first, second, assume_unique=True).size
    return float(both / (len(first) + len(second) - both))
