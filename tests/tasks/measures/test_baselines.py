"""The n-gram baselines, against the same formulas written out slowly over dictionaries."""

from __future__ import annotations

import math
from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.data.batches import Text
from tasks.measures import baselines
from tasks.measures.baselines import Ngram

BOS, EOS = 1, 2


def reference_discounts(counts):
    n = Counter(counts)
    if any(n[c] == 0 for c in (1, 2, 3, 4)):
        return {1: 0.5, 2: 1.0, 3: 1.5}
    y = n[1] / (n[1] + 2 * n[2])
    d = {1: 1 - 2 * y * n[2] / n[1], 2: 2 - 3 * y * n[3] / n[2], 3: 3 - 4 * y * n[4] / n[3]}
    return d if all(0 < d[c] <= c for c in d) else {1: 0.5, 2: 1.0, 3: 1.5}


class ReferenceKneserNey:
    """Interpolated modified Kneser-Ney of order 3, by nested dictionaries and loops."""

    def __init__(self, documents, vocabulary):
        self.vocabulary = vocabulary
        trigrams = Counter()
        for document in documents:
            padded = ["START", *document]
            for i in range(2, len(padded)):
                trigrams[tuple(padded[i - 2 : i + 1])] += 1
        before_bigram, before_token = defaultdict(set), defaultdict(set)
        for u, v, w in trigrams:
            before_bigram[v, w].add(u)
            before_token[w].add(v)
        self.tables = [
            {(w,): len(vs) for w, vs in before_token.items()},
            {vw: len(us) for vw, us in before_bigram.items()},
            dict(trigrams),
        ]
        self.discounts = [reference_discounts(table.values()) for table in self.tables]

    def probability(self, token, context):
        """P(token | context), context of 0 to 2 tokens."""
        lower = 1 / self.vocabulary if not context else self.probability(token, context[1:])
        if not context:
            return self._interpolated(0, token, (), lower)
        return self._interpolated(len(context), token, tuple(context), lower)

    def _interpolated(self, level, token, context, lower):
        table, d = self.tables[level], self.discounts[level]
        following = {gram: c for gram, c in table.items() if gram[:-1] == context}
        total = sum(following.values())
        if total == 0:
            return lower
        c = table.get((*context, token), 0)
        kept = (c - d[min(c, 3)]) / total if c else 0.0
        freed = sum(d[min(c, 3)] for c in following.values()) / total
        return kept + freed * lower

    def nats(self, documents, first=1):
        total = 0.0
        for document in documents:
            padded = ["START", *document]
            for i in range(1 + first, len(padded)):
                total -= math.log(self.probability(padded[i], padded[i - 2 : i]))
        return total


def texts(documents):
    return [Text(np.array(document, dtype=np.uint16)) for document in documents]


def random_documents(seed, vocabulary, count, length):
    """Documents with skewed, dependent tokens, so that every count of counts occurs."""
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        tokens = [BOS]
        for _ in range(int(rng.integers(0, length))):
            tokens.append(3 + int((tokens[-1] + rng.geometric(0.35)) % (vocabulary - 3)))
        made.append([*tokens, EOS])
    return made


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_trigram_equals_the_formulas_written_out(seed):
    train = random_documents(seed, 40, 30, 60)
    held_out = random_documents(seed + 100, 40, 5, 40)
    reference = ReferenceKneserNey(train, 40)
    assert any(d != {1: 0.5, 2: 1.0, 3: 1.5} for d in reference.discounts), (
        "the data must reach the estimated discounts"
    )
    model = Ngram.fit(texts(train), 40, order=3)
    assert model.nats(texts(held_out)) == pytest.approx(reference.nats(held_out), rel=1e-12)


def test_only_the_response_counts_but_the_prompt_is_context():
    train = random_documents(3, 30, 20, 50)
    model, reference = Ngram.fit(texts(train), 30, order=3), ReferenceKneserNey(train, 30)
    document = random_documents(4, 30, 1, 50)[0]
    assert len(document) > 8
    assert model.nats([Text(np.array(document), first=6)]) == pytest.approx(
        reference.nats([document], first=6), rel=1e-12
    )


def test_unigram_is_the_discounted_frequency():
    model = Ngram.fit(texts([[BOS, 5, 5, 5, 6, EOS]]), 10, order=1)
    freed = (1.5 + 0.5 + 0.5) / 5
    expected = {5: (3 - 1.5) / 5, 6: 0.5 / 5, EOS: 0.5 / 5, BOS: 0.0, 9: 0.0}
    for token, kept in expected.items():
        assert math.exp(-model.nats(texts([[BOS, token]]))) == pytest.approx(kept + freed / 10)


def document_lists(vocabulary):
    tokens = st.lists(st.integers(3, vocabulary - 1), max_size=12)
    return st.lists(tokens.map(lambda body: [BOS, *body, EOS]), min_size=1, max_size=8)


@settings(max_examples=60, deadline=None)
@given(document_lists(9), st.lists(st.integers(0, 8), max_size=3), st.sampled_from([1, 2, 3]))
def test_probabilities_of_any_context_sum_to_one(train, context, order):
    model = Ngram.fit(texts(train), 9, order)
    history = [BOS, *context]
    total = sum(math.exp(-model.nats([Text(np.array([*history, token]), first=len(history))])) for token in range(9))
    assert total == pytest.approx(1.0, abs=1e-12)


@settings(max_examples=30, deadline=None)
@given(document_lists(9), document_lists(9))
def test_trigram_equals_the_reference_on_any_documents(train, held_out):
    model = Ngram.fit(texts(train), 9, order=3)
    assert model.nats(texts(held_out)) == pytest.approx(ReferenceKneserNey(train, 9).nats(held_out), rel=1e-9)


def test_counting_in_blocks_changes_nothing(monkeypatch):
    train = random_documents(5, 50, 60, 40)
    held_out = texts(random_documents(6, 50, 4, 40))
    whole = Ngram.fit(texts(train), 50, order=3).nats(held_out)
    monkeypatch.setattr(baselines, "BLOCK_TOKENS", 64)
    assert Ngram.fit(texts(train), 50, order=3).nats(held_out) == pytest.approx(whole, rel=1e-12)


def test_a_trigram_learns_what_a_unigram_cannot():
    cycle = [[BOS, *([3, 4, 5, 6] * 20), EOS]] * 5
    held_out = texts(cycle[:1])
    tokens = len(cycle[0]) - 1
    loss = {order: Ngram.fit(texts(cycle), 8, order).nats(held_out) / tokens for order in (1, 3)}
    assert loss[1] > 1.3
    assert loss[3] < 0.1


def test_what_cannot_be_counted_is_refused():
    with pytest.raises(ValueError, match="no token to count"):
        Ngram.fit(texts([[BOS]]), 8, order=3)
    with pytest.raises(ValueError, match="outside of the vocabulary of 8"):
        Ngram.fit(texts([[BOS, 8, 3]]), 8, order=3)
    with pytest.raises(ValueError, match="too large"):
        Ngram.fit(texts([[BOS, 3]]), 3_000_000, order=3)
