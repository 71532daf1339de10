"""What all optimisers here have in common: a step can be left out, and an average of the weights can be kept."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch

AVERAGE = "average"
"""The name of the averaged weights in an optimiser's state, beside its moments."""


class Optimizer(torch.optim.Optimizer, ABC):
    """Computes the same on flat pieces of weights as on weights: element by element, or knowing the pieces."""

    left_out: Callable[[], bool] = staticmethod(lambda: False)
    """Whether the step that was asked for is not to be made."""
    moments: tuple[str, ...] = ()
    """What the state holds for every value, whatever it belongs to; 0 before the first step."""
    _decay: float | None = None

    @abstractmethod
    def update(self) -> None:
        """One update of everything that has a gradient; ``state`` then counts it under ``step``."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One update, unless it is to be left out."""
        if self.left_out():
            return
        self.update()
        if self._decay is not None:
            self._average(self._decay)

    def keep_average(self, decay: float) -> None:
        """Let the state hold the exponential moving average of the weights.

        After step t it is the mean of the weights after steps 1 to t, the i-th counting decay^(t - i):
        free of the weights that training began with. Where weights are cut, so is their average.
        """
        self._decay = decay
        self.moments = (*self.moments, AVERAGE)

    def _average(self, decay: float) -> None:
        for group in self.param_groups:
            for weight in group["params"]:
                state = self.state.get(weight, {})
                if "step" in state:
                    if AVERAGE not in state:
                        state[AVERAGE] = weight.detach().clone()
                    state[AVERAGE].lerp_(weight, (1 - decay) / (1 - decay ** float(state["step"])))
