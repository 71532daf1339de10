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

import numpy as np

from tasks.rules.batch import Batch, sums
from tasks.rules.hashes import BASE, mixed, powers

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

    def most_in_top_run(self, shortest: int, n: int, spaces: int) -> np.ndarray:
        """A bound on :meth:`in_top_run`, for each document, by its runs of ``shortest`` words (n or fewer)."""
        starts, codes = self.codes(shortest)
        counts = at_least(codes)
        within = starts + n <= self.bounds[1:][self.document[starts]]
        starts, counts = starts[within], counts[within]
        return self._most(counts * (self.characters(starts, n) + spaces), starts)

    def in_top_run(self, n: int, spaces: int) -> np.ndarray:
        """Characters that the most frequent run of n words takes up (the first of several), per document.

        ``spaces`` are the characters between the words of one run. A run that occurs once counts too.
        """
        starts, codes = self.codes(n)
        order = np.argsort(codes, kind="stable")
        begins = np.flatnonzero(np.concatenate([[True], np.diff(codes[order]) != 0])) if len(order) else order
        counts = np.diff(np.concatenate([begins, [len(order)]]))
        first = starts[order[begins]]
        # Largest count, and of several the one that comes first.
        rank = counts * (len(self.hashes) + 1) + (len(self.hashes) - first)
        is_top = rank == self._most(rank, first)[self.document[first]]
        top, count = first[is_top], counts[is_top]
        made = np.zeros(len(self.bounds) - 1, dtype=np.int64)
        made[self.document[top]] = count * (self.characters(top, n) + spaces)
        return made

    def _most(self, values: np.ndarray, starts: np.ndarray) -> np.ndarray:
        """The largest value in each document; 0 of none."""
        most = np.zeros(len(self.bounds) - 1, dtype=np.int64)
        np.maximum.at(most, self.document[starts], values)
        return most

    # Runs that stood before

    def most_in_repeated_runs(self, shortest: int) -> np.ndarray:
        """A bound on :meth:`in_repeated_runs` for all n from ``shortest`` on, per document."""
        starts, codes = self.codes(shortest)
        again = starts[stood_before(codes)]
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
        twice = at_least(codes) > 1
        starts, codes = starts[twice], codes[twice]
        ends = np.searchsorted(starts, self.bounds)
        characters = self.characters(starts, n)
        made = np.zeros(len(self.bounds) - 1, dtype=np.int64)
        for document in np.flatnonzero(np.diff(ends)).tolist():
            part = slice(ends[document], ends[document + 1])
            limit = float(enough[document]) if enough is not None else float("inf")
            rows = (starts[part].tolist(), codes[part].tolist(), characters[part].tolist())
            made[document] = _read(*rows, n=n, enough=limit)
        return made


def _read(starts: list[int], codes: list[int], characters: list[int], *, n: int, enough: float) -> int:
    seen: set[int] = set()
    free = found = 0
    for start, code, length in zip(starts, codes, characters, strict=True):
        if start < free:
            continue
        if code in seen:
            found += length
            free = start + n
            if found > enough:
                break
        else:
            seen.add(code)
    return found


def _slots(codes: np.ndarray) -> tuple[np.ndarray, int]:
    bits = max(8, int(3 * len(codes)).bit_length())
    return (codes * BASE >> np.uint64(64 - bits)).astype(np.int64), 1 << bits


def at_least(codes: np.ndarray) -> np.ndarray:
    """How often each code occurs, or more often: codes that share a slot of a table are counted together."""
    slots, size = _slots(codes)
    return np.bincount(slots, minlength=size)[slots]


def stood_before(codes: np.ndarray) -> np.ndarray:
    """Which codes are not the first of their kind."""
    slots, size = _slots(codes)
    first = np.zeros(size, dtype=np.int32)
    first[slots[::-1]] = np.arange(len(codes) - 1, -1, -1, dtype=np.int32)
    before = first[slots]
    again = codes[before] == codes
    again[before == np.arange(len(codes))] = False
    # A slot's first code hides the others that share it.
    hidden = np.flatnonzero(codes[before] != codes)
    order = hidden[np.argsort(codes[hidden], kind="stable")]
    again[order[1:]] = codes[order[1:]] == codes[order[:-1]]
    return again
