"""How the figures of a training step went: a few hundred points of each, kept with the build's record."""

from __future__ import annotations

import math
from collections import defaultdict
from pathlib import Path

from flows.journal import read_from

_MOST_POINTS = 200


def curves_of(metrics_file: Path) -> dict[str, list[tuple[float, float]]]:
    """Figure → points (step, value), all finite, evenly spaced, the first and the last among them.

    The file holds JSON lines ``{"step": int, NAME: float, …}``; a resumed build may have written a
    step twice, of which the later counts. No file, no curves.
    """
    values: defaultdict[str, dict[float, float]] = defaultdict(dict)
    if metrics_file.exists():
        for row, _ in read_from(metrics_file, 0):
            for name, value in row.items():
                if name != "step" and isinstance(value, (int, float)) and math.isfinite(value):
                    values[name][row.get("step", 0)] = float(value)
    return {name: thinned(sorted(points.items())) for name, points in values.items() if len(points) > 1}


def thinned(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most 200 points, evenly spaced, the first and the last among them."""
    if len(points) <= _MOST_POINTS:
        return points
    last = len(points) - 1
    return [points[round(number * last / (_MOST_POINTS - 1))] for number in range(_MOST_POINTS)]
