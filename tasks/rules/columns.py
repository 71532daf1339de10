"""Columns of numbers that grow."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


class Column:
    """Numbers in an array that grows."""

    def __init__(self, dtype: type) -> None:
        self._values: np.ndarray = np.zeros(1024, dtype=dtype)
        self._size = 0

    @property
    def values(self) -> np.ndarray:
        return self._values[: self._size]

    def extend(self, values: Sequence[float] | np.ndarray) -> None:
        needed = self._size + len(values)
        if needed > len(self._values):
            self._values = np.concatenate([self._values, np.zeros(max(needed, len(self._values)), self._values.dtype)])
        self._values[self._size : needed] = values
        self._size = needed
