"""Encoders in folders that ``transformers`` opens, with equal logits."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForMaskedLM, AutoModelForSequenceClassification

from model.config import ModelConfig
from model.formats import huggingface
from model.network.encoder import PairEncoder, with_head
from model.network.transformer import IGNORED, Transformer

SHAPE = ModelConfig(layers=2, width=32, heads=4, kv_heads=2, context=24, attention="bidirectional")
VOCABULARY = 61


def made(of_pairs: bool) -> Transformer:
    network = (PairEncoder if of_pairs else Transformer)(SHAPE, VOCABULARY)
    network.initialise(3)
    return network.eval()


@torch.no_grad()
@pytest.mark.parametrize("of_pairs", [False, True])
def test_transformers_opens_an_encoder_with_equal_logits(of_pairs: bool, tmp_path: Path) -> None:
    network = made(of_pairs)
    huggingface.write(tmp_path, SHAPE, VOCABULARY, network.state_dict(), bos=1, eos=2, pad=3, mask=4)
    tokens_BT = torch.randint(5, VOCABULARY, (3, 24))
    theirs, loading = AutoModelForMaskedLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not loading["missing_keys"]
    assert theirs.config.mask_token_id == 4
    assert torch.allclose(theirs.eval()(tokens_BT).logits, network(tokens_BT), atol=2e-6)
    # Padded, as their tokenizers pad: what is behind a text is not seen.
    seen_BT = torch.arange(24) < torch.tensor([[24], [17], [5]])
    padded = theirs(tokens_BT, attention_mask=seen_BT.long()).logits
    documents_BT = torch.where(seen_BT, 0, -1)
    assert torch.allclose(padded[seen_BT], network(tokens_BT, None, documents_BT)[seen_BT], atol=2e-6)
    again = huggingface.load(tmp_path)
    assert type(again) is type(network)
    assert torch.equal(again(tokens_BT), network(tokens_BT))


@torch.no_grad()
def test_transformers_tells_pairs_apart_as_in_training(tmp_path: Path) -> None:
    network = made(of_pairs=True)
    huggingface.write(tmp_path, SHAPE, VOCABULARY, network.state_dict(), bos=1, eos=2, pad=3, mask=4)
    theirs, loading = AutoModelForSequenceClassification.from_pretrained(tmp_path, output_loading_info=True)
    assert not loading["missing_keys"]
    tokens_BT, labels_B = torch.randint(5, VOCABULARY, (4, 24)), torch.tensor([0, 1, IGNORED, 1])
    targets_BT = torch.where(torch.rand(4, 24) < 0.2, tokens_BT, IGNORED)
    of_tokens, of_classes = network(tokens_BT, targets_BT=targets_BT, labels_B=labels_B)
    wanted = torch.nn.functional.cross_entropy(theirs.eval()(tokens_BT).logits, labels_B, reduction="sum")
    assert float(of_classes) == pytest.approx(float(wanted), rel=1e-5)
    assert float(of_tokens) == pytest.approx(float(network(tokens_BT, targets_BT=targets_BT)), rel=1e-6)


@torch.no_grad()
def test_the_second_output_can_be_added_and_taken_away() -> None:
    network, tokens_BT = made(of_pairs=False), torch.randint(5, VOCABULARY, (2, 24))
    more = with_head(network, True, seed=5)
    assert isinstance(more, PairEncoder)
    assert torch.equal(more.eval()(tokens_BT), network(tokens_BT))
    less = with_head(more, False, seed=5)
    assert type(less) is Transformer
    assert torch.equal(less.eval()(tokens_BT), network(tokens_BT))
    assert with_head(less, False, seed=5) is less
