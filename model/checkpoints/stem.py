"""The stem of a run: its first steps, which any longer run with the same settings has in common with it.

Up to there nothing depends on how long the run is: neither the learning rate (``OptimizerConfig.stable_until``)
nor the mixture, whose first stage ends at a share of all steps. So the state after the last step of a
stem is one that a longer run can go on from, and ends with the weights that it would have had from
the beginning. Imports no torch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate

from model.learning.optimizer_config import OptimizerConfig
from model.request import Request, ShardsData
from storage.identity import digest_of_value

_AFTER_THE_STEM = ("schedule", "decay_share", "decay_shape", "final_fraction")
"""Settings of an optimiser that say how the learning rate falls, not where it begins."""
_ROUNDING = 1e-9


def stage_begins(later: Sequence[float], steps: int) -> list[int]:
    """How many steps come before each stage of a run of so many; ``later``: the shares of all but the first."""
    behind = list(accumulate(reversed(later)))[::-1]
    return [0, *(round(steps * (1 - share)) for share in behind)]


def stem_steps(optimizer: OptimizerConfig, tokens: int, batch_tokens: int, later: Sequence[float]) -> int:
    """Steps of the stem of a run of so many tokens; 0 where the learning rate falls from the warm-up on."""
    steps = math.ceil(tokens / batch_tokens)
    stable = optimizer.stable_until(steps * batch_tokens)
    if stable is None:
        return 0
    # A step has the learning rate of the middle of its batch.
    return min([steps, math.floor(stable / batch_tokens + 0.5 - _ROUNDING), *stage_begins(later, steps)[1:2]])


def stem_of(request: Request) -> tuple[int, str]:
    """Steps of a run's stem, 0 where there is none, and the digest of all that shapes them."""
    if request.tokens is None or not isinstance(request.data, ShardsData):
        return 0, ""
    optimizer, data = request.optimizer, request.data
    described = request.described()
    described.pop("tokens")
    if not request.judges:
        described.pop("evaluate_every")
    described["optimizer"] = without_fall(described["optimizer"])
    described["data"].pop("later")
    described["data"]["parts"] = [part for part in described["data"]["parts"] if part["weight"]]
    later = [stage.share for stage in data.later]
    return stem_steps(optimizer, request.tokens, request.batch_tokens, later), digest_of_value(described)


def without_fall(optimizer: dict[str, object]) -> dict[str, object]:
    """Settings of an optimiser without those of the learning rate's fall."""
    return {name: value for name, value in optimizer.items() if name not in _AFTER_THE_STEM}
