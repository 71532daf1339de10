"""Texts as counts of hashed n-grams, worked out in columns for many texts at once.

A text is lower-cased and cut into tokens: a word is a run of letters, marks and digits; a letter of
a script without spaces (Chinese, Japanese, Thai …) is a token of its own, and so is every other sign.
Features are runs of tokens within one text, and on request pieces of words. Each is hashed to one of
``buckets`` columns (the hashing trick: Weinberger et al. 2009, "Feature hashing for large scale
multitask learning"), so a model needs no vocabulary and its size is known beforehand.

Everything is integer arithmetic modulo 2^64: the same on every machine, and for any batch.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from tasks.batches import batches
from tasks.task import Settings

Words = NDArray[np.uint64]

_BASE = 0x9E3779B97F4A7C15
"""Odd, so that it has an inverse modulo 2^64."""
_INVERSE = pow(_BASE, -1, 2**64)
_JOIN = np.uint64(0xD6E8FEB86659FD93)
_FAMILY = {"tokens": np.uint64(0x2545F4914F6CDD1D), "pieces": np.uint64(0x9FB21C651E98DF25)}
"""Keep a word apart from the piece of a word that is spelt the same."""
_SPACE, _WORD, _LETTER, _SIGN = range(4)
_LAST_KNOWN = 0x323B0
"""Behind it Unicode has no letters (as of version 16)."""
_BATCH_CHARACTERS = 1 << 18
"""So many characters at a time stay near the processor; more gain nothing."""


class Ngrams(Settings):
    """Which n-grams of a text are counted."""

    word_ngrams: int = Field(2, ge=0, le=5)
    """Runs of up to so many words and signs are features; 0 for none."""
    letter_ngrams: int = Field(3, ge=0, le=5)
    """The same for letters of scripts without spaces (Chinese, Japanese, Thai …), each of which counts as a word."""
    piece_ngrams: tuple[int, int] | None = None
    """Pieces of words from so many to so many characters, the word's ends included, are features too: ``[3, 5]``
    helps with inflected languages and misspellings, at a third of the speed. Null for none."""
    buckets: int = Field(1 << 18, ge=1 << 10, le=1 << 24)
    """Columns that the n-grams are hashed to, a power of two. The model takes 4 bytes a bucket and label."""
    max_characters: int = Field(10_000, ge=100)
    """Characters of a document that are looked at, from its start."""

    @field_validator("buckets")
    @classmethod
    def _is_power_of_two(cls, buckets: int) -> int:
        if buckets & (buckets - 1):
            raise ValueError(f"buckets must be a power of two, such as {1 << (buckets.bit_length() - 1)}")
        return buckets

    @field_validator("piece_ngrams")
    @classmethod
    def _is_a_range(cls, pieces: tuple[int, int] | None) -> tuple[int, int] | None:
        if pieces is not None and not 1 <= pieces[0] <= pieces[1] <= 8:
            raise ValueError("give the shortest and the longest piece, from 1 to 8 characters: [3, 5]")
        return pieces


class Counts(NamedTuple):
    """A sparse matrix (texts × buckets), row by row: columns ascending within a row, none twice."""

    starts: NDArray[np.int64]
    """Where each text's entries begin, and where the last one's end; texts + 1 numbers."""
    buckets: NDArray[np.integer]
    counts: NDArray[np.integer]


def counts_of(texts: Sequence[str], ngrams: Ngrams) -> Iterator[Counts]:
    """Counts for a few texts at a time, in their order."""
    for batch in batches(texts, lambda text: min(len(text), ngrams.max_characters), _BATCH_CHARACTERS):
        yield count(batch, ngrams)


def count(texts: Sequence[str], ngrams: Ngrams) -> Counts:
    """How often each hashed n-gram is in each text."""
    codes, text_of = _characters(texts, ngrams.max_characters)
    kinds = _kinds()[np.minimum(codes, _LAST_KNOWN)]
    # White space as one space, so that how a text is laid out does not matter.
    kept = np.ones(len(codes), dtype=bool)
    kept[1:] = (kinds[1:] != _SPACE) | (kinds[:-1] != _SPACE) | (text_of[1:] != text_of[:-1])
    codes, kinds, text_of = np.where(kinds == _SPACE, 32, codes)[kept], kinds[kept], text_of[kept]
    prefix = _prefix_hashes(codes)
    found = [*_runs(prefix, kinds, text_of, ngrams), *_pieces(prefix, kinds, text_of, ngrams.piece_ngrams)]
    bits = ngrams.buckets.bit_length() - 1
    keys = [(text.astype(np.uint64) << np.uint64(bits)) | (hashes >> np.uint64(64 - bits)) for hashes, text in found]
    return _counted(np.concatenate(keys) if keys else np.zeros(0, np.uint64), len(texts), bits)


def _counted(keys: Words, texts: int, bits: int) -> Counts:
    """Equal keys (text, bucket) become one entry."""
    keys.sort()
    new = np.ones(len(keys), dtype=bool)
    new[1:] = keys[1:] != keys[:-1]
    at = np.flatnonzero(new)
    distinct = keys[at]
    bounds = np.arange(texts + 1, dtype=np.uint64) << np.uint64(bits)
    return Counts(
        starts=np.searchsorted(distinct, bounds),
        buckets=(distinct & np.uint64((1 << bits) - 1)).astype(np.int64),
        counts=np.diff(at, append=len(keys)),
    )


def _characters(texts: Sequence[str], most: int) -> tuple[NDArray[np.uint32], NDArray[np.int32]]:
    """Code points of all texts in lower case, each with a space on both sides; and to which text each belongs."""
    lowered = [f" {text[:most].lower()} " for text in texts]
    joined = "".join(lowered)
    codes = np.frombuffer(joined.encode("utf-32-le", "surrogatepass"), dtype="<u4")
    return codes, np.repeat(np.arange(len(texts), dtype=np.int32), [len(text) for text in lowered])


def _runs(
    prefix: Words, kinds: NDArray[np.uint8], text_of: NDArray[np.int32], ngrams: Ngrams
) -> Iterator[tuple[Words, NDArray[np.int32]]]:
    """Hashes of runs of tokens, and the text of each: length by length."""
    alone = kinds >= _LETTER
    word = kinds == _WORD
    begins, ends = word.copy(), word.copy()
    begins[1:] &= ~word[:-1]
    ends[:-1] &= ~word[1:]
    first, last = np.flatnonzero(begins | alone), np.flatnonzero(ends | alone)
    tokens = _mixed((prefix[last + 1] - prefix[first]) * _powers(_INVERSE, len(prefix))[first] ^ _FAMILY["tokens"])
    texts, letters = text_of[first], kinds[first] == _LETTER
    run, unspaced = tokens, letters
    for length in range(1, max(ngrams.word_ngrams, ngrams.letter_ngrams) + 1):
        if length > len(tokens):
            return
        if length > 1:
            run = _mixed(run[:-1] * _JOIN + tokens[length - 1 :])
            unspaced = unspaced[:-1] & letters[length - 1 :]
        wanted = texts[: len(run)] == texts[length - 1 :]
        if length > ngrams.word_ngrams:
            wanted &= unspaced
        if length > ngrams.letter_ngrams:
            wanted &= ~unspaced
        yield run[wanted], texts[: len(run)][wanted]


def _pieces(
    prefix: Words, kinds: NDArray[np.uint8], text_of: NDArray[np.int32], lengths: tuple[int, int] | None
) -> Iterator[tuple[Words, NDArray[np.int32]]]:
    """Hashes of pieces of words with the characters that bound them, and the text of each."""
    if lengths is None:
        return
    within = kinds == _WORD
    for length in range(lengths[0], lengths[1] + 1):
        windows = len(kinds) - length + 1
        if windows <= 0:
            return
        # All but the outermost characters must be of one word; those may be what stands before and behind it.
        inner = np.ones(windows, dtype=bool)
        for offset in range(1, length - 1):
            inner &= within[offset : offset + windows]
        if length < 3:
            inner &= within[:windows] | within[length - 1 :]
        inner &= text_of[:windows] == text_of[length - 1 :]
        at = np.flatnonzero(inner)
        hashes = (prefix[at + length] - prefix[at]) * _powers(_INVERSE, len(prefix))[at]
        yield _mixed(hashes ^ _FAMILY["pieces"] ^ np.uint64(length)), text_of[at]


def _prefix_hashes(codes: NDArray[np.uint32]) -> Words:
    """Polynomial hashes of the first 0, 1, 2 … characters: those of any part follow from two of them."""
    prefix = np.zeros(len(codes) + 1, dtype=np.uint64)
    np.cumsum((codes.astype(np.uint64) + np.uint64(1)) * _powers(_BASE, len(codes)), out=prefix[1:])
    return prefix


def _mixed(hashes: Words) -> Words:
    """Spread every bit over all bits (the finaliser of SplitMix64: Steele, Lea and Flood 2014)."""
    hashes = (hashes ^ (hashes >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    hashes = (hashes ^ (hashes >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return hashes ^ (hashes >> np.uint64(31))


def _powers(base: int, count: int) -> Words:
    """``base`` to the power of 0, 1, 2 …, modulo 2^64."""
    return _powers_up_to(base, max(1 << (count - 1).bit_length(), 1 << 12))[:count]


@lru_cache(maxsize=8)
def _powers_up_to(base: int, count: int) -> Words:
    powers = np.full(count, base, dtype=np.uint64)
    powers[0] = 1
    return np.cumprod(powers, dtype=np.uint64)


@lru_cache(maxsize=1)
def _kinds() -> NDArray[np.uint8]:
    """What each character is, up to the last that Unicode knows as a letter, and what stands for the rest."""
    kinds = np.empty(_LAST_KNOWN + 1, dtype=np.uint8)
    kinds[:] = [_kind(chr(code)) for code in range(_LAST_KNOWN + 1)]
    return kinds


def _kind(character: str) -> int:
    if any(low <= character <= high for low, high in UNSPACED):
        return _LETTER
    category = unicodedata.category(character)
    if category[0] in "LMN":
        return _WORD
    return _SPACE if category[0] in "ZC" else _SIGN


UNSPACED = (
    *(("\u3005", "\u3007"), ("\u3041", "\u3096"), ("\u309d", "\u309f"), ("\u30a1", "\u30fa"), ("\u30fc", "\u30ff")),
    *(("\u31f0", "\u31ff"), ("\u3400", "\u4dbf"), ("\u4e00", "\u9fff"), ("\uf900", "\ufaff"), ("\uff66", "\uff9f")),
    *(("\u0e00", "\u0fff"), ("\u1000", "\u109f"), ("\u1780", "\u17ff"), ("\U00020000", "\U000323af")),
)
"""Letters of scripts written without spaces: Han, kana, Thai, Lao, Tibetan, Burmese, Khmer."""
