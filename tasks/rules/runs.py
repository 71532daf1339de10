"""Runs of n words that a document repeats (Gopher's table A1), as datatrove counts them.

A run is known by a hash made of cumulative sums: with x_i the hash of the i-th word, p_i its place in
the document and B odd, S_i = Σ_{j<i} x_j B^{p_j} (mod 2^64), the run of n words at i is
(S_{i+n} − S_i) B^{−p_i}. So runs of any length cost a few operations per word. Places are counted in
words where a run is its words, in characters where it is its spelling (x_i is then the same sum over
the word's characters).

Most documents repeat little, and a bound shows it: an n-gram is no more frequent than the 2-gram it
begins with, and words in repeated n-grams are in repeated 5-grams too. Only documents that a bound
does not clear are counted out. The bounds err to one side only, so the verdicts are those of the
full count.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tasks.rules.batch import Batch
from tasks.rules.hashes import at_least, first_of, mixed, powers
from tasks.rules.lines import sums


class Runs:
    """The words of some documents, and the runs of them.

    ``hashes``, ``lengths`` (in characters): of each word; ``places``: where it stands in its document;
    ``bounds``: where each document's words begin, and the end.
    """

    def __init__(self, hashes: np.ndarray, places: np.ndarray, lengths: np.ndarray, bounds: np.ndarray) -> None:
        self.hashes, self.places, self.lengths, self.bounds = hashes, places, lengths, bounds
        self.document = np.repeat(np.arange(len(bounds) - 1), np.diff(bounds))
        raised, lowered = powers(int(places.max(initial=0)) + 1)
        self._sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(hashes * raised[places])])
        self._inverse = lowered[places]
        self._characters = np.concatenate([[0], np.cumsum(lengths)])

    @classmethod
    def of_words(cls, batch: Batch) -> Runs:
        """Two runs are equal if their words are."""
        bounds = batch.word_bounds
        places = np.arange(len(batch.words)) - np.repeat(bounds[:-1], np.diff(bounds))
        return cls(mixed(batch.words), places, batch.word_lengths, bounds)

    @classmethod
    def of_spelling(cls, batch: Batch) -> Runs:
        """Two runs are equal if their words are, written together."""
        bounds, lengths = batch.word_bounds, batch.word_lengths
        before = np.concatenate([[0], np.cumsum(lengths)])
        places = before[:-1] - np.repeat(before[bounds[:-1]], np.diff(bounds))
        return cls(batch.spellings, places, lengths, bounds)

    def only(self, documents: np.ndarray) -> Runs:
        """Those of the documents at these indices, which ascend."""
        if len(documents) == len(self.bounds) - 1:
            return self
        chosen = np.zeros(len(self.bounds) - 1, dtype=bool)
        chosen[documents] = True
        kept = chosen[self.document]
        bounds = np.concatenate([[0], np.cumsum(np.diff(self.bounds)[documents])])
        return Runs(self.hashes[kept], self.places[kept], self.lengths[kept], bounds)

    def codes(self, n: int) -> tuple[np.ndarray, np.ndarray]:
        """Where runs of n words begin; and for each a number that equal runs of one document share, uint64."""
        if len(self.hashes) < n:
            return np.zeros(0, np.int64), np.zeros(0, np.uint64)
        codes = (self._sums[n:] - self._sums[:-n]) * self._inverse[: len(self._inverse) - n + 1]
        document = self.document[: len(codes)]
        codes ^= mixed(np.arange(len(self.bounds)))[document]
        starts = np.flatnonzero(document == self.document[n - 1 :])
        return starts, codes if len(starts) == len(codes) else codes[starts]

    def characters(self, starts: np.ndarray, n: int) -> np.ndarray:
        """Characters of runs of n words, those between its words not counted."""
        return self._characters[starts + n] - self._characters[starts]

    # The most frequent run

    def most_in_top_runs(self, shortest: int, lengths: Sequence[tuple[int, int]]) -> list[np.ndarray]:
        """Bounds on :meth:`in_top_run` for several (n, spaces), per document, by runs of ``shortest`` words."""
        starts, codes = self.codes(shortest)
        counts = at_least(codes)
        bounds = []
        for n, spaces in lengths:
            within = starts + n <= self.bounds[1:][self.document[starts]]
            known = starts[within]
            bounds.append(self._most(counts[within] * (self.characters(known, n) + spaces), known))
        return bounds

    def in_top_run(self, n: int, spaces: int) -> np.ndarray:
        """Characters that the most frequent run of n words takes up (the first of several), per document.

        ``spaces`` are the characters between the words of one run. A run that occurs once counts too.
        """
        starts, codes = self.codes(n)
        often = np.bincount(first_of(codes), minlength=len(codes))
        begins = np.flatnonzero(often)
        first, counts = starts[begins], often[begins]
        # Largest count, and of several the one that comes first.
        rank = counts * (len(self.hashes) + 1) + (len(self.hashes) - first)
        is_top = rank == self._most(rank, first)[self.document[first]]
        top, count = first[is_top], counts[is_top]
        made = np.zeros(len(self.bounds) - 1, dtype=np.int64)
        made[self.document[top]] = count * (self.characters(top, n) + spaces)
        return made

    def _most(self, values: np.ndarray, starts: np.ndarray) -> np.ndarray:
        """The largest value in each document, 0 of none; each value stands for a start, and these ascend."""
        most = np.zeros(len(self.bounds) - 1, dtype=np.int64)
        edges = np.searchsorted(starts, self.bounds)
        filled = np.diff(edges) > 0
        if len(values):
            most[filled] = np.maximum.reduceat(values, edges[:-1][filled])
        return most

    # Runs that stood before

    def most_in_repeated_runs(self, shortest: int) -> np.ndarray:
        """A bound on :meth:`in_repeated_runs` for all n from ``shortest`` on, per document."""
        starts, codes = self.codes(shortest)
        again = starts[first_of(codes) != np.arange(len(codes))]
        edges = np.zeros(len(self.hashes) + 1, dtype=np.int64)
        edges[again] = 1
        edges[: len(self.hashes)] -= np.bincount(again + shortest, minlength=len(edges))[: len(self.hashes)]
        covered = np.cumsum(edges[:-1]) > 0
        return sums(np.where(covered, self.lengths, 0), self.bounds)

    def in_repeated_runs(self, n: int, enough: np.ndarray | None = None) -> np.ndarray:
        """Characters of runs of n words that stood before, per document.

        Runs are read one after the other; behind one that stood before, reading goes on with the word
        after it, so that no word counts twice. A document is not read to its end once more than
        ``enough`` characters have been found.
        """
        starts, codes = self.codes(n)
        first = first_of(codes)
        again = np.flatnonzero(first != np.arange(len(first)))
        starts, first, codes = starts[again], starts[first[again]], codes[again]
        reading = _Reading(
            starts.tolist(), first.tolist(), codes.tolist(), self.characters(starts, n).tolist(),
            np.searchsorted(starts, starts + n).tolist(), bytearray(len(self.hashes)), n,
        )  # fmt: skip
        ends = np.searchsorted(starts, self.bounds).tolist()
        made = np.zeros(len(self.bounds) - 1, dtype=np.int64)
        for document in np.flatnonzero(np.diff(ends)).tolist():
            limit = float(enough[document]) if enough is not None else float("inf")
            made[document] = reading.of(ends[document], ends[document + 1], limit)
        return made


@dataclass(frozen=True)
class _Reading:
    """The runs that are not the first of their kind, in order, to be read one after the other."""

    starts: list[int]
    firsts: list[int]
    """Where the first run of this kind begins."""
    codes: list[int]
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
            if self.jumped[self.firsts[at]] and self.codes[at] not in read:
                read.add(self.codes[at])
                at += 1
                continue
            found += self.characters[at]
            start = self.starts[at]
            self.jumped[start + 1 : start + self.n] = bytes([1]) * (self.n - 1)
            at = self.behind[at]
        return found
