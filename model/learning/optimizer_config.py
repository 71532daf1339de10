"""Settings of an optimiser: how weights follow from gradients. Imports no torch."""

from __future__ import annotations

import math
from typing import Literal, Self

from pydantic import Field, model_validator

from model.config import Frozen

Kind = Literal["embedding", "hidden", "output", "vector"]
"""What a weight is for."""
Name = Literal["adamw", "muon", "lion", "lamb"]

_BETAS: dict[Name, tuple[float, float]] = {
    "adamw": (0.9, 0.95),
    "muon": (0.9, 0.95),
    "lion": (0.9, 0.99),
    "lamb": (0.9, 0.999),
}
_DECAY_SHARE = 0.2
_OF = {
    "decay_share": ("schedule", "stable_decay"),
    "decay_shape": ("schedule", "stable_decay"),
    "momentum": ("name", "muon"),
}
"""Setting → the one that says whether it is of use, and by which value."""


class Factors(Frozen):
    """Learning rates of kinds of weights, relative to ``learning_rate``: ``{embeddings: 0.3}``."""

    matrices: float = Field(1.0, gt=0)
    """Those inside the network (of adapters too)."""
    embeddings: float = Field(1.0, gt=0)
    """The input embedding, which may be the output layer too."""
    output: float = Field(1.0, gt=0)
    """The output layer, where it has weights of its own."""
    vectors: float = Field(1.0, gt=0)
    """Gains and biases."""


class OptimizerConfig(Frozen):
    """How weights follow from gradients: ``{name: adamw, learning_rate: 1e-3, warmup_tokens: 100_000}``."""

    name: Name = "adamw"
    """``adamw`` (Loshchilov and Hutter 2019); ``muon`` (Jordan et al. 2024) for the matrices inside the
    network and AdamW for the rest: learns more from the same tokens; ``lion`` (Chen et al. 2023), which keeps half of
    AdamW's memory and wants a learning rate 3 to 10 times lower with as much more weight decay; ``lamb`` (You et al.
    2020), for very large batches."""
    learning_rate: float = Field(1e-3, gt=0)
    """At the end of the warm-up."""
    factors: Factors = Factors()
    """Learning rates of kinds of weights, relative to ``learning_rate``."""
    base_width: int | None = Field(None, ge=2)
    """The width at which ``learning_rate`` was found. A network of another width then learns best at about the same
    setting (muP: Yang et al. 2022, table 8): rates of matrices and of the output layer (the embedding, where it is
    tied) scale with base_width / width, and logits begin as large as they were. Heads must be as wide as they were.
    None: the rate is used as it is."""
    batch_scaling: Literal["linear", "sqrt"] | None = None
    """How ``learning_rate`` grows with the batch beyond ``base_batch_tokens``: in proportion (Goyal et al. 2017), or
    with its root (Krizhevsky 2014), which suits optimisers that normalise gradients. None: not at all."""
    base_batch_tokens: int | None = Field(None, ge=1)
    """The batch, in tokens, for which ``learning_rate`` was found; with ``batch_scaling``."""
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
    """Decay, per step, of the averages of gradients and of their squares; ``lion``: of the average within an update,
    and of the one that is kept. Default: (0.9, 0.95) for AdamW, (0.9, 0.99) for Lion, (0.9, 0.999) for LAMB."""
    momentum: float = Field(0.95, ge=0, lt=1)
    """Muon: decay of the average of gradients, per step."""
    epsilon: float = Field(1e-8, gt=0)
    """Added to the root of the averaged squares."""
    clip_norm: float = Field(1.0, ge=0)
    """Gradients whose norm over all weights is larger are scaled down to it; 0: never."""
    skip_spikes: float | None = Field(None, gt=1)
    """Leave a step out whose loss or gradient norm is more than so many times the median of the last 128 steps, or not
    finite (but no more than 3 of those in a row). None: never; what is not finite ends the run."""
    average_tokens: int | None = Field(None, ge=1)
    """Average the weights over the last steps, those of so many tokens ago counting 1/e as much, and make, measure
    and write the averaged model instead of the last one. Costs memory for one more copy of the weights, spread as
    moments are. None: no average."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not all(0 <= beta < 1 for beta in self.averaging):
            raise ValueError(f"betas {self.betas} must lie in [0, 1)")
        if (self.batch_scaling is None) != (self.base_batch_tokens is None):
            raise ValueError("batch_scaling and base_batch_tokens belong together: give both, or neither")
        for setting, (chooser, value) in _OF.items():
            chosen, default = getattr(self, chooser), type(self).model_fields[setting].default
            if getattr(self, setting) != default and chosen != value:
                raise ValueError(f"{setting} is for {chooser} {value}, not {chosen}: leave it out, or change {chooser}")
        return self

    @property
    def averaging(self) -> tuple[float, float]:
        """``betas``, or the optimiser's own."""
        return self.betas if self.betas is not None else _BETAS[self.name]

    def for_batch(self, batch_tokens: int) -> OptimizerConfig:
        """With the learning rate that a batch of so many tokens asks for."""
        if self.batch_scaling is None or self.base_batch_tokens is None:
            return self
        ratio = batch_tokens / self.base_batch_tokens
        rate = self.learning_rate * (ratio if self.batch_scaling == "linear" else math.sqrt(ratio))
        return self.model_copy(update={"learning_rate": rate, "batch_scaling": None, "base_batch_tokens": None})

    def widening(self, width: int | None) -> float:
        """base_width / width: what AdamW's rate of matrices is scaled by."""
        return 1.0 if self.base_width is None or width is None else self.base_width / width

    def factor(self, kind: Kind, width: int | None, reads_out: bool = False) -> float:
        """By what the learning rate of weights of this kind is multiplied, in a network of this width.

        ``reads_out``: its logits come from them (a tied embedding is both). An update of AdamW or Lion
        has entries of one size, and lies mostly in few directions: its largest singular value grows
        with the width. Muon's singular values are all alike, and LAMB's are relative to the weight's,
        so there they grow with the root of the width (Yang et al. 2023, "A spectral condition for
        feature learning").
        """
        factors, widening = self.factors, self.widening(width)
        if kind == "hidden":
            return factors.matrices * (widening if self.name in ("adamw", "lion") else math.sqrt(widening))
        if kind == "vector":
            return factors.vectors
        own = factors.embeddings if kind == "embedding" else factors.output
        return own * ((math.sqrt(widening) if self.name == "lamb" else widening) if reads_out else 1.0)

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
