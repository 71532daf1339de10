"""Fitting a linear classifier: multinomial logistic regression, by scikit-learn's L-BFGS."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from tasks.classifiers.linear import LinearClassifier, features
from tasks.classifiers.ngrams import Counts, Ngrams


@dataclass(frozen=True)
class Fitted:
    """A classifier, and how the fit went."""

    classifier: LinearClassifier
    iterations: int
    converged: bool
    """Whether the gradient vanished before the iterations were used up."""


def fit(
    counts: Counts,
    targets: NDArray[np.int64],
    labels: Sequence[str],
    ngrams: Ngrams,
    *,
    regularisation: float,
    balanced: bool,
    iterations: int,
) -> Fitted:
    """The classifier that minimises Σ wᵢ · (−ln p(labelᵢ | textᵢ)) + regularisation ÷ 2 · ‖weights‖².

    ``targets`` holds the position of each text's label, (texts). ``balanced`` gives each label the
    same weight in the sum, whatever its number of texts. The function is convex, so there is
    nothing to seed; one thread adds numbers in one order, so the bytes are the same every time.
    """
    texts = len(targets)
    within = np.bincount(counts.buckets, minlength=ngrams.buckets)
    idf = (np.log((1 + texts) / (1 + within)) + 1).astype(np.float32)
    seen = np.flatnonzero(within)
    column = np.zeros(ngrams.buckets, dtype=np.int64)
    column[seen] = np.arange(len(seen))
    matrix = csr_matrix((features(counts, idf), column[counts.buckets], counts.starts), shape=(texts, len(seen)))
    solver = LogisticRegression(
        C=1 / regularisation, class_weight="balanced" if balanced else None, max_iter=iterations, tol=1e-4
    )
    with threadpool_limits(limits=1), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        solver.fit(matrix, targets)
    coefficients, bias = solver.coef_, solver.intercept_
    if len(labels) == 2:
        # One function tells two labels apart; half of it for one and half against the other is the same softmax.
        coefficients, bias = (
            np.stack([-coefficients[0] / 2, coefficients[0] / 2]),
            np.array([-bias[0] / 2, bias[0] / 2]),
        )
    weights = np.zeros((len(labels), ngrams.buckets), dtype=np.float32)
    weights[:, seen] = coefficients
    return Fitted(
        classifier=LinearClassifier(tuple(labels), ngrams, weights, bias.astype(np.float32), idf),
        iterations=int(np.max(solver.n_iter_)),
        converged=not any(issubclass(warning.category, ConvergenceWarning) for warning in caught),
    )


class CountsBuilder:
    """Puts the counts of many batches together; memory grows with the distinct n-grams of each text."""

    def __init__(self) -> None:
        self._sizes: list[NDArray[np.int64]] = []
        self._buckets: list[NDArray[np.int32]] = []
        self._counts: list[NDArray[np.int32]] = []

    def add(self, counts: Counts, chosen: NDArray[np.bool_]) -> None:
        """Append the texts that are chosen."""
        sizes = np.diff(counts.starts)
        entries = np.repeat(chosen, sizes)
        self._sizes.append(sizes[chosen])
        self._buckets.append(counts.buckets[entries].astype(np.int32))
        self._counts.append(counts.counts[entries].astype(np.int32))

    def counts(self) -> Counts:
        """All of them, in the order in which they came."""
        sizes = np.concatenate([np.zeros(1, np.int64), *self._sizes])
        empty = np.zeros(0, np.int32)
        return Counts(np.cumsum(sizes), np.concatenate([empty, *self._buckets]), np.concatenate([empty, *self._counts]))
