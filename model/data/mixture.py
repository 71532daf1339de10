"""Mixing parts exactly: which part each row comes from, so that shares hold at every moment."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import gcd, lcm

import numpy as np

from model.data.packing import Ints

FINEST_SHARE = 1_000_000
"""Shares that have no common denominator up to this are rounded to multiples of one of this many parts."""


def integer_shares(weights: Sequence[float]) -> list[int]:
    """The weights as whole numbers in the same proportions, as they are written in decimals.

    Proportions with no common denominator up to ``FINEST_SHARE`` are rounded to multiples of one
    of so many parts; each gets at least one.
    """
    exact = [Fraction(str(weight)) for weight in weights]
    scale = lcm(*(weight.denominator for weight in exact))
    whole = [int(weight * scale) for weight in exact]
    whole = [number // gcd(*whole) for number in whole]
    total = sum(whole)
    if total <= FINEST_SHARE:
        return whole
    return [max(1, round(Fraction(number * FINEST_SHARE, total))) for number in whole]


class Schedule:
    """Which part each row comes from: after any n rows a part has given its share of n, less than one row off.

    The parts are periodic tasks of which one runs at a time: the j-th row of a part with share w
    is due between rows floor((j - 1) / w) and ceil(j / w), and of those whose time has come the
    one that is due first is drawn. Shares add up to one, so no row is ever late (Baruah, Cohen,
    Plaxton and Varvel 1996, "Proportionate progress"). The schedule repeats when every part has
    given its whole number of rows; it is worked out as far as it is asked for.
    """

    def __init__(self, weights: Sequence[float]) -> None:
        self._shares = integer_shares(weights)
        self.period = sum(self._shares)
        self._known = np.zeros(0, np.uint16)
        self._given = [0] * len(self._shares)

    def parts(self, start: int, count: int) -> Ints:
        """The parts of rows ``start`` to ``start + count``."""
        self._work_out(min(self.period, start % self.period + count))
        return self._known[(start + np.arange(count)) % self.period].astype(np.int64)

    def given(self, position: int) -> Ints:
        """How many of the rows before ``position`` come from each part."""
        periods, rest = divmod(position, self.period)
        self._work_out(rest)
        counted = np.bincount(self._known[:rest], minlength=len(self._shares))
        return periods * np.array(self._shares, np.int64) + counted

    def _work_out(self, length: int) -> None:
        if length <= len(self._known):
            return
        period, shares, given = self.period, self._shares, self._given
        released = [done * period // share for done, share in zip(given, shares, strict=True)]
        due = [-(-(done + 1) * period // share) for done, share in zip(given, shares, strict=True)]
        more = []
        for row in range(len(self._known), min(period, max(length, 2 * len(self._known)))):
            part = min((d, part) for part, (r, d) in enumerate(zip(released, due, strict=True)) if r <= row)[1]
            given[part] += 1
            released[part] = given[part] * period // shares[part]
            due[part] = -(-(given[part] + 1) * period // shares[part])
            more.append(part)
        self._known = np.concatenate([self._known, np.array(more, np.uint16)])
