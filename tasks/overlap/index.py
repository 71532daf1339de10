"""An index of the word n-grams of evaluation sets: found by 64-bit hashes, verified word by word.

The hash of a window is a polynomial in its words' hashes modulo 2^64 (whose bits are well mixed, so
the window's are), worked out for all windows of a batch of texts together. A window that is found
is compared as text, so nothing is found that is not there; something would be missed only if two
n-grams of the sets had one hash (of ten million: a chance of 3 in a million).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from storage.corpus import read_table, write_table
from tasks.batches import batches
from tasks.copies.characters import BATCH_CHARACTERS, Characters
from tasks.copies.shingles import Words
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
    """Windows of a text's words that are n-grams of an evaluation set, in the order in which they begin."""

    starts: Numbers
    """The number of each window's first word."""
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


@dataclass(frozen=True)
class _Grams:
    """The distinct n-grams of one length."""

    length: int
    hashes: Hashes
    """Sorted."""
    places: Numbers
    """Where in the row of all items' words each occurs first."""
    sets: Hashes
    first: int = 0
    """The number of the first of them in the index."""

    @cached_property
    def filter(self) -> npt.NDArray[np.bool_]:
        """Whether an n-gram ends in these bits: most windows that are none fail here."""
        bits = int(np.clip(np.ceil(np.log2(len(self.hashes) * _ENTRIES_PER_GRAM)), *_FILTER_BITS))
        table = np.zeros(2**bits, np.bool_)
        table[(self.hashes & np.uint64(2**bits - 1)).astype(np.int64)] = True
        return table

    def find(self, hashes: Hashes, room: Numbers) -> tuple[Numbers, Numbers]:
        """Windows whose hash is that of an n-gram, and the n-gram's number among these; ``room`` is words ahead."""
        starts = np.flatnonzero(self.filter[(hashes & np.uint64(len(self.filter) - 1)).astype(np.int64)])
        starts = starts[room[starts] >= self.length]
        entries = np.minimum(np.searchsorted(self.hashes, hashes[starts]), len(self.hashes) - 1)
        same = self.hashes[entries] == hashes[starts]
        return starts[same], entries[same]


_PARTS = ("hashes", "places", "sets")


class NgramIndex:
    """N-grams of evaluation sets: of so many words, and shorter items whole."""

    def __init__(self, folder: Path) -> None:
        """Open what :meth:`build` wrote; arrays are memory-mapped."""
        self.folder = folder
        self._item_ends: Numbers = np.load(folder / "item_ends.npy")
        self._groups: dict[int, _Grams] = {}
        self.size = 0
        """Number of distinct n-grams."""
        for length in json.loads((folder / "lengths.json").read_text()):
            hashes, places, bits = (np.load(folder / f"{length}-{part}.npy", mmap_mode="r") for part in _PARTS)
            self._groups[length] = _Grams(length, hashes, places, bits, self.size)
            self.size += len(self._groups[length].hashes)

    @classmethod
    def build(cls, folder: Path, sets: Sequence[Iterable[Item]], words: int, shortest: int) -> list[dict[str, int]]:
        """Write the index of n-grams of ``words`` words, and of items from ``shortest`` words on.

        Returns for every set how many of its documents or examples are looked for (``items``), and
        how many have no text of enough words (``too_short``).
        """
        folder.mkdir(parents=True, exist_ok=True)
        kept: list[Item] = []
        owners: list[int] = []
        counts = []
        for owner, items in enumerate(sets):
            met: set[int] = set()
            taken: set[int] = set()
            for item in items:
                met.add(item.number)
                if len(item.words) >= shortest:
                    taken.add(item.number)
                    kept.append(item)
                    owners.append(owner)
            counts.append({"items": len(taken), "too_short": len(met - taken)})
        hashes, texts, lengths = _hashed([" ".join(item.words) for item in kept])
        write_table(pa.table({"word": pa.array(texts, pa.string())}), folder / "words.parquet")
        write_table(pa.table({"text": pa.array([item.text for item in kept], pa.string())}), folder / "texts.parquet")
        np.save(folder / "item_ends.npy", np.cumsum(lengths))
        groups = _groups_of(hashes, lengths, np.array(owners, np.int64), words)
        for group in groups:
            for part in _PARTS:
                np.save(folder / f"{group.length}-{part}.npy", getattr(group, part))
        (folder / "lengths.json").write_text(json.dumps([group.length for group in groups]))
        return counts

    def matches(self, texts: Sequence[str]) -> Iterator[Matches]:
        """For every text the windows that are n-grams of the index."""
        for batch in batches(texts, len, BATCH_CHARACTERS):
            characters = Characters.normalised(batch)
            words = Words.of(characters)
            found = self._matches_of(characters, words)
            bounds = np.searchsorted(found.starts, words.starts)
            for number in range(len(batch)):
                part = slice(bounds[number], bounds[number + 1])
                starts = found.starts[part] - words.starts[number]
                yield Matches(starts, found.lengths[part], found.grams[part], found.sets[part])

    def _matches_of(self, characters: Characters, words: Words) -> Matches:
        """The windows of all texts in a row, none of which reaches into the next text."""
        count, longest = len(words.hashes), max(self._groups, default=0)
        room = np.repeat(words.starts[1:], np.diff(words.starts)) - np.arange(count)
        padded = np.concatenate([words.hashes, np.zeros(longest, np.uint64)])
        rolled = np.zeros(count, np.uint64)
        none = np.empty(0, np.int64)
        parts: list[tuple[Numbers, Numbers, Numbers, Hashes]] = [(none, none, none, none.astype(np.uint64))]
        for length in range(1, longest + 1):
            rolled *= _FACTOR
            rolled += padded[length - 1 : length - 1 + count]
            group = self._groups.get(length)
            if group is None:
                continue
            starts, entries = group.find(rolled, room)
            if len(starts):
                same = self._same_words(characters, words, starts, group.places[entries], length)
                starts, entries = starts[same], entries[same]
                parts.append((starts, np.full(len(starts), length), group.first + entries, group.sets[entries]))
        starts, lengths, grams, sets = (np.concatenate(column) for column in zip(*parts, strict=True))
        order = np.lexsort((lengths, starts))
        return Matches(starts[order], lengths[order], grams[order], sets[order])

    def _same_words(
        self, characters: Characters, words: Words, starts: Numbers, places: Numbers, length: int
    ) -> npt.NDArray[np.bool_]:
        """Whether windows of the texts' words are those at ``places`` in the items: as text, each word once."""
        numbers: dict[str, int] = {}
        sides = []
        for first, texts_at in (
            (starts, lambda at: _texts_of(characters, words, at)),
            (places, lambda at: self._words.take(pa.array(at)).to_pylist()),
        ):
            at, which = np.unique(first[:, None] + np.arange(length), return_inverse=True)
            numbered = np.array([numbers.setdefault(text, len(numbers)) for text in texts_at(at)], np.int64)
            sides.append(numbered[which].reshape(len(first), length))
        return np.asarray((sides[0] == sides[1]).all(axis=1))

    def item_with(self, gram: int) -> str:
        """The text of the first item that has this n-gram."""
        group = next(group for group in self._groups.values() if gram < group.first + len(group.hashes))
        place = group.places[gram - group.first]
        return str(self._texts[int(np.searchsorted(self._item_ends, place, side="right"))])

    @cached_property
    def _words(self) -> pa.ChunkedArray:
        return read_table(self.folder / "words.parquet")["word"]

    @cached_property
    def _texts(self) -> pa.ChunkedArray:
        return read_table(self.folder / "texts.parquet")["text"]


