"""Steps that are left out because their loss or gradient is far beyond what was usual.

A bad batch or a burst of noise can undo thousands of steps; leaving it out costs one (Chowdhery et
al. 2022, section 5.1, skip the batches around a spike by hand). What counts as usual is the median of
the last steps, those left out included: so a lasting change becomes the usual after half as many.
"""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from typing import Any

REMEMBERED = 128
"""Last steps whose median is taken."""
FEWEST = 10
"""Before so many steps nothing is left out."""


@dataclass(frozen=True)
class Largest:
    """The most that a step may have to be made."""

    loss: float = math.inf
    grad_norm: float = math.inf


UNBOUNDED = Largest()
"""Every step is made."""


class Spikes:
    """What was usual. It is kept in a run's memory, where every value is replaced and never changed."""

    def __init__(self, factor: float | None, memory: dict[str, Any]) -> None:
        """``factor``: times the median from which a step is left out; None: never."""
        self._factor, self._memory = factor, memory

    @property
    def left_out(self) -> int | None:
        """How many steps were left out; None where none can be."""
        return None if self._factor is None else self._known("left_out", 0)

    def largest(self) -> Largest:
        """The limits of the next step."""
        if self._factor is None or len(self._known("losses", [])) < FEWEST:
            return UNBOUNDED
        loss, norm = (statistics.median(self._known(name, [])) for name in ("losses", "norms"))
        return Largest(self._factor * loss, self._factor * norm)

    def saw(self, loss: float, grad_norm: float, left_out: bool) -> None:
        """A step with these figures, the same on every process."""
        if self._factor is None or not math.isfinite(grad_norm):
            return
        self._memory["spikes"] = {
            "losses": [*self._known("losses", []), loss][-REMEMBERED:],
            "norms": [*self._known("norms", []), grad_norm][-REMEMBERED:],
            "left_out": self._known("left_out", 0) + left_out,
        }

    def _known(self, name: str, default: Any) -> Any:
        return self._memory.get("spikes", {}).get(name, default)
