"""Which documents are kept: a decision on each, in order, of which those that cannot have changed are taken over."""

from __future__ import annotations

import hashlib
from bisect import bisect_left, insort
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from storage.mixing import Hashes
from tasks.copies.shingle_files import Shingles
from tasks.copies.shingles import jaccard
from tasks.copies.verdicts import NONE, Numbers, Verdicts

_PROGRESS_EVERY = 1000
_MOST_GUESSED = 64
"""A document that cannot be compared yet is taken for no copy, unless it meets more than so many such."""
_GONE = -2
"""Instead of the document that one was a copy of: it is there no more."""


class Verdict(NamedTuple):
    """The most similar of the documents that one was compared with, if it is similar enough."""

    other: int
    """``NONE`` if none is."""
    similarity: float


_NO_COPY = Verdict(NONE, 0.0)


@dataclass(frozen=True)
class Meetings:
    """Which documents share a bucket with others, in the order in which they take precedence.

    A document's *place* is its place in that order.
    """

    documents: Numbers
    """Number of the document at each place."""
    starts: Numbers
    """(places + 1) where each one's buckets begin in ``buckets``."""
    buckets: Numbers
    member_starts: Numbers
    """(buckets + 1) where each bucket's members begin in ``members``."""
    members: Numbers
    """Places, ascending within a bucket."""

    @classmethod
    def of(cls, documents: Numbers, places: Numbers, buckets: Numbers, size: int) -> Meetings:
        """``places`` and ``buckets``: who is in which of the ``size`` buckets, in any order."""
        by_place = np.argsort(places, kind="stable")
        places, buckets = places[by_place], buckets[by_place]
        by_bucket = np.argsort(buckets, kind="stable")
        return cls(documents, _starts(places, len(documents)), buckets, _starts(buckets, size), places[by_bucket])

    def buckets_of(self, place: int) -> list[int]:
        """The buckets that a document is in."""
        found: list[int] = self.buckets[self.starts[place] : self.starts[place + 1]].tolist()
        return found

    def members_of(self, bucket: int) -> Numbers:
        """The places in a bucket, ascending."""
        return self.members[self.member_starts[bucket] : self.member_starts[bucket + 1]]

    def members_behind(self, bucket: int, place: int) -> Numbers:
        """Those of them that come after this place."""
        members = self.members_of(bucket)
        return members[np.searchsorted(members, place, side="right") :]


def _starts(groups: Numbers, count: int) -> Numbers:
    return np.concatenate([[0], np.cumsum(np.bincount(groups, minlength=count))])


@dataclass(frozen=True)
class Before:
    """What an earlier build decided, by today's places."""

    known: npt.NDArray[np.bool_]
    """Whether the document was there as it is, and shared a bucket."""
    copy_of: Numbers
    """Place of the document that it was a copy of; ``NONE`` if it was kept, or not known."""
    similarity: npt.NDArray[np.float64]

    @classmethod
    def of(cls, verdicts: Verdicts, identities: Hashes) -> Before:
        """``identities``: (places × 2)."""
        rows = verdicts.rows_of(identities)
        known = rows != NONE
        # One more, behind the last, for NONE: it is not there, nor a copy.
        place_of = np.full(len(verdicts.first) + 1, _GONE, np.int64)
        place_of[rows[known]] = np.flatnonzero(known)
        place_of[NONE] = NONE
        copies, similarity = np.append(verdicts.copy_of, NONE), np.append(verdicts.similarity, 0.0)
        return cls(known, place_of[copies[rows]], similarity[rows])


