"""The learning rate as a function of the tokens trained on."""

from __future__ import annotations

import math

from model.learning.optimizer_config import OptimizerConfig


def learning_rate(tokens: float, optimizer: OptimizerConfig, total: float) -> float:
    """Linear warm-up, then the schedule to ``total`` tokens.

    ``tokens``: those trained on so far; a step takes the middle of its batch, so neither end of a
    run is a step of rate 0.
    """
    peak, warmup, last = optimizer.learning_rate, float(optimizer.warmup_tokens), optimizer.final_fraction
    if tokens < warmup:
        return peak * tokens / warmup
    stable = optimizer.stable_until(total)
    begin = warmup if stable is None else max(warmup, stable)
    progress = min(1.0, max(0.0, tokens - begin) / max(total - begin, 1.0))
    # Exactly the peak where nothing has fallen: that much is the same whatever comes later.
    return peak * (1 - (1 - last) * (1 - _remaining(progress, optimizer)))


def _remaining(progress: float, optimizer: OptimizerConfig) -> float:
    """What is left of the way down, from 1 to 0, at that share of it."""
    if optimizer.schedule == "constant":
        return 1.0
    if optimizer.schedule == "cosine":  # Loshchilov and Hutter 2017 (SGDR), equation 5, without restarts
        return (1 + math.cos(math.pi * progress)) / 2
    if optimizer.schedule == "stable_decay" and optimizer.decay_shape == "sqrt":
        return 1 - math.sqrt(progress)  # Hägele et al. 2024, section 3
    return 1 - progress
