"""One dial: what follows from a depth, and what a network should be trained with. Imports no torch.

The shape follows nanochat's habit of a width in proportion to the depth; tokens follow Hoffmann et
al. 2022 ("Training Compute-Optimal Large Language Models", section 3: about 20 a parameter); batch
and learning rate follow Li et al. 2025 ("Predictable Scale: Part I, Step Law", arXiv 2503.04715),
which were fitted for AdamW with a cosine decay on networks of 60 million to a billion parameters.
Muon takes the same learning rate here, since its updates are scaled to be as large as AdamW's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from model.config import ModelConfig

WIDTH_PER_LAYER = 64
HEAD_WIDTH = 64
CONTEXT_PER_WIDTH = 4
"""Attention then costs at most a third of what the matrices cost: context / (12 x width)."""
LARGEST_CONTEXT = 2_048
TOKENS_PER_PARAMETER = 20
WARMUP_SHARE = 0.02


def shape_of_depth(depth: int, given: Mapping[str, Any]) -> dict[str, Any]:
    """A network's settings: those ``given`` (``depth`` left out), and what the depth says of the others."""
    found = {name: value for name, value in given.items() if name != "depth"}
    found.setdefault("layers", depth)
    width = found.setdefault("width", WIDTH_PER_LAYER * depth)
    if not isinstance(width, int):
        return found  # refused by the field's own check
    if "heads" not in found:
        found["heads"] = max(1, width // (found.get("head_width") or HEAD_WIDTH))
        if width % found["heads"]:
            found.setdefault("head_width", HEAD_WIDTH)
    # Measured on Tiny Shakespeare (3 layers of width 96, Muon, 230,000 tokens): together 0.033 and 0.027 nats
    # below neither, with seeds 1 and 2; either one alone hardly anything.
    found.setdefault("qk_norm", True)
    found.setdefault("zero_outputs", True)
    found.setdefault("context", min(CONTEXT_PER_WIDTH * width, LARGEST_CONTEXT))
    return found


@dataclass(frozen=True)
class Recommended:
    """What to train a network with."""

    tokens: int
    """Positions to train on."""
    batch_tokens: int
    """Positions of a step: a multiple of the context."""
    learning_rate: float
    """At the end of the warm-up."""
    warmup_tokens: int
    """Positions over which the learning rate rises."""


def recommended(shape: ModelConfig, tokens: int | None = None) -> Recommended:
    """Settings for a network trained on ``tokens``; default: 20 for each weight of its blocks' matrices.

    Batch 0.58 D^0.571 tokens, rounded to whole sequences; learning rate 1.79 N^-0.713 D^0.307, for
    N weights and D tokens (Li et al. 2025, equation 1).
    """
    weights = shape.active_hidden_parameters
    trained = TOKENS_PER_PARAMETER * weights if tokens is None else tokens
    batch = max(1, round(0.58 * trained**0.571 / shape.context)) * shape.context
    rate = 1.79 * weights**-0.713 * trained**0.307
    return Recommended(trained, batch, float(f"{rate:.2g}"), round(WARMUP_SHARE * trained))