class Deciding:
    """Decides on documents in order, as far as their 5-grams are there."""

    def __init__(
        self,
        meetings: Meetings,
        before: Before,
        shingles: Shingles,
        similarity: float,
        progress: Callable[[int, int], None],
    ) -> None:
        self._meetings, self._before, self._shingles = meetings, before, shingles
        self._similarity, self._progress = similarity, progress
        self._was_kept = before.known & (before.copy_of == NONE)
        self._any_known = bool(before.known.any())
        self._by_original = np.argsort(before.copy_of, kind="stable")
        """Places, in the order of what they were copies of."""
        self._originals = before.copy_of[self._by_original]
        self._compared: dict[int, tuple[bytes, Verdict]] = {}
        """By place: a digest of the places it was compared with, and what came of it."""

    def decide(self) -> None:
        """Go through the documents that are new, and those that others' decisions concern.

        Documents whose 5-grams are needed for that are ``missing`` then; while there are any, what
        is decided is a guess.
        """
        before = self._before
        self.copy_of, self.similarities = before.copy_of.copy(), before.similarity.copy()
        """By place: the place of the kept document that it is a copy of, or ``NONE``; and how similar they are."""
        self.missing: set[int] = set()
        """Numbers of documents."""
        self._kept = self._was_kept.copy()
        """By place; of those that are still to be decided on, what they were before."""
        self._kept_in: dict[int, list[int]] = {}
        """Of the buckets that were looked into: the kept ones, ascending."""
        self._guessed: set[int] = set()
        self._due = ~before.known | (before.copy_of == _GONE)
        """What was ever put into the queue."""
        self._queue: list[int] = np.flatnonzero(self._due).tolist()
        heapify(self._queue)
        done = 0
        while self._queue:
            place = heappop(self._queue)
            self._settle(place)
            done += 1
            if done % _PROGRESS_EVERY == 0:
                self._progress(place, len(self._kept))

    def _settle(self, place: int) -> None:
        """Decide on one document, and see whom that concerns."""
        buckets = self._meetings.buckets_of(place)
        verdict = self._verdict(place, self._kept_before(place, buckets))
        self.copy_of[place], self.similarities[place] = verdict
        kept = verdict.other == NONE
        if kept == self._kept[place]:
            return
        self._kept[place] = kept
        for bucket in buckets:
            if kept:
                insort(self._kept_in[bucket], place)
                self._put(self._meetings.members_behind(bucket, place))
            else:
                self._kept_in[bucket].remove(place)
        if not kept:
            first, behind = np.searchsorted(self._originals, (place, place + 1))
            self._put(self._by_original[first:behind])

    def _put(self, places: Numbers) -> None:
        """Have these decided on again."""
        if self._any_known:
            fresh = places[~self._due[places]]
            self._due[fresh] = True
            for place in fresh.tolist():
                heappush(self._queue, place)

    def _kept_before(self, place: int, buckets: Sequence[int]) -> list[int]:
        """Places of the kept documents that one has to be compared with, ascending."""
        found: set[int] = set()
        for bucket in buckets:
            kept = self._kept_in.get(bucket)
            if kept is None:
                members = self._meetings.members_of(bucket)
                kept = self._kept_in[bucket] = members[self._kept[members]].tolist() if self._any_known else []
            found.update(kept[: bisect_left(kept, place)])
        return sorted(found)

    def _verdict(self, place: int, others: list[int]) -> Verdict:
        """On a document that meets these others, of which it has been compared with some before."""
        known, copy = bool(self._before.known[place]), int(self._before.copy_of[place])
        best = None
        if known and (copy == NONE or (copy >= 0 and self._kept[copy])):
            best = Verdict(copy, float(self._before.similarity[place]))
            others = [other for other in others if not self._was_kept[other]]
        if not others:
            return best or _NO_COPY
        key = hashlib.blake2b(np.array(others).tobytes(), digest_size=16).digest() if self._any_known else b""
        earlier = self._compared.get(place)
        if earlier is not None and earlier[0] == key:
            found = earlier[1]
        else:
            numbers = self._meetings.documents[[place, *others]].tolist()
            lacking = [number for number in numbers if not self._shingles.has(number)]
            if lacking:
                self.missing.update(lacking)
                return best or self._guess(place, others)
            found = self._compare(numbers, others)
            if self._any_known:
                self._compared[place] = (key, found)
        if best is None or best.other == NONE or found.other == NONE:
            return found if best is None or best.other == NONE else best
        # Of equally similar ones the first counts.
        return min(best, found, key=lambda verdict: (-verdict.similarity, verdict.other))

    def _guess(self, place: int, others: list[int]) -> Verdict:
        """What is taken for the verdict on a document that cannot be compared yet."""
        if len(self._guessed.intersection(others)) > _MOST_GUESSED:
            return Verdict(others[0], 0.0)
        self._guessed.add(place)
        return _NO_COPY

    def _compare(self, numbers: Sequence[int], others: Sequence[int]) -> Verdict:
        """The verdict on the first of these documents, beside the others, which are at the places ``others``."""
        sizes = self._shingles.sizes_of(numbers)
        # Jaccard similarity is at most the ratio of the sizes.
        alike = np.minimum(sizes[0], sizes[1:]) / np.maximum(sizes[0], sizes[1:]) >= self._similarity
        mine, best = self._shingles.of(numbers[0]), _NO_COPY
        for at in np.flatnonzero(alike).tolist():
            found = jaccard(mine, self._shingles.of(numbers[at + 1]))
            if found >= self._similarity and found > best.similarity:
                best = Verdict(others[at], found)
        return best
