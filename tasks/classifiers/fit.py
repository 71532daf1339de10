"""Fitting a linear classifier: multinomial logistic regression, by scikit-learn's L-BFGS."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from tasks.classifiers.linear import LinearClassifier, features
from tasks.classifiers.ngrams import Counts, Ngrams

_TEXTS_AT_ONCE = 1_000


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
    within = np.zeros(ngrams.buckets, dtype=np.int64)
    for _, part in _parts(counts):
        within += np.bincount(part.buckets, minlength=ngrams.buckets)
    idf = (np.log((1 + len(targets)) / (1 + within)) + 1).astype(np.float32)
    seen = np.flatnonzero(within)
    matrix = _matrix(counts, idf, seen)
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


def _matrix(counts: Counts, idf: NDArray[np.float32], seen: NDArray[np.int64]) -> csr_matrix:
    """The features, (texts × buckets seen): 12 bytes an entry, and little more while it is made."""
    column = np.zeros(len(idf), dtype=np.int32)
    column[seen] = np.arange(len(seen))
    values = np.empty(len(counts.buckets))
    columns = np.empty(len(counts.buckets), dtype=np.int32)
    for place, part in _parts(counts):
        values[place], columns[place] = features(part, idf), column[part.buckets]
    return csr_matrix((values, columns, counts.starts), shape=(len(counts.starts) - 1, len(seen)))


def _parts(counts: Counts) -> Iterator[tuple[slice, Counts]]:
    """A few texts at a time, with the place of their entries: what is worked out from them stays small."""
    for first in range(0, len(counts.starts) - 1, _TEXTS_AT_ONCE):
        starts = counts.starts[first : first + _TEXTS_AT_ONCE + 1]
        place = slice(int(starts[0]), int(starts[-1]))
        yield place, Counts(starts - starts[0], counts.buckets[place], counts.counts[place])


class CountsBuilder:
    """Puts the counts of many batches together: 8 bytes for each distinct n-gram of a text."""

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
        # The pieces go as soon as they are one, so that not all is in memory twice.
        self._sizes = [np.concatenate([np.zeros(0, np.int64), *self._sizes])]
        self._buckets = [np.concatenate([np.zeros(0, np.int32), *self._buckets])]
        self._counts = [np.concatenate([np.zeros(0, np.int32), *self._counts])]
        return Counts(np.concatenate([[0], np.cumsum(self._sizes[0])]), self._buckets[0], self._counts[0])
