"""Settings of what is learnt. Imports no torch."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

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


def _named(value: Any) -> Any:
    """A name stands for the objective with its defaults."""
    name = value.get("name", "next_token") if isinstance(value, dict) else value
    if isinstance(name, str) and name not in ("next_token", "masked"):
        raise ValueError(f"there is no objective {name!r}; take 'next_token' or 'masked'")
    if isinstance(value, str):
        return {"name": value}
    return {"name": name, **value} if isinstance(value, dict) else value


ObjectiveConfig = Annotated[
    Annotated[NextTokenConfig | MaskedConfig, Field(discriminator="name")],
    BeforeValidator(_named, json_schema_input_type=Literal["next_token", "masked"] | NextTokenConfig | MaskedConfig),
]
"""``next_token``, ``masked``, or one of them with settings: ``{name: masked, whole_words: true}``."""
