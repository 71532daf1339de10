"""Runs of n words that a document repeats (Gopher's table A1), as datatrove counts them.

A run is known by a hash made of the hashes of its halves: h(uv) = h(u) + f(u) h(v) (mod 2^64). Two
runs of the same *words* are equal with f a power of a constant for the number of words in u. Two runs
of the same *spelling* (their words written together) are equal with f(u) = B^(characters of u), since the
hash of a word is itself such a sum over its characters (see :mod:`tasks.rules.hashes`).

Most documents repeat little, and a bound shows it: an n-gram is no more frequent than the 2-gram it
begins with, and words in repeated n-grams are in repeated 5-grams too. Only documents that a bound
does not clear are counted out. The bounds err to one side only, so the verdicts are those of the
full count.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from storage.mixing import mixed
from tasks.rules.batch import Batch
from tasks.rules.hashes import BASE, counts_at_least, powers, repeats
from tasks.rules.segments import running, sums

_FACTOR = np.uint64(0xD1342543DE82EF95)
"""Any odd number but B: with that, the letters of one word could stand for those of the next."""


class Runs:
    """The words of some documents, and the runs of them.

    ``hashes`` (uint64, of the spelling), ``lengths`` (in characters): of each word; ``bounds``: where each
    document's words begin, and the end. What is said of a word is said of the run that begins with it; a
    run that would go beyond its document is none.
    """

    def __init__(self, hashes: np.ndarray, lengths: np.ndarray, bounds: np.ndarray) -> None:
        self.hashes, self.lengths, self.bounds = hashes, lengths, bounds
        self._folded: dict[tuple[bool, int], tuple[np.ndarray, np.ndarray | np.uint64]] = {}
        self._known: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    @classmethod
    def of(cls, batch: Batch) -> Runs:
        """The words of a batch's documents."""
        return cls(batch.spellings, batch.word_lengths, batch.word_bounds)

    def only(self, documents: np.ndarray) -> Runs:
        """Those of the documents at these indices, which ascend."""
        if len(documents) == len(self.bounds) - 1:
            return self
        counts = np.diff(self.bounds)
        chosen = np.zeros(len(counts), dtype=bool)
        chosen[documents] = True
        kept = np.repeat(chosen, counts).nonzero()[0]
        bounds = running(counts[documents])
        return Runs(self.hashes.take(kept), self.lengths.take(kept), bounds)

    def __len__(self) -> int:
        """Words of all the documents."""
        return len(self.hashes)

    @cached_property
    def _characters(self) -> np.ndarray:
        """Characters before each word, and of all."""
        return running(self.lengths)

    def characters(self, starts: np.ndarray, n: int) -> np.ndarray:
        """Characters of runs of n words, those between its words not counted."""
        return self._characters[starts + n] - self._characters[starts]

    # Hashes of runs

    def _fold(self, n: int, spelled: bool) -> tuple[np.ndarray, np.ndarray | np.uint64]:
        """h and f of the n words from each word on, as far as there are so many words; uint64."""
        known = self._folded.get((spelled, n))
        if known is None:
            if n == 1:
                factors = powers(int(self.lengths.max(initial=0)) + 1)[0].take(self.lengths) if spelled else _FACTOR
                known = self.hashes, factors
            else:
                front = n - 1 if (spelled, n - 1) in self._folded else n // 2
                known = _joined(self._fold(front, spelled), self._fold(n - front, spelled), front)
            self._folded[spelled, n] = known
        return known

    def _codes(self, n: int, spelled: bool) -> np.ndarray:
        """A number that equal runs share; one of its own for what is no run. uint64, per word."""
        codes = np.empty(len(self), dtype=np.uint64)
        if len(self) >= n:
            codes[: len(self) - n + 1] = self._fold(n, spelled)[0]
        beyond = self._beyond(n)
        codes[beyond] = mixed(beyond.astype(np.uint64) + BASE)
        return codes

    def _beyond(self, n: int) -> np.ndarray:
        """Words less than n words before the end of their document."""
        places = self.bounds[1:, None] - np.arange(1, n)
        return places[places >= self.bounds[:-1, None]]

    # The most frequent run

    def most_in_top_runs(self, lengths: Sequence[tuple[int, int]]) -> list[np.ndarray]:
        """For each of the lengths (n, spaces) a bound on :meth:`in_top_run`, per document.

        By how often the shortest of the runs occur, those that share a slot of a table counted together.
        """
        counts = counts_at_least(self._codes(min(n for n, _ in lengths), spelled=False), self.bounds)
        bounds = []
        for n, spaces in lengths:
            values = np.zeros(len(self), dtype=np.int64)
            if n <= len(self):
                values[: len(self) - n + 1] = self._characters[n:] - self._characters[:-n] + spaces
            values *= counts
            values[self._beyond(n)] = 0
            bounds.append(self._most(values))
        return bounds

    def in_top_run(self, n: int, spaces: int) -> np.ndarray:
        """Characters that the most frequent run of n words takes up (the first of several), per document.

        ``spaces`` are the characters between the words of one run. A run that occurs once counts too.
        """
        often = np.bincount(repeats(self._codes(n, spelled=False), self.bounds)[1], minlength=len(self))
        often[np.flatnonzero(often)] += 1
        begins = self.bounds[:-1][np.diff(self.bounds) >= n]
        often[begins] = np.maximum(often[begins], 1)
        # Largest count, and of several the one that comes first.
        most = self._most(often * (len(self) + 1) + np.arange(len(self), 0, -1))
        count, top = most // (len(self) + 1), len(self) - most % (len(self) + 1)
        made, found = np.zeros(len(count), dtype=np.int64), np.flatnonzero(count)
        made[found] = count[found] * (self.characters(top[found], n) + spaces)
        return made

    def _most(self, values: np.ndarray) -> np.ndarray:
        """The largest value in each document, 0 of none."""
        most = np.zeros(len(self.bounds) - 1, dtype=np.int64)
        filled = np.flatnonzero(np.diff(self.bounds))
        if len(filled):
            most[filled] = np.maximum.reduceat(values, self.bounds[filled])
        return most

    # Runs that stood before

    def _repeated(self, n: int) -> tuple[np.ndarray, np.ndarray]:
        """The runs of the same spelling as an earlier one, and for each the first such run; both int64."""
        if n not in self._known:
            self._known[n] = repeats(self._codes(n, spelled=True), self.bounds)
        return self._known[n]

    def most_in_repeated_runs(self, n: int) -> np.ndarray:
        """A bound on :meth:`in_repeated_runs` for this n, per document: characters of all words in such runs."""
        covered = np.zeros(len(self) + n, dtype=bool)
        starts = self._repeated(n)[0]
        for step in range(n):
            covered[starts + step] = True
        return sums(self.lengths * covered[: len(self)], self.bounds)

    def in_repeated_runs(self, n: int, documents: np.ndarray, enough: np.ndarray) -> np.ndarray:
        """Characters of runs of n words that stood before, for each of the documents at these indices.

        Runs are read one after the other; behind one that stood before, reading goes on with the word
        after it, so that no word counts twice. A document is not read to its end once more than
        ``enough`` characters (float64, for each) have been found.
        """
        starts, first = self._repeated(n)
        reading = _Reading(
            starts.tolist(), first.tolist(), self.characters(starts, n).tolist(),
            np.searchsorted(starts, starts + n).tolist(), bytearray(len(self)), n,
        )  # fmt: skip
        ends = np.searchsorted(starts, self.bounds)
        places = zip(ends[documents].tolist(), ends[documents + 1].tolist(), enough.tolist(), strict=True)
        return np.array([reading.of(begin, end, limit) for begin, end, limit in places], dtype=np.int64)


