"""Arithmetic over columns that are cut into segments."""

from __future__ import annotations

import numpy as np


def sums(values: np.ndarray, bounds: np.ndarray) -> np.ndarray:
    """Sums of ``values[bounds[i] : bounds[i + 1]]``, which together are all values; segments may be empty."""
    numbers = values if values.dtype.kind == "f" else values.astype(np.int64, copy=False)
    made = np.zeros(len(bounds) - 1, dtype=numbers.dtype)
    filled = np.flatnonzero(bounds[1:] > bounds[:-1])
    if len(filled):
        # A segment's sum is its own: a difference of running sums would depend on what stands before it.
        made[filled] = np.add.reduceat(numbers, bounds[filled])
    return made


def running(values: np.ndarray) -> np.ndarray:
    """Sums of all values before each, and of all; int64."""
    made = np.zeros(len(values) + 1, dtype=np.int64)
    np.cumsum(values.astype(np.int64, copy=False), out=made[1:])  # adding up other types is ten times as slow
    return made


def shares(counts: np.ndarray, totals: np.ndarray) -> np.ndarray:
    """Quotients; 0 where there is nothing to divide by."""
    return np.divide(counts, totals, out=np.zeros(len(counts)), where=totals > 0)
