"""What a masked objective hides, and that it hides the same wherever a sequence is drawn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter, ValidationError

from model.data.batches import Batch, Text, TextRows, collate
from model.learning.objective_config import MaskedConfig, NextTokenConfig, ObjectiveConfig, SpansConfig
from model.learning.objectives import Masked, make_objective
from model.network.sight import PADDING
from model.network.transformer import IGNORED
from storage.errors import UserError
from storage.tokenizer import Tokenizer
from tests.made import made_tokenizer

CONTEXT = 64


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return made_tokenizer(tmp_path_factory.mktemp("tokenizer"), special=["<mask>"])


def batch_of(tokenizer: Tokenizer, count: int, first_row: int = 0) -> Batch:
    random = np.random.default_rng(0)
    ordinary = [token for token in range(tokenizer.vocab_size) if token not in tokenizer.special_ids]
    texts = [Text(np.array([1, *random.choice(ordinary, random.integers(9, 62)), 2])) for _ in range(count)]
    rows = TextRows(texts, CONTEXT)
    return collate(rows.read(np.arange(len(rows))), CONTEXT, first_row)


def test_about_the_fraction_is_hidden_in_three_ways_and_nothing_else_changes(tokenizer: Tokenizer) -> None:
    before = batch_of(tokenizer, 2000)
    after = Masked(MaskedConfig(), tokenizer, seed=3).prepare(before)
    chosen = after.targets_BT != IGNORED
    special = torch.isin(before.tokens_BT, torch.tensor(tokenizer.special_ids))
    could_be = (before.documents_BT != PADDING) & ~special
    assert not (chosen & ~could_be).any()
    assert torch.equal(after.targets_BT[chosen], before.tokens_BT[chosen])
    assert torch.equal(after.tokens_BT[~chosen], before.tokens_BT[~chosen])
    count = int(could_be.sum())
    assert chosen.sum() / count == pytest.approx(0.15, abs=4 * (0.15 * 0.85 / count) ** 0.5)
    shown, was = after.tokens_BT[chosen], before.tokens_BT[chosen]
    error = 4 * (0.25 / len(was)) ** 0.5
    assert (shown == tokenizer.mask_id).float().mean() == pytest.approx(0.8, abs=error)
    assert (shown == was).float().mean() == pytest.approx(0.1 + 0.1 / 256, abs=error)
    assert not torch.isin(shown[shown != tokenizer.mask_id], torch.tensor(tokenizer.special_ids)).any()


def test_a_sequence_is_hidden_alike_in_any_batch_and_anew_in_another_place(tokenizer: Tokenizer) -> None:
    objective = Masked(MaskedConfig(), tokenizer, seed=3)
    whole = batch_of(tokenizer, 40, first_row=1000)
    prepared = objective.prepare(whole)
    for place in range(len(whole.rows_B)):
        alone = Batch(**{name: tensor[place : place + 1] for name, tensor in vars(whole).items()})
        assert torch.equal(objective.prepare(alone).tokens_BT[0], prepared.tokens_BT[place])
    for other in (
        objective.prepare(batch_of(tokenizer, 40, first_row=1001)),
        Masked(MaskedConfig(), tokenizer, 4).prepare(whole),
    ):
        same = (other.targets_BT != IGNORED) & (prepared.targets_BT != IGNORED)
        assert same.sum() < 0.4 * (prepared.targets_BT != IGNORED).sum()


def test_words_are_hidden_as_a_whole(tokenizer: Tokenizer) -> None:
    text = "The furnace keeps even heat, café; 炼金炉 for weeks."
    tokens = np.array([1, *tokenizer.encode(text), 2])
    rows = TextRows([Text(tokens)] * 300, len(tokens) - 1)
    batch = collate(rows.read(np.arange(300)), len(tokens) - 1)
    targets = Masked(MaskedConfig(whole_words=True), tokenizer, 1).prepare(batch).targets_BT.numpy() != IGNORED
    sizes = [len(word.encode()) for word in ("The", " furnace", " keeps", " even", " heat", ",", " café", ";")]
    sizes += [1, *(3,) * 3, len(" for"), len(" weeks"), 1]
    assert sum(sizes) == len(tokens) - 2
    start = 1
    for size in sizes:
        hidden = targets[:, start : start + size]
        assert np.array_equal(hidden.all(1), hidden.any(1)), tokenizer.decode(tokens[start : start + size])
        assert 0.05 < hidden.all(1).mean() < 0.25
        start += size


def test_a_tokenizer_without_a_mask_token_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no mask token; train one with special_tokens"):
        make_objective(MaskedConfig(), made_tokenizer(tmp_path), 1)


@pytest.mark.parametrize(
    ("given", "made"),
    [
        ("next_token", NextTokenConfig()),
        ("masked", MaskedConfig()),
        ({"name": "masked", "whole_words": True}, MaskedConfig(whole_words=True)),
        ({"name": "spans", "fraction": 0.3}, SpansConfig(fraction=0.3)),
        ({"z_loss": 1e-4}, NextTokenConfig(z_loss=1e-4)),
    ],
)
def test_an_objective_is_a_name_or_has_settings(given: Any, made: Any) -> None:
    assert TypeAdapter(ObjectiveConfig).validate_python(given) == made


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("mask", "there is no objective 'mask'; take 'next_token', 'masked' or 'spans'"),
        ({"name": "next_token", "whole_words": True}, "whole_words"),
        ({"name": "spans", "span_tokens": 0.5}, "span_tokens"),
        ({"name": "masked", "hidden": 0.8, "replaced": 0.3}, "more than 1 together"),
    ],
)
def test_objectives_that_cannot_be_are_refused(given: Any, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        TypeAdapter(ObjectiveConfig).validate_python(given)
