"""Figures about a classifier are those of scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from tasks.classifiers.measure import report


@settings(deadline=None, max_examples=20)
@given(st.integers(2, 5), st.integers(1, 60), st.integers(0, 2**32 - 1))
def test_figures_are_those_of_scikit_learn(labels: int, texts: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, labels, texts)
    probabilities = rng.dirichlet(np.ones(labels), texts).astype(np.float32)
    found = report([f"label {n}" for n in range(labels)], truth, probabilities)
    predicted = probabilities.argmax(axis=1)
    assert found["accuracy"] == pytest.approx(metrics.accuracy_score(truth, predicted), abs=1e-6)
    for name, reference in (("precision", metrics.precision_score), ("recall", metrics.recall_score)):
        assert found[name] == pytest.approx(reference(truth, predicted, average="macro", zero_division=0), abs=1e-6)
    assert found["f1"] == pytest.approx(metrics.f1_score(truth, predicted, average="macro"), abs=1e-6)
    confusion = metrics.confusion_matrix(truth, predicted, labels=range(labels))
    assert [list(row.values()) for row in found["confusion"].values()] == confusion.tolist()
    for n in range(labels):
        for row in found["thresholds"][f"label {n}"][::5]:
            above = probabilities[:, n] > np.float32(row["above"])
            expected = metrics.precision_score(truth == n, above, zero_division=0)
            assert row["precision"] == pytest.approx(expected, abs=1e-6)
            assert row["documents"] == above.sum()


def test_calibration_compares_probability_and_success() -> None:
    probabilities = np.array([[0.95, 0.05]] * 4 + [[0.65, 0.35]] * 4, dtype=np.float32)
    found = report(["a", "b"], np.array([0, 0, 0, 1, 0, 0, 1, 1]), probabilities)["calibration"]
    assert [(row["from"], row["documents"], row["share_right"]) for row in found["bins"]] == [
        (0.6, 4, 0.5),
        (0.9, 4, 0.75),
    ]
    assert found["expected_error"] == pytest.approx((0.2 + 0.15) / 2, abs=1e-6)
