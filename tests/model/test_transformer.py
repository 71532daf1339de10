from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import LlamaConfig, LlamaForCausalLM

from model.batches import Text, TextRows, collate
from model.config import ModelConfig
from model.transformer import IGNORED, Cache, Transformer

VOCABULARY = 97
SHAPES = {
    "grouped queries, tied": ModelConfig(layers=2, width=32, heads=8, kv_heads=2, context=24),
    "one key head, not tied": ModelConfig(layers=2, width=32, heads=4, kv_heads=1, context=24, tied_embeddings=False),
    "free head width": ModelConfig(layers=1, width=32, heads=4, context=24, head_width=16, feed_forward=40),
    "other constants": ModelConfig(layers=2, width=32, heads=4, context=24, rope_theta=500.0, norm_eps=1e-2),
}


def network(shape: ModelConfig) -> Transformer:
    made = Transformer(shape, VOCABULARY)
    made.initialise(3)
    with torch.no_grad():  # gains that are not one, so that leaving them out would show
        for weight in made.parameters():
            if weight.dim() == 1:
                weight.copy_(torch.linspace(0.5, 1.5, len(weight)))
    return made


def llama(shape: ModelConfig) -> LlamaForCausalLM:
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=shape.width,
        intermediate_size=shape.inner_features,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.key_value_heads,
        head_dim=shape.head_features,
        max_position_embeddings=shape.context,
        rms_norm_eps=shape.norm_eps,
        rope_parameters={"rope_type": "default", "rope_theta": shape.rope_theta},
        tie_word_embeddings=shape.tied_embeddings,
    )
    return LlamaForCausalLM(config).eval()


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_logits_and_gradients_are_those_of_transformers(shape: ModelConfig) -> None:
    ours, theirs = network(shape), llama(shape)
    theirs.load_state_dict(ours.state_dict(), strict=True)
    tokens = torch.randint(0, VOCABULARY, (3, shape.context))
    targets = torch.randint(0, VOCABULARY, (3, shape.context))
    wanted = theirs(tokens).logits
    torch.testing.assert_close(ours(tokens), wanted, rtol=1e-5, atol=1e-5)

    torch.nn.functional.cross_entropy(wanted.flatten(0, 1), targets.flatten(), reduction="sum").backward()
    ours(tokens, targets_BT=targets).backward()
    gradients = dict(theirs.named_parameters())
    for name, weight in ours.named_parameters():
        torch.testing.assert_close(weight.grad, gradients[name].grad, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_the_shape_counts_its_weights(shape: ModelConfig) -> None:
    assert shape.parameters(VOCABULARY) == sum(weight.numel() for weight in Transformer(shape, VOCABULARY).parameters())


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(2, 24), min_size=1, max_size=8), st.integers(0, 2**20))
def test_packed_documents_get_the_logits_they_get_alone(lengths: list[int], seed: int) -> None:
    shape = SHAPES["grouped queries, tied"]
    made = network(shape)
    generator = torch.Generator().manual_seed(seed)
    texts = [Text(torch.randint(0, VOCABULARY, (length,), generator=generator).numpy()) for length in lengths]
    rows = TextRows(texts, shape.context)
    batch = collate(rows.read(np.arange(len(rows))), shape.context)
    alone = sum(
        float(
            torch.nn.functional.cross_entropy(
                made(torch.from_numpy(text.tokens)[None, :-1])[0], torch.from_numpy(text.tokens)[1:], reduction="sum"
            )
        )
        for text in texts
    )
    packed = made(batch.tokens_BT, batch.positions_BT, batch.documents_BT, batch.targets_BT)
    assert float(packed) == pytest.approx(alone, rel=1e-5)
    logits = made(batch.tokens_BT, batch.positions_BT, batch.documents_BT)
    for b, t in ((batch.positions_BT == 0) & (batch.targets_BT != IGNORED)).nonzero().tolist():
        document = batch.documents_BT[b] == batch.documents_BT[b, t]
        torch.testing.assert_close(
            logits[b, document], made(batch.tokens_BT[b, document][None])[0], rtol=1e-4, atol=1e-4
        )


def test_token_by_token_with_a_cache_gives_the_same_logits() -> None:
    shape = SHAPES["grouped queries, tied"]
    made = network(shape)
    tokens = torch.randint(0, VOCABULARY, (2, 20))
    cache = Cache()
    parts = [made(tokens[:, :7], cache=cache), made(tokens[:, 7:8], cache=cache), made(tokens[:, 8:], cache=cache)]
    torch.testing.assert_close(torch.cat(parts, 1), made(tokens), rtol=1e-5, atol=1e-5)


def test_the_first_weights_follow_from_the_seed_alone() -> None:
    torch.manual_seed(1)
    first = network(SHAPES["grouped queries, tied"]).state_dict()
    torch.manual_seed(2)
    second = network(SHAPES["grouped queries, tied"]).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    other = Transformer(SHAPES["grouped queries, tied"], VOCABULARY)
    other.initialise(4)
    assert not torch.equal(other.state_dict()["lm_head.weight"], first["lm_head.weight"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"width": 30}, "not a multiple of heads"),
        ({"kv_heads": 3}, "not a multiple of kv_heads"),
        ({"head_width": 7}, "cannot be rotated in pairs"),
    ],
)
def test_impossible_shapes_are_refused(changes: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ModelConfig(**{"layers": 1, "width": 32, "heads": 8, "context": 8, **changes})
