"""Settings of an optimiser: how weights follow from gradients. Imports no torch."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from model.config import Frozen


class OptimizerConfig(Frozen):
    """How weights follow from gradients: ``{name: adamw, learning_rate: 1e-3, warmup_tokens: 100_000}``."""

    name: Literal["adamw", "muon"] = "adamw"
    """``adamw`` (Loshchilov and Hutter 2019); ``muon`` (Jordan et al. 2024) for the matrices inside the
    network and AdamW for the rest, with one learning rate for both: learns more from the same tokens."""
    learning_rate: float = Field(1e-3, gt=0)
    """At the end of the warm-up."""
    warmup_tokens: int = Field(0, ge=0)
    """Tokens over which the learning rate rises linearly from 0."""
    final_fraction: float = Field(0.1, ge=0, le=1)
    """What is left of the learning rate when its cosine decay ends, at the last token."""
    weight_decay: float = Field(0.1, ge=0)
    """Decoupled, and of matrices only."""
    betas: tuple[float, float] = (0.9, 0.95)
    """AdamW: decay of the averages of gradients and of their squares, per step."""
    momentum: float = Field(0.95, ge=0, lt=1)
    """Muon: decay of the average of gradients, per step."""
    epsilon: float = Field(1e-8, gt=0)
    """Added to the root of the averaged squares."""
    clip_norm: float = Field(1.0, ge=0)
    """Gradients whose norm over all weights is larger are scaled down to it; 0: never."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas {self.betas} must lie in [0, 1)")
        return self
