"""Settings of what is learnt. Imports no torch."""

from __future__ import annotations

import bisect
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BeforeValidator, Field, model_validator

from model.config import Frozen


class _CrossEntropy(Frozen):
    """What every objective has that predicts tokens."""

    label_smoothing: float = Field(0.0, ge=0, lt=1)
    """Share of the target's probability that is spread evenly over the vocabulary (Szegedy et al. 2016, section 7)."""
    z_loss: float = Field(0.0, ge=0)
    """Weight of the squared logarithm of softmax's denominator, which keeps logits small (Chowdhery et al. 2022,
    section 5: 1e-4). Neither this nor the smoothing is part of the losses that are recorded."""

    @property
    def is_plain(self) -> bool:
        """Whether the loss is the cross-entropy itself."""
        return not (self.label_smoothing or self.z_loss)


class NextTokenConfig(_CrossEntropy):
    """Predict every token after a document's first from those before it."""

    name: Literal["next_token"] = "next_token"
    """The objective."""


class MaskedConfig(_CrossEntropy):
    """Predict hidden tokens from all others (BERT: Devlin et al. 2019, section 3.1); needs bidirectional attention."""

    name: Literal["masked"] = "masked"
    """The objective."""
    fraction: float = Field(0.15, gt=0, lt=1)
    """Probability with which a token (or word) is to be predicted."""
    hidden: float = Field(0.8, ge=0, le=1)
    """Of the tokens to be predicted, the share that the network sees as the mask token."""
    replaced: float = Field(0.1, ge=0, le=1)
    """Of the tokens to be predicted, the share that it sees as any token, drawn evenly; the rest stay as they are."""
    whole_words: bool = False
    """Choose words instead of tokens, with all their pieces. A word begins behind white space or another script, as the
    tokenizer's pieces tell; where words are not parted by spaces (Chinese, Japanese, Thai …) each piece is one."""
    next_sentence: bool = False
    """Train on pairs of segments too: is the second what follows the first in its document, or from another one?"""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.hidden + self.replaced > 1:
            raise ValueError(f"hidden {self.hidden} and replaced {self.replaced} are more than 1 together")
        return self


class SpansConfig(_CrossEntropy):
    """Write what is missing in the gaps of a text (Raffel et al. 2020, section 3.1.4), with causal attention.

    A sequence is the text with gaps and, behind it, what belongs in them: ``the <extra_id_0> sat <extra_id_1> </s>
    <extra_id_0> cat <extra_id_1> on the mat </s>``. Only what comes behind the second ``<extra_id_0>`` is learnt.
    """

    name: Literal["spans"] = "spans"
    """The objective."""
    fraction: float = Field(0.15, gt=0, lt=1)
    """Share of the tokens of a text that is missing; at least one is."""
    span_tokens: float = Field(3.0, ge=1)
    """Tokens of a gap on average."""

    def missing(self, tokens: int) -> tuple[int, int]:
        """Of so many tokens, how many are missing, and in how many gaps."""
        if not tokens:
            return 0, 0
        missing = min(max(round(tokens * self.fraction), 1), tokens)
        return missing, min(max(round(missing / self.span_tokens), 1), tokens - missing + 1)

    def places(self, tokens: int) -> int:
        """Positions of a text of so many tokens behind its first: a sentinel for each gap, twice, and an end."""
        return tokens + 2 * self.missing(tokens)[1] + 1

    def longest(self, context: int) -> int:
        """Tokens behind the first of the longest text whose sequence has at most so many positions."""
        return bisect.bisect_right(range(1, context + 1), context, key=self.places)

    def sentinels(self, context: int) -> int:
        """Gaps of a sequence at most."""
        return self.missing(self.longest(context))[1]


AnyObjective = NextTokenConfig | MaskedConfig | SpansConfig
_Name = Literal["next_token", "masked", "spans"]


def _named(value: Any) -> Any:
    """A name stands for the objective with its defaults."""
    name = value.get("name", "next_token") if isinstance(value, dict) else value
    if isinstance(name, str) and name not in get_args(_Name):
        raise ValueError(f"there is no objective {name!r}; take 'next_token', 'masked' or 'spans'")
    if isinstance(value, str):
        return {"name": value}
    return {"name": name, **value} if isinstance(value, dict) else value


ObjectiveConfig = Annotated[
    Annotated[AnyObjective, Field(discriminator="name")],
    BeforeValidator(_named, json_schema_input_type=_Name | AnyObjective),
]
"""``next_token``, ``masked``, ``spans``, or one of them with settings: ``{name: masked, whole_words: true}``."""
