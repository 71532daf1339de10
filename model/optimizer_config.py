"""Settings of an optimiser: how weights follow from gradients. Imports no torch."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from model.config import Frozen

Name = Literal["adamw", "muon"]

_BETAS: dict[Name, tuple[float, float]] = {
    "adamw": (0.9, 0.95),
    "muon": (0.9, 0.95),
}
_DECAY_SHARE = 0.2


class OptimizerConfig(Frozen):
    """How weights follow from gradients: ``{name: adamw, learning_rate: 1e-3, warmup_tokens: 100_000}``."""

    name: Name = "adamw"
    """``adamw`` (Loshchilov and Hutter 2019); ``muon`` (Jordan et al. 2024) for the matrices inside the
    network and AdamW for the rest: learns more from the same tokens."""
    learning_rate: float = Field(1e-3, gt=0)
    """At the end of the warm-up."""
    warmup_tokens: int = Field(0, ge=0)
    """Tokens over which the learning rate rises linearly from 0."""
    schedule: Literal["cosine", "stable_decay", "linear", "constant"] = "cosine"
    """The learning rate after the warm-up: falls along a ``cosine`` (Loshchilov and Hutter 2017) or a ``linear`` line
    to the last token; stays and falls at the end (``stable_decay``: Hu et al. 2024); or stays (``constant``). Only a
    part of a run in which it stays can be continued for longer."""
    decay_share: float | None = Field(None, gt=0, le=1)
    """stable_decay: the share of all tokens over which the learning rate falls; default: that of the last stage of
    the data where there are stages, else 0.2."""
    decay_shape: Literal["linear", "sqrt"] = "linear"
    """stable_decay: falls linearly, or as 1 - sqrt (Hägele et al. 2024), faster at first."""
    final_fraction: float = Field(0.1, ge=0, le=1)
    """What is left of the learning rate at the last token, where it falls."""
    weight_decay: float = Field(0.1, ge=0)
    """Decoupled, and of matrices only."""
    betas: tuple[float, float] | None = None
    """Decay, per step, of the averages of gradients and of their squares. Default: (0.9, 0.95)."""
    momentum: float = Field(0.95, ge=0, lt=1)
    """Muon: decay of the average of gradients, per step."""
    epsilon: float = Field(1e-8, gt=0)
    """Added to the root of the averaged squares."""
    clip_norm: float = Field(1.0, ge=0)
    """Gradients whose norm over all weights is larger are scaled down to it; 0: never."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not all(0 <= beta < 1 for beta in self.averaging):
            raise ValueError(f"betas {self.betas} must lie in [0, 1)")
        return self

    @property
    def averaging(self) -> tuple[float, float]:
        """``betas``, or the optimiser's own."""
        return self.betas if self.betas is not None else _BETAS[self.name]

    def check_length(self, tokens: int) -> None:
        """ValueError where so many tokens are too few for the warm-up, or it would reach into the decay."""
        stable = self.stable_until(tokens)
        if self.warmup_tokens > tokens:
            raise ValueError(f"optimizer.warmup_tokens {self.warmup_tokens} is more than tokens {tokens}")
        if stable is not None and self.warmup_tokens > stable:
            raise ValueError(
                f"optimizer.warmup_tokens {self.warmup_tokens} reaches into the decay, which begins after "
                f"{stable:,.0f} tokens: lower it, or decay_share"
            )

    def stable_until(self, total: float) -> float | None:
        """Up to how many of ``total`` tokens the learning rate stays what it is; None: it falls from the warm-up on."""
        if self.schedule == "constant":
            return total
        if self.schedule == "stable_decay":
            share = _DECAY_SHARE if self.decay_share is None else self.decay_share
            return total * (1 - share)
        return None
