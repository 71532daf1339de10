"""What a training that continues a model must know of it before it begins."""

from __future__ import annotations

from itertools import zip_longest
from typing import TYPE_CHECKING

from storage.artifact import Artifact
from storage.errors import UserError

if TYPE_CHECKING:
    from storage.tokenizer import Tokenizer

REWARMED = 100
"""By default, the learning rate of a continued model rises over one in so many of the tokens: Ibrahim et al. 2024
("Simple and Scalable Strategies to Continually Pre-train Large Language Models"), section 6.1."""


def sequence_length(start: Artifact, wanted: int | None, batch_tokens: int, tokenizer: Tokenizer) -> int:
    """Tokens of a training sequence, within what the model can take; default: its context, or the batch if less.

    Raises UserError for a length that does not fit the model or the batch, or a tokenizer with more ids than the
    network.
    """
    from model.formats import huggingface

    shape, vocabulary = huggingface.shape_in(start.folder)
    if tokenizer.vocab_size > vocabulary:
        raise UserError(
            f"model: its tokenizer has {tokenizer.vocab_size} pieces, its network {vocabulary}: take another one"
        )
    context = min(shape.context, batch_tokens) if wanted is None else wanted
    if context > shape.context:
        raise UserError(f"context {context} is more than the model's {shape.context}: lower it")
    if batch_tokens % context:
        raise UserError(f"batch_tokens {batch_tokens} is not a multiple of the context {context}: make it one")
    return context


def check_same_tokenizer(start: Artifact, tokenizer: Tokenizer, name: str, shards: str) -> None:
    """UserError unless the shards' ids mean to the model ``name`` what they mean in the shards."""
    from model.formats import huggingface

    own = huggingface.tokenizer_of(start)
    remedy = f"make {shards} with the tokenizer of {name} ({{path: FOLDER}}, or the step that trained it)"
    for number, (piece, other) in enumerate(zip_longest(own.pieces, tokenizer.pieces)):
        if piece != other:
            raise UserError(
                f"start: {name} and {shards} have different tokenizers: id {number} is {_shown(piece)} in the model's, "
                f"{_shown(other)} in the shards': {remedy}"
            )
    if (own.bos_id, own.eos_id) != (tokenizer.bos_id, tokenizer.eos_id):
        raise UserError(f"start: {name} and {shards} have other beginning and end tokens: {remedy}")


def _shown(piece: str | None) -> str:
    return "none" if piece is None else repr(piece)
