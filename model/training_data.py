"""What a request's data become: an order of training rows, and rows to validate on."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from model.batches import Rows, Sequences, Text, TextRows, joined
from model.order import Order, permuted
from model.pairs import PairRows
from model.request import ExamplesData, Request, ShardsData
from model.shard_rows import ShardRows, check_room
from storage.corpus import Examples
from storage.errors import UserError
from storage.shards import Shards, Split, SplitName
from storage.tokenizer import Tokenizer


def make_data(request: Request) -> tuple[Order, Sequences, int]:
    """The order of training rows, rows to validate on, and the number of steps.

    Raises UserError where there is nothing to train on.
    """
    parts: list[Rows]
    held_out: list[Rows]
    if isinstance(request.data, ShardsData):
        opened = [Shards(part.shards.folder, part.shards.manifest) for part in request.data.parts]
        weights: Sequence[float] = [part.weight for part in request.data.parts]
        splits, block = [shards.split("train") for shards in opened], request.data.shuffle_tokens
        check_room(splits, block)
        validation_splits = [shards.split("validation") for shards in opened]
        if request.pairs:
            parts = [_pairs(split, request) for split in splits]
            held_out = [_pairs(split, request) for split in validation_splits]
        else:
            parts = [ShardRows(split, request.context, block, request.seed) for split in splits]
            held_out = [ShardRows(split, request.context) for split in validation_splits]
    else:
        weights = [1.0]
        parts = [TextRows(example_texts(request.data, "train"), request.context)]
        held_out = [TextRows(example_texts(request.data, "validation"), request.context)]
    if any(len(part) == 0 for part in parts):
        raise UserError("the training split is empty: there is nothing to train on")
    sequences = request.batch_sequences
    if request.epochs is not None:
        steps = math.ceil(request.epochs * sum(len(part) for part in parts) / sequences)
    else:
        steps = math.ceil((request.tokens or 0) / request.batch_tokens)
    validation = joined([_some(part, 2 * sequences) for part in held_out])
    return Order(parts, weights, request.seed), validation, max(1, steps)


def _pairs(split: Split, request: Request) -> PairRows:
    special = request.special_tokens
    return PairRows(split, request.context, special.bos, special.eos, request.seed)


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
