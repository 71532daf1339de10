"""Integers to integers that look drawn at random: the one hash of numbers."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Hashes = npt.NDArray[np.uint64]

GOLDEN = 0x9E3779B97F4A7C15
"""2^64 divided by the golden ratio, made odd: multiples of it lie evenly among all 64-bit numbers."""


def mixed(values: Hashes) -> Hashes:
    """Every bit of the result depends on every bit of the value: a bijection of 64-bit numbers, 0 to 0.

    The finaliser of SplitMix64 (Steele et al. 2014).
    """
    values = values ^ (values >> np.uint64(30))
    values *= np.uint64(0xBF58476D1CE4E5B9)
    values ^= values >> np.uint64(27)
    values *= np.uint64(0x94D049BB133111EB)
    values ^= values >> np.uint64(31)
    return values
