from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import LlamaConfig, LlamaForCausalLM

from model.config import ModelConfig
from model.data.batches import Batch, Text, TextRows, collate
from model.network.cache import Cache
from model.network.dropout import Noise
from model.network.sight import Places, Rule, sees
from model.network.transformer import Transformer, parameter_kinds

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


@torch.no_grad()
def test_learned_positions_are_added_to_the_tokens_and_nothing_is_rotated() -> None:
    """A Llama of transformers told that every token stands at place 0, where a rotation is none, is the reference."""
    shape = ModelConfig(layers=2, width=32, heads=4, context=24, positions="learned")
    ours, theirs = network(shape), llama(shape)
    assert ours.model.embed_positions is not None
    places_TD = ours.model.embed_positions.weight
    weights = {name: weight for name, weight in ours.state_dict().items() if "embed_positions" not in name}
    theirs.load_state_dict(weights, strict=True)
    tokens_BT = torch.randint(0, VOCABULARY, (3, 20))
    wanted = theirs(
        inputs_embeds=ours.model.embed_tokens(tokens_BT) + places_TD[:20],
        position_ids=torch.zeros_like(tokens_BT),
        attention_mask=torch.ones_like(tokens_BT),
    ).logits
    torch.testing.assert_close(ours(tokens_BT), wanted, rtol=1e-5, atol=1e-5)


PLAIN: dict[str, Any] = {"layers": 3, "width": 32, "heads": 4, "context": 320, "kv_heads": 2}
VARIANTS = {
    "layer norm, learned positions, gelu": {"norm": "layernorm", "positions": "learned", "activation": "gelu"},
    "no positions, squared relu": {"positions": "none", "activation": "relu2"},
    "window": {"window": 40},
    "window, global tokens, some full layers": {"window": 40, "global_tokens": 3, "full_layers": [1]},
    "query and key norms, all biases": {"qk_norm": True, "biases": "all", "tied_embeddings": False},
    "biased queries, soft cap": {"biases": "qkv", "logit_softcap": 3.0, "unrotated_layers": [0]},
    "biased attention, yarn": {
        "biases": "attention",
        "rope_scaling": {"kind": "yarn", "factor": 4, "original_context": 80},
    },
    "experts": {"experts": 4, "feed_forward": 24, "biases": "all"},
    "encoder": {"attention": "bidirectional"},
    "encoder, window, global tokens": {"attention": "bidirectional", "window": 40, "global_tokens": 3},
}  # fmt: skip


def variant(name: str, **changes: Any) -> Transformer:
    """A network with an option, every weight moved a little, so that no gain is one and no bias zero."""
    made = Transformer(ModelConfig(**{**PLAIN, **VARIANTS[name], **changes}), VOCABULARY).eval()
    made.initialise(3)
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for weight in made.parameters():
            weight += 0.1 * torch.randn(weight.shape, generator=generator)
    return made


def packed_batch(lengths: list[int], context: int, seed: int = 0) -> tuple[list[Text], Batch]:
    generator = torch.Generator().manual_seed(seed)
    texts = [Text(torch.randint(0, VOCABULARY, (length,), generator=generator).numpy()) for length in lengths]
    rows = TextRows(texts, context)
    numbers = np.arange(len(rows))
    return texts, collate(rows.read(numbers), context, numbers)


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_counts_its_weights_and_what_it_computes(name: str) -> None:
    made = variant(name)
    shape = made.shape
    assert shape.parameters(VOCABULARY) == sum(weight.numel() for weight in made.parameters())
    # Forward, and twice that backward, of the matrix products; attention as a whole mask computes it.
    length = 24
    tokens = torch.randint(0, VOCABULARY, (1, length))
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        made(tokens).sum().backward()
    attended = shape.layers * 4 * shape.heads * shape.head_features * length * length
    wanted = 3 * (2 * length * (shape.active_hidden_parameters + VOCABULARY * shape.width) + attended)
    assert counter.get_total_flops() == wanted
    seen = torch.zeros(shape.layers)
    for layer in range(shape.layers):
        window = shape.window_of(layer)
        rule = Rule(shape.attention == "causal", window, shape.global_tokens if window else 0)
        places = Places(torch.arange(shape.context), torch.arange(shape.context), torch.zeros(shape.context))
        seen[layer] = sees(rule, places.at(..., None), places.at(None)).sum() / shape.context
    matrices = shape.active_hidden_parameters + VOCABULARY * shape.width
    products = 6 * matrices + 12 * shape.heads * shape.head_features * float(seen.sum())
    assert shape.flops_per_token(VOCABULARY) == pytest.approx(products, rel=1e-6)


@pytest.mark.parametrize("name", VARIANTS)
@torch.no_grad()
def test_packed_documents_get_the_logits_that_they_get_alone(name: str) -> None:
    made = variant(name)
    texts, batch = packed_batch([200, 100, 30, 290, 2, 61, 9, 30], 320)
    logits = made(batch.tokens_BT, batch.positions_BT, batch.documents_BT)
    summed = 0.0
    for text in texts:
        tokens = torch.from_numpy(text.tokens)
        alone = made(tokens[None, :-1])[0]
        summed += float(torch.nn.functional.cross_entropy(alone, tokens[1:], reduction="sum"))
        row, start = next(
            (b, t)
            for b, t in (batch.positions_BT == 0).nonzero().tolist()
            if torch.equal(batch.tokens_BT[b, t : t + len(alone)], tokens[:-1]) and batch.documents_BT[b, t] >= 0
        )
        torch.testing.assert_close(logits[row, start : start + len(alone)], alone, rtol=1e-4, atol=1e-4)
    packed = made(batch.tokens_BT, batch.positions_BT, batch.documents_BT, batch.targets_BT)
    assert float(packed) == pytest.approx(summed, rel=1e-5)


