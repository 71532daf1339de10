"""How good a classifier is on texts whose labels are known."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
_BINS = 10
_DIGITS = 6


def report(labels: Sequence[str], truth: NDArray[np.int64], probabilities: NDArray[np.float32]) -> dict[str, Any]:
    """Figures for ``report.json``: by label, all together, at thresholds, and how far probabilities can be believed.

    ``truth`` (texts) holds positions of labels, ``probabilities`` is (texts × labels). The label
    predicted is the likeliest. Means over labels leave out those that are neither there nor
    predicted; a ratio of nothing to nothing is 0.
    """
    predicted = probabilities.argmax(axis=1)
    confusion = np.zeros((len(labels), len(labels)), dtype=np.int64)
    np.add.at(confusion, (truth, predicted), 1)
    by_label = {
        label: _ratios(int(confusion[n, n]), int(confusion[:, n].sum()), int(confusion[n].sum()))
        for n, label in enumerate(labels)
    }
    counted = [by_label[label] for n, label in enumerate(labels) if confusion[n].sum() or confusion[:, n].sum()]
    return {
        "documents": len(truth),
        "accuracy": _ratio(int(np.trace(confusion)), len(truth)),
        **{name: _rounded(sum(row[name] for row in counted) / len(counted)) for name in ("precision", "recall", "f1")},
        "labels": by_label,
        "confusion": {
            label: {other: int(confusion[n, m]) for m, other in enumerate(labels)} for n, label in enumerate(labels)
        },
        "thresholds": {label: _at_thresholds(truth == n, probabilities[:, n]) for n, label in enumerate(labels)},
        "calibration": _calibration(truth == predicted, probabilities.max(axis=1)),
    }


def _ratios(right: int, predicted: int, there: int) -> dict[str, Any]:
    """Precision, recall and their harmonic mean."""
    return {
        "precision": _ratio(right, predicted),
        "recall": _ratio(right, there),
        "f1": _ratio(2 * right, predicted + there),
        "documents": there,
    }


def _at_thresholds(is_label: NDArray[np.bool_], probability: NDArray[np.float32]) -> list[dict[str, Any]]:
    """What taking a text for the label above each threshold gives."""
    rows = []
    for threshold in THRESHOLDS:
        above = probability > np.float32(threshold)
        figures = _ratios(int((above & is_label).sum()), int(above.sum()), int(is_label.sum()))
        rows.append({"above": threshold, **figures, "documents": int(above.sum())})
    return rows


def _calibration(right: NDArray[np.bool_], confidence: NDArray[np.float32]) -> dict[str, Any]:
    """How often the likeliest label is right, by how likely it is called.

    ``expected_error`` is the mean distance of the two, weighted by texts (expected calibration
    error: Guo et al. 2017, "On calibration of modern neural networks", equation 3).
    """
    bins = np.minimum((confidence * _BINS).astype(np.int64), _BINS - 1)
    rows, error = [], 0.0
    for number in range(_BINS):
        within = bins == number
        if not within.any():
            continue
        mean, share = float(confidence[within].mean(dtype=np.float64)), float(right[within].mean())
        error += abs(mean - share) * int(within.sum()) / len(right)
        rows.append(
            {
                "from": number / _BINS,
                "to": (number + 1) / _BINS,
                "documents": int(within.sum()),
                "mean_probability": _rounded(mean),
                "share_right": _rounded(share),
            }
        )
    return {"expected_error": _rounded(error), "bins": rows}


def _ratio(part: int, whole: int) -> float:
    return _rounded(part / whole) if whole else 0.0


def _rounded(value: float) -> float:
    return round(value, _DIGITS)
