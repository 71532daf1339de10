"""Mixtures of token shards, and the stages of a training that change from one to the next."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pydantic import Field

from storage.errors import SourceError, UserError
from storage.shards import Shards
from tasks.task import Input, Settings

if TYPE_CHECKING:
    from model.request import ShardsData


class MixturePart(Settings):
    """One part of the data: ``{shards: web, weight: 0.8}``."""

    shards: Input[Shards]
    """Token shards; those of a mixture must have been made with the same tokenizer."""
    weight: float = Field(gt=0, allow_inf_nan=False)
    """Its share of the training sequences, relative to the other parts' weights, at every moment of the training."""
    max_epochs: float | None = Field(None, gt=0, allow_inf_nan=False)
    """Passes over it at most, in all stages together; from then on the others share in their proportions. Where it is
    given twice, the smaller counts. None: any number."""


class Stage(Settings):
    """The end of a training, on a mixture of its own: ``{data: [{shards: best, weight: 1}], share: 0.1}``."""

    data: Input[Shards] | list[MixturePart]
    """Token shards, or a mixture; those that came before go on where they were, so that nothing is seen twice."""
    share: float = Field(gt=0, lt=1)
    """Of all tokens."""


Data = Input[Shards] | list[MixturePart]


def mixtures(data: Data, stages: Sequence[Stage]) -> list[list[MixturePart]]:
    """Of every stage."""
    given = [data, *(stage.data for stage in stages)]
    return [found if isinstance(found, list) else [MixturePart(shards=found, weight=1.0)] for found in given]


def smallest_bounds(parts: Sequence[MixturePart], digests: Sequence[str]) -> dict[str, float]:
    """How often shards may be passed over at most, of those that are bounded; ``digests``: of every part's."""
    bounds: dict[str, float] = {}
    for part, digest in zip(parts, digests, strict=True):
        if part.max_epochs is not None:
            bounds[digest] = min(part.max_epochs, bounds.get(digest, part.max_epochs))
    return bounds


def shards_data(
    data: Data, stages: Sequence[Stage], opened: Sequence[Shards], shuffle_tokens: int | None
) -> ShardsData:
    """Every part once, with its weights in all stages; ``opened``: the shards of every mixture's parts in turn."""
    from model.request import LaterStage, Opened, ShardsData, ShardsPart

    of_stages = mixtures(data, stages)
    parts = [part for mixture in of_stages for part in mixture]
    digests = [found.digest for found in opened]
    bounds = smallest_bounds(parts, digests)
    names: dict[str, str] = {}
    for part, digest in zip(parts, digests, strict=True):
        names.setdefault(digest, part.shards.name)
    shards = {found.digest: found for found in opened}
    weights, left = [], iter(digests)
    for mixture in of_stages:
        of_stage = dict.fromkeys(shards, 0.0)
        for part, digest in zip(mixture, left, strict=False):
            of_stage[digest] += part.weight
        weights.append(of_stage)
    return ShardsData(
        parts=tuple(
            ShardsPart(
                shards=Opened.of(found),
                weight=weights[0][digest],
                max_epochs=bounds.get(digest),
                called=names[digest],
            )
            for digest, found in shards.items()
        ),
        later=tuple(
            LaterStage(share=stage.share, weights=tuple(of_stage.values()))
            for stage, of_stage in zip(stages, weights[1:], strict=True)
        ),
        shuffle_tokens=shuffle_tokens,
    )


def check_shards(parts: Sequence[MixturePart], opened: Sequence[Shards]) -> None:
    """UserError for shards of different tokenizers, SourceError for an empty training split."""
    for part, shards in zip(parts, opened, strict=True):
        if shards.tokenizer.digest != opened[0].tokenizer.digest:
            first, other = parts[0].shards.name, part.shards.name
            raise UserError(f"data: {first} and {other} were made with different tokenizers: one model needs one")
        if shards.split("train").tokens == 0:
            raise SourceError(f"data: the training split of {part.shards.name} is empty: give more documents")
