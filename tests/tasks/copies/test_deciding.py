"""Decisions that are taken over from an earlier build are those that deciding on everything gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.mixing import Hashes
from tasks.copies.deciding import Before, Deciding, Meetings
from tasks.copies.verdicts import NONE, Verdicts

SIMILARITY = 0.5
DOCUMENTS = st.dictionaries(
    st.integers(0, 11),
    st.tuples(st.frozensets(st.integers(0, 5), min_size=1), st.frozensets(st.integers(0, 3), min_size=1)),
)
"""Precedence → 5-grams, and the buckets that the document would be in: whatever is asked, in any combination."""
Corpus = dict[int, tuple[frozenset[int], frozenset[int]]]


@dataclass
class Sets:
    """Stands for 5-grams on disk: those of the documents in ``made`` are there."""

    sets: list[frozenset[int]]
    made: set[int] = field(default_factory=set)

    def has(self, document: int) -> bool:
        return document in self.made

    def sizes_of(self, documents: Sequence[int]) -> Any:
        return np.array([len(self.sets[document]) for document in documents])

    def of(self, document: int) -> Hashes:
        assert document in self.made
        return np.array(sorted(self.sets[document]), np.uint64)


def _by_hand(corpus: Corpus) -> list[tuple[int, float]]:
    """For each document, in order, which one it is a copy of, and how similar they are."""
    rows = [corpus[key] for key in sorted(corpus)]
    verdicts: list[tuple[int, float]] = []
    for grams, buckets in rows:
        best = (NONE, 0.0)
        for other, (theirs, in_buckets) in enumerate(rows[: len(verdicts)]):
            if verdicts[other][0] == NONE and buckets & in_buckets:
                alike = len(grams & theirs) / len(grams | theirs)
                if alike >= SIMILARITY and alike > best[1]:
                    best = (other, alike)
        verdicts.append(best)
    return verdicts


def _decided(corpus: Corpus, verdicts: Verdicts) -> tuple[list[tuple[int, float]], Verdicts, int]:
    """What comes out, what to remember, and of how many documents 5-grams were asked for."""
    rows = [corpus[key] for key in sorted(corpus)]
    # Some first halves are equal.
    identities = np.array(
        [(key // 2, hash((key, grams, buckets)) % (1 << 60)) for key, (grams, buckets) in sorted(corpus.items())],
        np.uint64,
    ).reshape(-1, 2)
    members = [(place, bucket) for bucket in range(4) for place, (_, buckets) in enumerate(rows) if bucket in buckets]
    places, buckets = (np.array(column, np.int64) for column in zip(*members, strict=True)) if members else (
        np.empty(0, np.int64), np.empty(0, np.int64)
    )  # fmt: skip
    meetings = Meetings.of(np.arange(len(rows)), places, buckets, 4)
    sets = Sets([grams for grams, _ in rows])
    deciding = Deciding(meetings, Before.of(verdicts, identities), sets, SIMILARITY, lambda done, total: None)  # type: ignore[arg-type]
    deciding.decide()
    while deciding.missing:
        assert not deciding.missing <= sets.made
        sets.made |= deciding.missing
        deciding.decide()
    found = list(zip(deciding.copy_of.tolist(), deciding.similarities.tolist(), strict=True))
    return found, Verdicts.of(identities, deciding.copy_of, deciding.similarities), len(sets.made)


@settings(max_examples=80, deadline=None)
@given(corpora=st.lists(DOCUMENTS, min_size=1, max_size=4))
def test_any_sequence_gives_what_comparing_everything_gives(corpora: list[Corpus]) -> None:
    verdicts = Verdicts()
    for corpus in corpora:
        found, verdicts, _ = _decided(corpus, verdicts)
        assert found == _by_hand(corpus)
        again, same, asked = _decided(corpus, verdicts)
        assert again == found
        assert np.array_equal(same.copy_of, verdicts.copy_of)
        assert np.unique(verdicts.first).size < len(verdicts.first) or asked == 0


def test_only_what_meets_a_newcomer_is_compared() -> None:
    corpus = {number: (frozenset({number, 100}), frozenset({number % 4})) for number in range(2, 80, 2)}
    _, verdicts, asked = _decided(corpus, Verdicts())
    assert asked == len(corpus)
    grown = {1: (frozenset({1, 100}), frozenset({2}))} | corpus
    found, _, asked = _decided(grown, verdicts)
    assert found == _by_hand(grown)
    assert asked == 1 + sum(2 in buckets for _, buckets in corpus.values())