def _joined(
    one: tuple[np.ndarray, np.ndarray | np.uint64], other: tuple[np.ndarray, np.ndarray | np.uint64], size: int
) -> tuple[np.ndarray, np.ndarray | np.uint64]:
    """h and f of runs of which the first ``size`` words are one's, and the others the other's."""
    codes, factors = other[0][size:], other[1]
    if isinstance(one[1], np.ndarray) and isinstance(factors, np.ndarray):
        factors = factors[size:]
        before = one[1][: len(codes)]
        return one[0][: len(codes)] + before * codes, before * factors
    with np.errstate(over="ignore"):
        return one[0][: len(codes)] + one[1] * codes, one[1] * factors


@dataclass(frozen=True)
class _Reading:
    """The runs that are not the first of their kind, in order, to be read one after the other."""

    starts: list[int]
    firsts: list[int]
    """Where the first run of this kind begins."""
    characters: list[int]
    behind: list[int]
    """Index of the next that begins where this one ends, or later."""
    jumped: bytearray
    """Words at which no run was read, because one that stood before covers them."""
    n: int

    def of(self, begin: int, end: int, enough: float) -> int:
        """Characters in those from index ``begin`` to ``end``, until there are ``enough``."""
        found, at = 0, begin
        read: set[int] = set()
        while at < end and found <= enough:
            if self.jumped[self.firsts[at]] and self.firsts[at] not in read:
                read.add(self.firsts[at])
                at += 1
                continue
            found += self.characters[at]
            start = self.starts[at]
            self.jumped[start + 1 : start + self.n] = bytes([1]) * (self.n - 1)
            at = self.behind[at]
        return found
