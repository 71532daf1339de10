"""Pieces of an array in one: what slices would do, for thousands of pieces at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Integers = NDArray[np.int64]


def gathered(page: Bytes, start: Integers, length: Integers) -> tuple[Bytes, Integers]:
    """The pieces of ``page`` that begin at ``start`` with these lengths, one behind the other; where each begins."""
    offsets = np.cumsum(length) - length
    places = np.repeat(start - offsets, length)
    places += np.arange(len(places))
    return page[places], offsets
