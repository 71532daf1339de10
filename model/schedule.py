"""The learning rate as a function of the tokens trained on."""

from __future__ import annotations

import math


def learning_rate(tokens: float, *, peak: float, warmup: float, total: float, final_fraction: float) -> float:
    """Linear warm-up to ``peak`` over ``warmup`` tokens, then a cosine down to ``final_fraction`` of it at ``total``.

    Loshchilov and Hutter 2017 (SGDR), equation 5, without restarts. ``tokens``: those trained on
    so far; a step takes the middle of its batch, so neither end of a run is a step of rate 0.
    """
    if tokens < warmup:
        return peak * tokens / warmup
    progress = min(1.0, (tokens - warmup) / max(total - warmup, 1.0))
    return peak * (final_fraction + (1 - final_fraction) * (1 + math.cos(math.pi * progress)) / 2)