def _hashed(texts: Sequence[str]) -> tuple[Hashes, list[str], Numbers]:
    """Hashes and texts of the words of normalised texts, in a row, and how many words each text has."""
    hashes: list[Hashes] = []
    strings: list[str] = []
    lengths: list[Numbers] = []
    for batch in batches(texts, len, BATCH_CHARACTERS):
        characters = Characters.of(batch)
        words = Words.of(characters)
        hashes.append(words.hashes)
        strings += _texts_of(characters, words, np.arange(len(words.hashes)))
        lengths.append(np.diff(words.starts))
    empty = np.empty(0, np.int64)
    return np.concatenate([empty.astype(np.uint64), *hashes]), strings, np.concatenate([empty, *lengths])


def _texts_of(characters: Characters, words: Words, numbers: Numbers) -> list[str]:
    """The words with these numbers, as text."""
    spans = zip(words.begins[numbers].tolist(), words.ends[numbers].tolist(), strict=True)
    return [characters.folded[start:end].tobytes().decode("utf-32-le", "surrogatepass") for start, end in spans]


def _groups_of(words: Hashes, lengths: Numbers, owners: Numbers, most: int) -> list[_Grams]:
    """The n-grams of items with these words and numbers of words: of ``most`` words, shorter items whole."""
    item_starts = np.cumsum(lengths) - lengths
    gram_lengths = np.minimum(lengths, most)
    groups = []
    for length in np.unique(gram_lengths[gram_lengths > 0]).tolist():
        of_length = np.flatnonzero(gram_lengths == length)
        windows = lengths[of_length] - length + 1
        offsets = np.arange(windows.sum()) - np.repeat(np.cumsum(windows) - windows, windows)
        places = np.repeat(item_starts[of_length], windows) + offsets
        bits = np.uint64(1) << np.repeat(owners[of_length], windows).astype(np.uint64)
        hashes = np.zeros(len(places), np.uint64)
        for offset in range(length):
            hashes *= _FACTOR
            hashes += words[places + offset]
        order = np.argsort(hashes, kind="stable")
        distinct, first = np.unique(hashes[order], return_index=True)
        groups.append(_Grams(length, distinct, places[order][first], np.bitwise_or.reduceat(bits[order], first)))
    return groups
