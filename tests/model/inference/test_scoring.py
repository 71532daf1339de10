"""Packed evaluation, against ``transformers`` fed one document at a time."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from model.config import ModelConfig
from model.data.batches import Text
from model.formats import huggingface
from model.inference import scoring
from model.network.transformer import Transformer

VOCABULARY, CONTEXT = 50, 16


@pytest.fixture(scope="module")
def network() -> Transformer:
    made = Transformer(ModelConfig(layers=2, width=32, heads=4, kv_heads=2, context=CONTEXT), VOCABULARY)
    made.initialise(seed=2)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.mul_(2.0)  # far from uniform
    return made.eval()


@pytest.fixture(scope="module")
def theirs(network, tmp_path_factory):
    from transformers import AutoModelForCausalLM

    folder = tmp_path_factory.mktemp("model")
    huggingface.write(folder, network.shape, VOCABULARY, network.state_dict(), bos=1, eos=2, pad=None)
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def random_texts(lengths, firsts=None):
    rng = np.random.default_rng(0)
    firsts = firsts or [1] * len(lengths)
    return [
        Text(rng.integers(3, VOCABULARY, size=length), first=first)
        for length, first in zip(lengths, firsts, strict=True)
    ]


def loss_one_by_one(model, texts):
    """Each text alone, in pieces of at most CONTEXT predictions from its start."""
    total = 0.0
    for text in texts:
        for start in range(0, len(text.tokens) - 1, CONTEXT):
            piece = torch.from_numpy(text.tokens[start : start + CONTEXT + 1].astype(np.int64))
            with torch.no_grad():
                log_p = model(piece[None, :-1]).logits[0].double().log_softmax(-1)
            for t in range(len(piece) - 1):
                if start + t + 1 >= text.first:
                    total -= log_p[t, piece[t + 1]].item()
    return total


def test_packed_loss_is_that_of_every_document_alone(network, theirs):
    texts = random_texts([2, 5, 17, 16, 18, 40, 3, 9, 33, 2, 1])
    found = scoring.summed_loss(network, texts)
    assert found == pytest.approx(loss_one_by_one(theirs, texts), rel=1e-5)
    assert scoring.predicted_tokens(texts) == sum(len(text.tokens) - 1 for text in texts)


def test_only_responses_count(network, theirs):
    texts = random_texts([12, 30, 20, 8], firsts=[5, 20, 17, 8])
    found = scoring.summed_loss(network, texts)
    assert found == pytest.approx(loss_one_by_one(theirs, texts), rel=1e-5)
    assert scoring.predicted_tokens(texts) == 7 + 10 + 3 + 0


def test_short_texts_in_a_long_context_and_small_batches_change_nothing(network, theirs, monkeypatch):
    texts = random_texts([4, 6, 5, 3, 7] * 5)
    whole = scoring.summed_loss(network, texts)
    monkeypatch.setattr(scoring, "POSITIONS_AT_A_TIME", 1)
    told: list[tuple[int, int]] = []
    assert scoring.summed_loss(network, texts, lambda done, total: told.append((done, total))) == pytest.approx(whole)
    assert whole == pytest.approx(loss_one_by_one(theirs, texts), rel=1e-5)
    assert told[-1][0] == told[-1][1] == len(told)


def test_nothing_to_predict_costs_nothing(network):
    assert scoring.summed_loss(network, random_texts([1, 5], firsts=[1, 5])) == 0.0
    assert scoring.summed_loss(network, []) == 0.0
