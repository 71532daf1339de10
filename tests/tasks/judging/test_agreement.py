"""Agreement beside scikit-learn and published figures; intervals beside scipy and beside what they promise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn.metrics import cohen_kappa_score

from tasks.judging.agreement import agreement, cohen, estimate, fleiss, wilson

SAID = st.sampled_from(["accept", "reject", "unsure"])


@settings(deadline=None, max_examples=100)
@given(st.lists(st.tuples(SAID, SAID), min_size=1, max_size=30))
def test_cohens_kappa_is_scikit_learns(said: list[tuple[str, str]]) -> None:
    first, second = [one for one, _ in said], [other for _, other in said]
    found = cohen(first, second)
    if len(set(first + second)) == 1:
        assert found is None
    else:
        assert found == pytest.approx(cohen_kappa_score(first, second), abs=1e-6)


def test_fleiss_kappa_of_a_worked_example() -> None:
    # Fourteen judges, ten subjects, five categories: the example of the method's Wikipedia page, kappa 0.210.
    table = [
        [0, 0, 0, 0, 14],
        [0, 2, 6, 4, 2],
        [0, 0, 3, 5, 6],
        [0, 3, 9, 2, 0],
        [2, 2, 8, 1, 1],
        [7, 7, 0, 0, 0],
        [3, 2, 6, 3, 0],
        [2, 5, 3, 2, 2],
        [6, 5, 2, 1, 0],
        [0, 2, 2, 3, 7],
    ]
    assert fleiss([{str(n): times for n, times in enumerate(row)} for row in table]) == pytest.approx(0.210, abs=5e-4)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 50), st.integers(1, 50))
def test_wilsons_interval_is_scipys(hits: int, more: int) -> None:
    number = hits + more
    expected = binomtest(hits, number).proportion_ci(method="wilson")
    assert wilson(hits / number, number) == pytest.approx((expected.low, expected.high), abs=1e-9)
    found = estimate([True] * hits + [False] * more, [7.5] * number)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_a_stratified_estimate_finds_the_truth_about_as_often_as_it_promises() -> None:
    rng = np.random.default_rng(1)
    sizes, shares, drawn = (10_000, 1_000, 100), (0.1, 0.5, 0.9), 60
    truth = sum(size * share for size, share in zip(sizes, shares, strict=True)) / sum(sizes)
    weights = [size / drawn for size in sizes for _ in range(drawn)]
    covered = 0
    for _ in range(1_000):
        hits = [bool(rng.random() < share) for share in shares for _ in range(drawn)]
        found = estimate(hits, weights)
        covered += found.low <= truth <= found.high
    assert covered / 1_000 > 0.93


def test_agreement_is_on_what_judges_share() -> None:
    ratings = {
        "ann": {"1": "accept", "2": "accept", "3": "reject", "4": "reject"},
        "bo": {"1": "accept", "2": "reject", "3": "reject"},
        "cy": {"3": "reject", "9": "accept"},
    }
    found = agreement(ratings)
    assert found["judges"] == {"ann": 4, "bo": 3, "cy": 2}
    assert [(pair["judges"], pair["documents"]) for pair in found["pairs"]] == [
        (["ann", "bo"], 3),
        (["ann", "cy"], 1),
        (["bo", "cy"], 1),
    ]
    assert found["pairs"][0]["agreement"] == pytest.approx(2 / 3, abs=1e-6)
    assert found["agreement"] == pytest.approx(4 / 5, abs=1e-6)
    assert found["documents_of_all_judges"] == 1
    assert agreement({"ann": {"1": "accept"}}) == {"judges": {"ann": 1}, "pairs": []}
