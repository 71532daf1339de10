"""An index of the word n-grams of evaluation sets: found by 64-bit hashes, verified word by word.

Words are numbered by the evaluation sets' own vocabulary, so a document's word that no set has is
known at once, and only windows of known words are hashed at all. The hash of a window is a
polynomial in its words' hashes modulo 2^64, worked out for all windows of a batch together.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import count
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from storage.corpus import read_table, write_table
from tasks.copies.shingles import mixed
from tasks.overlap.items import Item

Numbers = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]

MOST_SETS = 64
"""The sets that hold an n-gram are the bits of one number."""
_FACTOR = np.uint64(0x9E3779B97F4A7C15)
_FILTER_BITS = (16, 26)
"""Least and most bits of the hash that the first test looks at: a table of 64 KB to 64 MB."""
_ENTRIES_PER_GRAM = 8
"""Size of that table relative to the n-grams: one window in eight that is none passes it by chance."""


@dataclass(frozen=True)
class Matches:
    """Windows of words that are n-grams of an evaluation set."""

    starts: Numbers
    """Where each window begins, sorted."""
    lengths: Numbers
    """Its words."""
    grams: Numbers
    """The number of the n-gram in the index."""
    sets: Hashes
    """Bit i: set i has it."""

    def __len__(self) -> int:
        return len(self.starts)

    def where(self, mask: npt.NDArray[np.bool_]) -> Matches:
        return Matches(self.starts[mask], self.lengths[mask], self.grams[mask], self.sets[mask])

    def between(self, start: int, end: int) -> Matches:
        """Those that begin at ``start`` or later and before ``end``, counted from there."""
        first, last = np.searchsorted(self.starts, [start, end])
        part = slice(first, last)
        return Matches(self.starts[part] - start, self.lengths[part], self.grams[part], self.sets[part])


@dataclass(frozen=True)
class _Grams:
    """The distinct n-grams of one length."""

    length: int
    hashes: Hashes
    """Sorted."""
    places: Numbers
    """Where in the stream of words each occurs first."""
    sets: Hashes


class NgramIndex:
    """N-grams of evaluation sets: of ``words`` words, and shorter items whole, from ``shortest`` words on."""

    def __init__(self, folder: Path) -> None:
        """Open what :meth:`build` wrote; arrays are memory-mapped."""
        self.folder = folder
        described = json.loads((folder / "index.json").read_text())
        vocabulary = read_table(folder / "vocabulary.parquet")["word"].to_pylist()
        self.numbers: dict[str, int] = {word: number for number, word in enumerate(vocabulary)}
        self._word_hashes = _word_hashes(len(vocabulary) + 1, described["salt"])
        self._stream: Numbers = np.load(folder / "stream.npy", mmap_mode="r")
        self._item_ends: Numbers = np.load(folder / "item_ends.npy")
        self._groups = [
            _Grams(length, *(np.load(folder / f"{length}-{part}.npy", mmap_mode="r") for part in _PARTS))
            for length in described["lengths"]
        ]
        self._first_gram = np.cumsum([0, *(len(group.hashes) for group in self._groups)])

    @classmethod
    def build(cls, folder: Path, sets: Sequence[Iterable[Item]], words: int, shortest: int) -> list[dict[str, int]]:
        """Write the index; returns for every set its ``items``, and how many are ``too_short`` to be looked for."""
        folder.mkdir(parents=True, exist_ok=True)
        numbers: dict[str, int] = {}
        stream: list[Numbers] = []
        owners: list[int] = []
        texts: list[str] = []
        counts = []
        for owner, items in enumerate(sets):
            met = {"items": 0, "too_short": 0}
            for item in items:
                long_enough = len(item.words) >= min(words, shortest)
                met["items" if long_enough else "too_short"] += 1
                if long_enough:
                    row = [numbers.setdefault(word, len(numbers)) for word in item.words]
                    stream.append(np.array(row, np.int64))
                    owners.append(owner)
                    texts.append(item.text)
            counts.append(met)
        lengths = np.array([len(row) for row in stream], np.int64)
        together = np.concatenate(stream) if stream else np.empty(0, np.int64)
        salt, groups = _groups_without_collision(together, lengths, np.array(owners, np.int64), words, len(numbers))
        write_table(pa.table({"word": pa.array(list(numbers), pa.string())}), folder / "vocabulary.parquet")
        write_table(pa.table({"text": pa.array(texts, pa.string())}), folder / "texts.parquet")
        np.save(folder / "stream.npy", together)
        np.save(folder / "item_ends.npy", np.cumsum(lengths))
        for group in groups:
            for part in _PARTS:
                np.save(folder / f"{group.length}-{part}.npy", getattr(group, part))
        described = {"salt": salt, "lengths": [group.length for group in groups]}
        (folder / "index.json").write_text(json.dumps(described))
        return counts

    @property
    def size(self) -> int:
        """Number of distinct n-grams."""
        return int(self._first_gram[-1])

    @property
    def unknown(self) -> int:
        """The number of every word that no evaluation set has."""
        return len(self.numbers)

    def numbered(self, words: Sequence[str]) -> Numbers:
        """The words by their numbers, followed by one unknown word, so that texts can be put in a row."""
        get, unknown = self.numbers.get, self.unknown
        row = np.fromiter((get(word, unknown) for word in words), np.int64, len(words))
        return np.append(row, unknown)

    def matches(self, numbers: Numbers) -> Matches:
        """Every window of these words that is an n-gram of the index, which must not be empty."""
        known_ahead = _known_ahead(numbers, self.unknown)
        found = [self._matches_of(at, numbers, known_ahead) for at in range(len(self._groups))]
        starts, lengths, grams, sets = (np.concatenate(column) for column in zip(*found, strict=True))
        order = np.lexsort((lengths, starts))
        return Matches(starts[order], lengths[order], grams[order], sets[order])

    def _matches_of(self, at: int, numbers: Numbers, known_ahead: Numbers) -> tuple[Numbers, Numbers, Numbers, Hashes]:
        group = self._groups[at]
        starts = np.flatnonzero(known_ahead >= group.length)
        hashes = _hashes_at(self._word_hashes[numbers], starts, group.length)
        table = self._filters[at]
        passed = table[(hashes & np.uint64(len(table) - 1)).astype(np.int64)]
        starts, hashes = starts[passed], hashes[passed]
        entries = np.minimum(np.searchsorted(group.hashes, hashes), len(group.hashes) - 1)
        same = group.hashes[entries] == hashes
        starts, entries = starts[same], entries[same]
        same = _equal_windows(numbers, starts, self._stream, group.places[entries], group.length)
        starts, entries = starts[same], entries[same].astype(np.int64)
        return starts, np.full(len(starts), group.length), entries + self._first_gram[at], group.sets[entries]

    def item_with(self, gram: int) -> str:
        """The text of the first item that has this n-gram."""
        at = int(np.searchsorted(self._first_gram, gram, side="right")) - 1
        place = self._groups[at].places[gram - self._first_gram[at]]
        item = int(np.searchsorted(self._item_ends, place, side="right"))
        return str(self._texts[item])

    @cached_property
    def _texts(self) -> pa.ChunkedArray:
        return read_table(self.folder / "texts.parquet")["text"]

    @cached_property
    def _filters(self) -> list[npt.NDArray[np.bool_]]:
        """Per length, whether an n-gram ends in these bits: most windows that are none fail here."""
        tables = []
        for group in self._groups:
            bits = int(np.clip(np.ceil(np.log2(len(group.hashes) * _ENTRIES_PER_GRAM)), *_FILTER_BITS))
            table = np.zeros(2**bits, np.bool_)
            table[(group.hashes & np.uint64(2**bits - 1)).astype(np.int64)] = True
            tables.append(table)
        return tables


_PARTS = ("hashes", "places", "sets")


def _word_hashes(count: int, salt: int) -> Hashes:
    return mixed(np.arange(1, count + 1, dtype=np.uint64) + np.uint64(salt) * _FACTOR)


def _groups_without_collision(
    stream: Numbers, lengths: Numbers, owners: Numbers, words: int, vocabulary: int
) -> tuple[int, list[_Grams]]:
    """The n-grams by length, hashed with the first salt that keeps different ones apart."""
    for salt in count():
        groups = _groups_of(stream, lengths, owners, words, _word_hashes(vocabulary, salt))
        if groups is not None:
            return salt, groups
    raise AssertionError("unreachable")


def _groups_of(
    stream: Numbers, lengths: Numbers, owners: Numbers, words: int, word_hashes: Hashes
) -> list[_Grams] | None:
    """The n-grams by length, or None if two of them have one hash."""
    item_starts = np.cumsum(lengths) - lengths
    gram_lengths = np.minimum(lengths, words)
    groups = []
    for length in np.unique(gram_lengths).tolist():
        of_length = np.flatnonzero(gram_lengths == length)
        windows = lengths[of_length] - length + 1
        offsets = np.arange(windows.sum()) - np.repeat(np.cumsum(windows) - windows, windows)
        places = np.repeat(item_starts[of_length], windows) + offsets
        bits = np.uint64(1) << np.repeat(owners[of_length], windows).astype(np.uint64)
        hashes = _hashes_at(word_hashes[stream], places, length)
        order = np.argsort(hashes, kind="stable")
        hashes, first, which = np.unique(hashes[order], return_index=True, return_inverse=True)
        representatives = places[order][first]
        if not _equal_windows(stream, places[order], stream, representatives[which], length).all():
            return None
        groups.append(_Grams(length, hashes, representatives, np.bitwise_or.reduceat(bits[order], first)))
    return groups


def _hashes_at(words: Hashes, starts: Numbers, length: int) -> Hashes:
    """The hash of each window of ``length`` words: overflow is meant."""
    hashes = np.zeros(len(starts), np.uint64)
    for offset in range(length):
        hashes = hashes * _FACTOR + words[starts + offset]
    return mixed(hashes)


def _equal_windows(
    first: Numbers, starts: Numbers, second: Numbers, places: Numbers, length: int
) -> npt.NDArray[np.bool_]:
    """Whether the windows of two sequences of words are the same, pair by pair."""
    same = np.ones(len(starts), np.bool_)
    for offset in range(length):
        same &= first[starts + offset] == second[places + offset]
    return same


def _known_ahead(numbers: Numbers, unknown: int) -> Numbers:
    """For every position, how many known words there are from it on before an unknown one, or the end."""
    positions = np.arange(len(numbers))
    stops = np.where(numbers == unknown, positions, len(numbers))
    return np.minimum.accumulate(stops[::-1])[::-1] - positions
