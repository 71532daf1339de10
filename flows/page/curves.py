"""Loss over training as an SVG picture."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

from flows.page.markup import Markup, element

Points = Sequence[Sequence[float]]
"""Pairs of step and value."""
_WIDTH, _HEIGHT = 520, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 12, 12, 34
_TICKS = 5
_WORTH_A_LOOK = 1.1
"""Times the loss before."""


def losses(curves: Mapping[str, Points]) -> dict[str, Points]:
    """The curves that can be drawn: of losses, at least two finite points each."""
    finite = {name: [p for p in points if math.isfinite(p[1])] for name, points in curves.items()}
    return {name: points for name, points in finite.items() if name.endswith("loss") and len(points) > 1}


def draw(curves: Mapping[str, Points]) -> Markup:
    """A picture of one or more curves over one pair of axes; None of them may be empty."""
    every = [point for points in curves.values() for point in points]
    across = _Axis.of([x for x, _ in every], _LEFT, _WIDTH - _RIGHT)
    up = _Axis.of([y for _, y in every], _HEIGHT - _BOTTOM, _TOP)
    parts = [_grid(across, up)]
    for number, (name, points) in enumerate(sorted(curves.items())):
        path = " ".join(f"{across.at(x):.1f},{up.at(y):.1f}" for x, y in points)
        parts.append(element("polyline", points=path, class_=f"curve curve-{number % 4}"))
        label = f"{name}, at the end {points[-1][1]:.4g}"
        place = {"x": _WIDTH - _RIGHT, "y": _TOP + 12 + 15 * number}
        parts.append(element("text", label, class_=f"label curve-{number % 4}", text_anchor="end", **place))
    spoken = "; ".join(f"{name} from {p[0][1]:.4g} to {p[-1][1]:.4g}" for name, p in sorted(curves.items()))
    return element("svg", *parts, viewBox=f"0 0 {_WIDTH} {_HEIGHT}", class_="curves", role="img", aria_label=spoken)


def sharpest_rise(curves: Mapping[str, Points]) -> int | None:
    """The step at which the training loss rose most over the point before; None where it never did by a tenth."""
    points = losses(curves).get("loss", [])
    rises = [(now[1] / before[1], int(now[0])) for before, now in pairwise(points) if before[1] > 0]
    largest, step = max(rises, default=(0.0, 0))
    return step if largest > _WORTH_A_LOOK else None


class _Axis:
    """Values to places on the picture."""

    def __init__(self, ticks: list[float], begin: float, end: float) -> None:
        self.ticks = ticks
        self._low, self._high = ticks[0], ticks[-1]
        self._begin, self._end = begin, end

    @classmethod
    def of(cls, values: Sequence[float], begin: float, end: float) -> _Axis:
        """An axis between round numbers around the values."""
        low, high = min(values), max(values)
        span = (high - low) or abs(high) or 1.0
        size = 10 ** math.floor(math.log10(span / _TICKS))
        size *= next(factor for factor in (1, 2, 5, 10) if span / (size * factor) <= _TICKS)
        first, last = math.floor(low / size), math.ceil(high / size)
        return cls([number * size for number in range(first, max(last, first + 1) + 1)], begin, end)

    def at(self, value: float) -> float:
        share = (value - self._low) / (self._high - self._low)
        return self._begin + share * (self._end - self._begin)


def _grid(across: _Axis, up: _Axis) -> Markup:
    parts = []
    for value in up.ticks:
        y = f"{up.at(value):.1f}"
        parts.append(element("line", x1=_LEFT, x2=_WIDTH - _RIGHT, y1=y, y2=y, class_="grid"))
        parts.append(element("text", f"{value:,.6g}", x=_LEFT - 6, y=y, class_="tick", text_anchor="end", dy="0.35em"))
    for value in across.ticks:
        x = f"{across.at(value):.1f}"
        parts.append(
            element("text", f"{value:,.6g}", x=x, y=_HEIGHT - _BOTTOM + 16, class_="tick", text_anchor="middle")
        )
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    parts.append(element("text", "step", x=f"{middle:.1f}", y=_HEIGHT - 4, class_="tick", text_anchor="middle"))
    return element("g", *parts)
