"""What an objective needs of the network and the tokenizer, so that what is missing is told before training."""

from __future__ import annotations

from typing import TYPE_CHECKING

from model.config import ModelConfig
from model.learning.objective_config import AnyObjective, MaskedConfig, SpansConfig

if TYPE_CHECKING:
    from model.formats.foreign import ForeignShape

_LEAST_CONTEXT = 16
"""Positions of a sequence of two segments, or of a text and its gaps, at least."""


def check_direction(objective: AnyObjective, shape: ModelConfig | ForeignShape) -> None:
    """ValueError for an objective that the direction of the network's attention makes trivial or impossible."""
    wanted = "bidirectional" if isinstance(objective, MaskedConfig) else "causal"
    if shape.attention != wanted:
        raise ValueError(f"objective {objective.name} needs attention: {wanted}; the model's is {shape.attention}")


def check_context(objective: AnyObjective, context: int) -> None:
    """ValueError for a sequence that is too short for what the objective puts into it."""
    if context >= _LEAST_CONTEXT:
        return
    if isinstance(objective, MaskedConfig) and objective.next_sentence:
        raise ValueError(f"objective: two segments do not fit a context of {context}; take {_LEAST_CONTEXT} or more")
    if isinstance(objective, SpansConfig):
        raise ValueError(
            f"objective: a text and its gaps do not fit a context of {context}; take {_LEAST_CONTEXT} or more"
        )


def lacking(objective: AnyObjective, masks: bool, sentinels: int, context: int | None) -> tuple[str, str] | None:
    """What a tokenizer with (``masks``) or without a mask token, and with so many sentinels, lacks for the objective.

    What is wrong with it, and the setting of ``train_tokenizer`` that helps; None: nothing. ``context``: tokens of a
    sequence, None where they are not known yet.
    """
    if isinstance(objective, MaskedConfig) and not masks:
        return "has no mask token", "special_tokens: ['<mask>']"
    if isinstance(objective, SpansConfig):
        wanted = 1 if context is None else objective.sentinels(context)
        if sentinels < wanted:
            held = f"{sentinels or 'no'} sentinel{'' if sentinels == 1 else 's'}"
            of = "" if context is None else f" where a context of {context} needs {wanted}"
            return f"has {held}{of}", f"sentinels: {wanted}"
    return None