@pytest.mark.parametrize("name", [name for name in VARIANTS if "encoder" not in name])
@torch.no_grad()
def test_token_by_token_with_a_cache_gives_the_same_logits(name: str) -> None:
    made = variant(name)
    tokens = torch.randint(0, VOCABULARY, (2, 200))
    cache = Cache()
    edges = [0, 7, 8, 150, 151, 199, 200]
    parts = [made(tokens[:, start:stop], cache=cache) for start, stop in itertools.pairwise(edges)]
    torch.testing.assert_close(torch.cat(parts, 1), made(tokens), rtol=1e-4, atol=1e-5)
    for layer in range(made.shape.layers):  # a window holds no more than may still be seen
        held = cache.layers[layer][1].shape[2]
        window = made.shape.window_of(layer)
        assert held == 200 if window is None else held <= window + made.shape.global_tokens + edges[-1] - edges[-2]


def test_what_is_dropped_follows_from_the_seed_and_the_place_in_the_stream() -> None:
    changes = {"dropout": {"attention": 0.2, "residual": 0.2, "embeddings": 0.2}}
    made = variant("window", **changes).train()
    made.model.noise_seed = 5
    _, batch = packed_batch([200, 100, 290, 61, 300], 320)

    def loss(rows: list[int]) -> torch.Tensor:
        parts = (batch.tokens_BT, batch.positions_BT, batch.documents_BT, batch.targets_BT)
        return made(*(part[rows] for part in parts), rows_B=batch.rows_B[rows]).detach()

    torch.manual_seed(1)
    whole = loss([0, 1, 2])
    torch.manual_seed(2)
    assert torch.equal(loss([0, 1, 2]), whole)
    torch.testing.assert_close(loss([2]) + loss([1, 0]), whole, rtol=1e-5, atol=1e-4)
    made.model.noise_seed = 6
    assert abs(float(loss([0, 1, 2])) - float(whole)) > 0.1
    with pytest.raises(ValueError, match="dropout needs rows_B"):
        made(batch.tokens_BT)
    made.eval()
    assert torch.equal(made(batch.tokens_BT), variant("window")(batch.tokens_BT))


def test_values_are_dropped_as_often_as_asked_for_and_independently() -> None:
    noise = Noise.of(1, torch.arange(40))
    x = torch.ones(40, 100, 30)
    dropped = noise.features(x, 0.3, site=4)
    assert dropped.unique().tolist() == pytest.approx([0.0, 1 / 0.7], rel=1e-4)
    zero = (dropped == 0).float()
    deviation = (0.3 * 0.7 / zero.numel()) ** 0.5
    assert abs(float(zero.mean()) - 0.3) < 5 * deviation
    for other in (noise.features(x, 0.3, site=5), Noise.of(2, torch.arange(40)).features(x, 0.3, site=4),
                  dropped.roll(1, 0), dropped.roll(1, 1), dropped.roll(1, 2)):  # fmt: skip
        both = (zero * (other == 0)).mean()
        assert abs(float(both) - 0.09) < 5 * (0.09 * 0.91 / zero.numel()) ** 0.5


def test_blocks_begin_as_the_identity_on_request() -> None:
    made = Transformer(ModelConfig(**PLAIN, zero_outputs=True), VOCABULARY)
    made.initialise(1)
    tokens = torch.randint(0, VOCABULARY, (1, 9))
    embedded = made.model.norm(made.model.embed_tokens(tokens))
    assert torch.equal(made(tokens), made.lm_head(embedded))


def test_every_weight_has_a_kind() -> None:
    kinds = parameter_kinds(variant("query and key norms, all biases", positions="learned"))
    assert {name for name, kind in kinds.items() if kind == "embedding"} == {
        "model.embed_tokens.weight", "model.embed_positions.weight",
    }  # fmt: skip
    assert {name for name, kind in kinds.items() if kind == "output"} == {"lm_head.weight"}
    projections = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    hidden = {name for name, kind in kinds.items() if kind == "hidden"}
    assert {name.rsplit(".", 2)[1] for name in hidden} == set(projections)
    assert len(hidden) == 3 * len(projections)
    tied = parameter_kinds(variant("window"))
    assert "output" not in tied.values()
    assert all(kind == "vector" for name, kind in tied.items() if "norm" in name)


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
        ({"global_tokens": 2}, "need a window"),
        ({"window": 2, "global_tokens": 3}, "more than the window"),
        ({"window": 2, "full_layers": [1]}, "numbers from 0 to 0"),
        ({"positions": "learned", "unrotated_layers": [0]}, "is for positions rope"),
        ({"positions": "none", "rope_scaling": {"kind": "linear", "factor": 2}}, "is for positions rope"),
        ({"rope_scaling": {"kind": "yarn", "factor": 2}}, "needs original_context"),
        ({"depth": 0}, "greater than or equal to 1"),
    ],
)
def test_impossible_shapes_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ModelConfig(**{"layers": 1, "width": 32, "heads": 8, "context": 8, **changes})
