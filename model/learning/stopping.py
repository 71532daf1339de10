"""When a training ends early, and which of its moments is the best: by the losses of its evaluations.

Imports no torch.
"""

from __future__ import annotations

import math
from typing import Any, Literal

from pydantic import Field

from model.config import Frozen

Keep = Literal["last", "best"]
"""Which weights become the result: those after the last step, or those with the lowest validation loss."""


class EarlyStopping(Frozen):
    """End the training when the validation loss no longer falls: ``{patience: 3, min_delta: 0.01}``."""

    patience: int = Field(ge=1)
    """Evaluations in a row that may bring nothing before it ends."""
    min_delta: float = Field(0.0, ge=0, allow_inf_nan=False)
    """Nats per token by which a loss must be lower than the lowest that counted, to count."""


class Evaluations:
    """What the evaluations of a run have shown. It is kept in the run's memory, whose values are never changed."""

    def __init__(self, rule: EarlyStopping | None, memory: dict[str, Any]) -> None:
        self._rule, self._memory = rule, memory

    @property
    def best(self) -> tuple[int, float] | None:
        """After which step the loss was lowest, and that loss; None before any evaluation."""
        step = self._known("best_step", None)
        return None if step is None else (step, self._known("best_loss", math.inf))

    @property
    def ended(self) -> bool:
        """Whether the training is to end here."""
        return self._rule is not None and int(self._known("in_vain", 0)) >= self._rule.patience

    def saw(self, step: int, loss: float) -> bool:
        """An evaluation after ``step``, the same on every process; whether its loss is the lowest so far."""
        lowest: bool = loss < self._known("best_loss", math.inf)
        counts = loss < self._known("counted", math.inf) - (self._rule.min_delta if self._rule is not None else 0.0)
        self._memory["evaluations"] = {
            **self._memory.get("evaluations", {}),
            **({"best_step": step, "best_loss": loss} if lowest else {}),
            **({"counted": loss} if counts else {}),
            "in_vain": 0 if counts else self._known("in_vain", 0) + 1,
        }
        return lowest

    def _known(self, name: str, default: Any) -> Any:
        return self._memory.get("evaluations", {}).get(name, default)
