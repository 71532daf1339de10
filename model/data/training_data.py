"""What a request's data become: an order of training rows, and rows to validate on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from model.checkpoints.stem import stage_begins
from model.data.batches import Rows, Sequences, Text, TextRows
from model.data.course import Course, Stage
from model.data.order import Order, permuted
from model.data.pairs import PairRows
from model.data.shard_rows import ShardRows, check_room
from model.data.spans import SpanRows
from model.learning.objective_config import SpansConfig
from model.request import ExamplesData, Request, ShardsData
from storage.corpus import Examples
from storage.errors import UserError
from storage.shards import Shards, Split, SplitName
from storage.tokenizer import Tokenizer

JUDGED_TOKENS = 32_768
"""Of each source at least so many, if it has them, measure a loss that decides about the result: two small batches
would be a few sequences."""


@dataclass(frozen=True)
class TrainingData:
    """What a run is trained and measured on."""

    order: Order
    validation: dict[str, Sequences]
    """By source."""
    steps: int
    facts: dict[str, float]
    """What is told of a mixture: ``epochs/NAME``, the passes over a part, and ``ended/NAME``, after how many tokens a
    part was left out that had been passed over as often as it may be."""


def make_data(request: Request) -> TrainingData:
    """The order of training rows, rows to validate on, and the number of steps.

    Raises UserError where there is nothing to train on, or not as much as is asked for.
    """
    parts, held_out = _rows(request)
    if any(len(part) == 0 for part in parts):
        raise UserError("the training split is empty: there is nothing to train on")
    sequences = request.batch_sequences
    if request.epochs is not None:
        steps = math.ceil(request.epochs * sum(len(part) for part in parts) / sequences)
    else:
        steps = math.ceil((request.tokens or 0) / request.batch_tokens)
    steps = max(1, steps)
    most = 2 * sequences
    if request.judges:
        most = max(most, math.ceil(JUDGED_TOKENS / request.context))
    validation = {name: _some(part, most) for name, part in held_out.items()}
    validation = {name: rows for name, rows in validation.items() if len(rows)}
    if isinstance(request.data, ExamplesData):
        return TrainingData(Order(parts, [1.0], request.seed), validation, steps, {})
    course = course_of(request, request.data, [len(part) for part in parts], steps)
    facts = _facts(request, course, [len(part) for part in parts]) if len(parts) > 1 else {}
    return TrainingData(Order(parts, course, request.seed), validation, steps, facts)


def _rows(request: Request) -> tuple[list[Rows], dict[str, Rows]]:
    """The rows of every part to train on, and by name those to validate on."""
    if isinstance(request.data, ExamplesData):
        return (
            [_examples(request.data, "train", request.context)],
            {"examples": _examples(request.data, "validation", request.context)},
        )
    opened = [Shards(part.shards.folder, part.shards.manifest) for part in request.data.parts]
    splits, block = [shards.split("train") for shards in opened], request.data.shuffle_tokens
    check_room(splits, block)
    held_out: dict[str, Rows] = {}
    for number, (part, shards) in enumerate(zip(request.data.parts, opened, strict=True)):
        split, name = shards.split("validation"), part.called or str(number)
        held_out[name] = _sequences(split, request, None)
    return [_sequences(split, request, block) for split in splits], held_out


def course_of(request: Request, data: ShardsData, sizes: Sequence[int], steps: int) -> Course:
    """Which part each row of so many steps comes from; ``sizes``: the rows of each part. Stages begin with a step.

    Raises UserError where the parts may not be passed over often enough for all steps.
    """
    weights = [tuple(part.weight for part in data.parts), *(stage.weights for stage in data.later)]
    begins = stage_begins([stage.share for stage in data.later], steps)
    lengths = np.diff([*begins, steps]) * request.batch_sequences
    stages = [Stage(shares, int(rows)) for shares, rows in zip(weights, lengths, strict=True)]
    limits = [
        None if part.max_epochs is None else int(part.max_epochs * size)
        for part, size in zip(data.parts, sizes, strict=True)
    ]
    course = Course(stages, limits)
    if course.length < steps * request.batch_sequences:
        raise UserError(
            f"data: with max_epochs, {course.length * request.context} of {steps * request.batch_tokens} tokens can be "
            "trained on before every part of a stage has ended: raise max_epochs, or lower tokens"
        )
    return course


def _facts(request: Request, course: Course, sizes: Sequence[int]) -> dict[str, float]:
    assert isinstance(request.data, ShardsData)
    names = [part.called or str(number) for number, part in enumerate(request.data.parts)]
    given = course.given(course.length)
    passes = {f"epochs/{name}": int(rows) / size for name, rows, size in zip(names, given, sizes, strict=True)}
    return passes | {f"ended/{names[part]}": float(row * request.context) for part, row in course.ends.items()}


def _examples(data: ExamplesData, split: SplitName, context: int) -> TextRows:
    ids = Examples(data.examples.folder, data.examples.manifest).split(split).column("id").to_pylist()
    return TextRows(example_texts(data, split), context, ids)


def _sequences(split: Split, request: Request, block: int | None) -> Rows:
    """The sequences of a split, in the form that the objective learns from."""
    special, context, seed = request.special_tokens, request.context, request.seed
    if request.pairs:
        return PairRows(split, context, special.bos, special.eos, seed)
    if isinstance(request.objective, SpansConfig):
        return SpanRows(split, context, request.objective, special.sentinels, special.eos, seed, block)
    return ShardRows(split, context, block, seed)


def tokenizer_of(request: Request) -> Tokenizer:
    """The tokenizer that made the request's tokens."""
    if isinstance(request.data, ShardsData):
        first = request.data.parts[0].shards
        return Shards(first.folder, first.manifest).tokenizer
    return Tokenizer(request.data.tokenizer.folder, request.data.tokenizer.manifest)


def _some(rows: Rows, most: int) -> Sequences:
    """At most that many sequences, spread over all of them."""
    return rows.read(permuted(np.arange(min(most, len(rows))), max(len(rows), 1), key=0))


def example_texts(data: ExamplesData, split: SplitName) -> list[Text]:
    """Prompts with their responses as tokens, ``<s>`` prompt response ``</s>``; the prompt is not predicted."""
    tokenizer = Tokenizer(data.tokenizer.folder, data.tokenizer.manifest)
    table = Examples(data.examples.folder, data.examples.manifest).split(split)
    return tokenised_examples(table.column("prompt").to_pylist(), table.column("response").to_pylist(), tokenizer)


def tokenised_examples(prompts: Sequence[str], responses: Sequence[str], tokenizer: Tokenizer) -> list[Text]:
    """Each example as one text; prompt and response are encoded separately."""
    encoded = zip(tokenizer.encode_many(prompts), tokenizer.encode_many(responses), strict=True)
    return [
        Text(np.array([tokenizer.bos_id, *prompt, *response, tokenizer.eos_id], np.int64), first=1 + len(prompt))
        for prompt, response in encoded
    ]
