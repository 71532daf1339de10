"""Steps that are left out because their loss or gradient is far beyond what was usual.

A bad batch or a burst of noise can undo thousands of steps; leaving it out costs one (Chowdhery et
al. 2022, section 5.1, skip the batches around a spike by hand). What counts as usual is the median of
the last steps, those left out included: so a lasting change becomes the usual after half as many. A
loss or gradient that is not finite is left out too, from the first step on, but says nothing about
what is usual; several in a row are no accident.
"""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from typing import Any

REMEMBERED = 128
"""Last steps whose median is taken."""
FEWEST = 10
"""Before so many steps nothing is left out for its size."""
MOST_IN_A_ROW = 3
"""So many steps in a row that are not finite are left out; one more ends the run."""


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

    @property
    def forgives(self) -> bool:
        """Whether a step that is not finite may be left out now, instead of ending the run."""
        return self._factor is not None and self._known("not_finite", 0) < MOST_IN_A_ROW

    def saw(self, loss: float, grad_norm: float, left_out: bool) -> None:
        """A step with these figures, the same on every process."""
        if self._factor is None:
            return
        if math.isfinite(loss) and math.isinf(grad_norm) and not left_out:  # float16 gradients overflow now and then
            return
        if not (math.isfinite(loss) and math.isfinite(grad_norm)):
            more = {name: self._known(name, 0) + 1 for name in ("left_out", "not_finite")}
            self._memory["spikes"] = {**self._memory.get("spikes", {}), **more}
            return
        self._memory["spikes"] = {
            "losses": [*self._known("losses", []), loss][-REMEMBERED:],
            "norms": [*self._known("norms", []), grad_norm][-REMEMBERED:],
            "left_out": self._known("left_out", 0) + left_out,
        }

    def _known(self, name: str, default: Any) -> Any:
        return self._memory.get("spikes", {}).get(name, default)
