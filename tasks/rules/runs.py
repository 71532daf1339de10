"""Runs of n words that a document repeats (Gopher's table A1), as datatrove counts them.

A run is known by a hash of its words, made of cumulative sums: with x_i a random number for the
i-th word and B odd, S_i = Σ_{j<i} x_j B^j (mod 2^64), the run of n words at i is (S_{i+n} − S_i) B^{−i}.
So runs of any length cost a few operations per word.

Most documents repeat little, and a bound shows it: an n-gram is no more frequent than the 2-gram it
begins with, and words in repeated n-grams are in repeated 5-grams too. Only documents that a bound
does not clear are counted out. The bounds are exact in one direction (a table of counts by hash can
only count too many), so the verdicts are those of the full count.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tasks.rules.batch import Batch, sums

_BASE = np.uint64(0x9E3779B97F4A7C15)
_INVERSE = np.uint64(pow(0x9E3779B97F4A7C15, -1, 2**64))


def _mixed(numbers: np.ndarray) -> np.ndarray:
    """Whole numbers → pseudo-random 64-bit ones (the finaliser of SplitMix64, Steele et al. 2014)."""
    mixed = numbers.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def _powers(base: np.uint64, count: int) -> np.ndarray:
    made = np.full(count, base, dtype=np.uint64)
    made[:1] = 1
    return np.multiply.accumulate(made)


class Runs:
    """The words of some documents, and the runs among them.

    ``words``: a number for each word; ``lengths``: its characters; ``bounds``: where each document's
    words begin, and the end; ``pieces_per_word``: by what a run's n is multiplied, per document.
    """

    def __init__(self, words: np.ndarray, lengths: np.ndarray, bounds: np.ndarray, pieces_per_word: np.ndarray) -> None:
        self.words, self.lengths, self.bounds, self.pieces_per_word = words, lengths, bounds, pieces_per_word
        count = len(words)
        self._document = np.repeat(np.arange(len(bounds) - 1), np.diff(bounds))
        self._sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(_mixed(words) * _powers(_BASE, count))])
        self._inverse = _powers(_INVERSE, count)
        self._characters = np.concatenate([[0], np.cumsum(lengths)])

    @classmethod
    def of(cls, batch: Batch) -> Runs:
        return cls(batch.words, batch.word_lengths, batch.word_bounds, batch.pieces_per_word)

    def only(self, documents: np.ndarray) -> Runs:
        """Those of the documents at these indices."""
        chosen = np.zeros(len(self.bounds) - 1, dtype=bool)
        chosen[documents] = True
        kept = chosen[self._document]
        bounds = np.concatenate([[0], np.cumsum(np.diff(self.bounds)[documents])])
        return Runs(self.words[kept], self.lengths[kept], bounds, self.pieces_per_word[documents])

    def sizes(self, n: int) -> np.ndarray:
        """Pieces in a run of n words, per document."""
        return np.maximum(1, np.rint(n * self.pieces_per_word)).astype(np.int64)

    def starts(self, n: int) -> np.ndarray:
        """Where runs of n words begin."""
        last = self.bounds[1:] - self.sizes(n)
        return np.flatnonzero(np.arange(len(self.words)) <= last[self._document])

    def codes(self, starts: np.ndarray, n: int) -> np.ndarray:
        """A number for each run of n words that equal runs of one document share; uint64."""
        document = self._document[starts]
        ends = starts + self.sizes(n)[document]
        run = (self._sums[ends] - self._sums[starts]) * self._inverse[starts]
        return run ^ _mixed(document)

    def characters(self, starts: np.ndarray, n: int) -> np.ndarray:
        """Characters of each run of n words, those between its words not counted."""
        return self._characters[starts + self.sizes(n)[self._document[starts]]] - self._characters[starts]

    def _between(self, starts: np.ndarray, n: int) -> np.ndarray:
        """Spaces within a run: none in scripts without spaces."""
        return np.where(self.pieces_per_word[self._document[starts]] == 1, n - 1, 0)

    # The most frequent run

    def most_in_top_run(self, lengths: Mapping[int, float]) -> dict[int, np.ndarray]:
        """n → a bound on :meth:`in_top_run`, for each document."""
        if not lengths:
            return {}
        shortest = min(lengths)
        starts = self.starts(shortest)
        counts = np.zeros(len(self.words) + 1, dtype=np.int64)
        counts[starts] = _at_least(self.codes(starts, shortest))
        found = {}
        for n in lengths:
            starts = self.starts(n)
            values = counts[starts] * (self.characters(starts, n) + self._between(starts, n))
            found[n] = self._most(values, starts)
        return found

    def in_top_run(self, n: int) -> np.ndarray:
        """Characters that the most frequent run of n words takes up (the first of several), per document.

        Words in a run are joined by spaces, as datatrove does; a run that occurs once counts too.
        """
        starts = self.starts(n)
        codes = self.codes(starts, n)
        order = np.argsort(codes, kind="stable")
        begins = np.flatnonzero(np.concatenate([[True], np.diff(codes[order]) != 0])) if len(order) else order
        counts = np.diff(np.concatenate([begins, [len(order)]]))
        first = starts[order[begins]]
        # Largest count, and of several the one that comes first.
        rank = counts * (len(self.words) + 1) + (len(self.words) - first)
        best = self._most(rank, first)
        is_top = rank == best[self._document[first]]
        top, count = first[is_top], counts[is_top]
        made = np.zeros(len(self.bounds) - 1, dtype=np.int64)
        made[self._document[top]] = count * (self.characters(top, n) + self._between(top, n))
        return made

    def _most(self, values: np.ndarray, starts: np.ndarray) -> np.ndarray:
        """The largest value in each document; 0 of none."""
        most = np.zeros(len(self.bounds) - 1, dtype=np.int64)
        np.maximum.at(most, self._document[starts], values)
        return most

    # Runs that stood before

    def most_in_repeated_runs(self, shortest: int) -> np.ndarray:
        """A bound on :meth:`in_repeated_runs` for all n from ``shortest`` on, per document."""
        starts = self.starts(shortest)
        codes = self.codes(starts, shortest)
        suspects = _at_least(codes) > 1
        starts, codes = starts[suspects], codes[suspects]
        again = starts[_stood_before(codes)]
        edges = np.zeros(len(self.words) + 1, dtype=np.int64)
        np.add.at(edges, again, 1)
        np.subtract.at(edges, again + self.sizes(shortest)[self._document[again]], 1)
        covered = np.cumsum(edges[:-1]) > 0
        return sums(np.where(covered, self.lengths, 0), self.bounds)

    def in_repeated_runs(self, n: int) -> np.ndarray:
        """Characters of runs of n words that stood before, per document.

        Runs are read one after the other; behind one that stood before, reading goes on with the word
        after it, so that no word counts twice.
        """
        starts = self.starts(n)
        codes = self.codes(starts, n)
        twice = _at_least(codes) > 1
        starts, codes = starts[twice], codes[twice]
        characters, document = self.characters(starts, n), self._document[starts]
        sizes = self.sizes(n)[document]
        made = np.zeros(len(self.bounds) - 1, dtype=np.int64)
        seen: set[int] = set()
        free = 0
        rows = zip(starts.tolist(), codes.tolist(), sizes.tolist(), characters.tolist(), document.tolist(), strict=True)
        for start, code, size, length, of in rows:
            if start < free:
                continue
            if code in seen:
                made[of] += length
                free = start + size
            else:
                seen.add(code)
        return made


def _at_least(codes: np.ndarray) -> np.ndarray:
    """How often each code occurs, or more often: codes that share a slot of a table are counted together."""
    bits = max(8, int(4 * len(codes)).bit_length())
    slots = (codes * _BASE >> np.uint64(64 - bits)).astype(np.int64)
    return np.bincount(slots, minlength=1)[slots] if len(codes) else np.zeros(0, dtype=np.int64)


def _stood_before(codes: np.ndarray) -> np.ndarray:
    order = np.argsort(codes, kind="stable")
    again = np.zeros(len(codes), dtype=bool)
    again[order[1:]] = codes[order[1:]] == codes[order[:-1]]
    return again
