"""Families of ``transformers``: small random models of each, opened here, and ours, opened there, with equal logits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from model.config import ModelConfig
from model.formats import huggingface
from model.network.transformer import Transformer
from storage.errors import UserError
from storage.identity import digest_of_file

VOCABULARY = 89
SMALL = {
    "vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 40, "num_hidden_layers": 3,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 128,
}  # fmt: skip
LLAMA3 = {"rope_type": "llama3", "rope_theta": 500.0, "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 64}  # fmt: skip
YARN = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 32}
THEIRS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {}),
    "llama, biased": ("llama", {"attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True}),
    "llama, llama3 angles": ("llama", {"rope_parameters": LLAMA3}),
    "llama, linear angles": ("llama", {"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 3.0}}),
    "llama, yarn": ("llama", {"rope_parameters": YARN}),
    "llama, yarn of deepseek": (
        "llama", {"rope_parameters": {**YARN, "mscale": 0.7, "mscale_all_dim": 1.3, "truncate": False}}
    ),
    "mistral": ("mistral", {"sliding_window": 7}),
    "mistral, no window": ("mistral", {"sliding_window": None, "head_dim": 16}),
    "qwen2": ("qwen2", {}),
    "qwen2, windows": ("qwen2", {"use_sliding_window": True, "sliding_window": 9, "max_window_layers": 1}),
    "qwen3": ("qwen3", {"head_dim": 16, "tie_word_embeddings": True}),
    "qwen3, windows": ("qwen3", {"head_dim": 8, "attention_bias": True, "use_sliding_window": True,
                                 "sliding_window": 5, "layer_types": ["sliding_attention"] * 2 + ["full_attention"]}),
    "smollm3": ("smollm3", {"no_rope_layer_interval": 2, "pad_token_id": 0}),
    "smollm3, windows": ("smollm3", {"no_rope_layer_interval": 2, "use_sliding_window": True, "sliding_window": 6,
                                     "pad_token_id": 0}),
    "arcee": ("arcee", {"mlp_bias": False}),
    "nemotron": ("nemotron", {"partial_rotary_factor": 1.0}),
    "stablelm": ("stablelm", {"partial_rotary_factor": 1.0, "use_qkv_bias": True}),
    "mixtral": ("mixtral", {"num_local_experts": 5, "num_experts_per_tok": 2}),
    "mixtral, window": ("mixtral", {"num_local_experts": 3, "num_experts_per_tok": 1, "sliding_window": 7}),
    "qwen3_moe": ("qwen3_moe", {"num_experts": 4, "num_experts_per_tok": 3, "moe_intermediate_size": 24,
                                "norm_topk_prob": True, "head_dim": 16}),
    "eurobert": ("eurobert", {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "mask_token_id": 3}),
}  # fmt: skip
BASE: dict[str, Any] = {"layers": 3, "width": 32, "heads": 4, "context": 128}
OURS: dict[str, tuple[dict[str, Any], str]] = {
    "plain": ({"zero_outputs": True, "dropout": {"residual": 0.1}}, "llama"),
    "all biases, a longer context": (
        {"biases": "all", "rope_scaling": {"kind": "llama3", "factor": 8, "original_context": 32}},
        "llama",
    ),
    "yarn": ({"rope_scaling": {"kind": "yarn", "factor": 2, "original_context": 64}, "kv_heads": 1}, "llama"),
    "linear": ({"rope_scaling": {"kind": "linear", "factor": 2}, "tied_embeddings": False}, "llama"),
    "window": ({"window": 7}, "mistral"),
    "qk norm": ({"qk_norm": True, "kv_heads": 2, "head_width": 16}, "qwen3"),
    "qk norm, windows": ({"qk_norm": True, "window": 9, "full_layers": [2], "biases": "attention"}, "qwen3"),
    "biased queries": ({"biases": "qkv", "window": 9, "full_layers": [0]}, "qwen2"),
    "windows in some layers": ({"window": 9, "full_layers": [1]}, "qwen2 or smollm3"),
    "no positions": ({"positions": "none"}, "smollm3"),
    "positions in some layers": ({"unrotated_layers": [0, 2], "biases": "attention"}, "smollm3"),
    "squared relu": ({"activation": "relu2", "biases": "all"}, "arcee"),
    "gelu": ({"activation": "gelu", "kv_heads": 2}, "arcee"),
    "layer norm": ({"norm": "layernorm", "activation": "gelu"}, "nemotron"),
    "layer norm, gated": ({"norm": "layernorm", "biases": "qkv"}, "stablelm"),
    "experts": ({"experts": 4, "kv_heads": 2, "experts_balance": 0.1}, "mixtral"),
    "experts, qk norm": ({"experts": 4, "experts_chosen": 3, "qk_norm": True, "feed_forward": 24}, "qwen3_moe"),
    "encoder": ({"attention": "bidirectional", "tied_embeddings": False}, "eurobert"),
}
FOR_US_ALONE: dict[str, dict[str, Any]] = {
    "learned positions": {"positions": "learned"},
    "soft cap": {"logit_softcap": 15.0},
    "global tokens": {"window": 8, "global_tokens": 2},
    "experts without a gate": {"experts": 3, "activation": "relu2"},
    "encoder with a window": {"attention": "bidirectional", "window": 8},
}


def tokens() -> torch.Tensor:
    return torch.randint(4, VOCABULARY, (2, 60), generator=torch.Generator().manual_seed(0))


def shaken(network: torch.nn.Module) -> torch.nn.Module:
    """Every weight moved a little, so that no gain is one and no bias zero."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in network.parameters():
            weight += 0.1 * torch.randn(weight.shape, generator=generator)
    return network.eval()


def their_class(model_type: str) -> Any:
    from transformers import AutoModelForCausalLM, AutoModelForMaskedLM

    return AutoModelForMaskedLM if model_type == "eurobert" else AutoModelForCausalLM


def made(shape: ModelConfig, folder: Path) -> Transformer:
    network = Transformer(shape, VOCABULARY)
    network.initialise(seed=1)
    shaken(network)
    huggingface.write(folder, shape, VOCABULARY, network.state_dict(), bos=1, eos=2, pad=0)
    return network


@pytest.mark.parametrize(("model_type", "changes"), THEIRS.values(), ids=THEIRS.keys())
@torch.no_grad()
def test_a_model_of_every_family_has_the_same_logits_here(model_type, changes, tmp_path):
    from transformers import AutoConfig

    theirs = shaken(their_class(model_type).from_config(AutoConfig.for_model(model_type, **{**SMALL, **changes})))
    theirs.save_pretrained(tmp_path / "theirs")
    ours = huggingface.load(tmp_path / "theirs")
    wanted = theirs(tokens()).logits
    torch.testing.assert_close(ours(tokens()), wanted, rtol=1e-4, atol=1e-4)
    # ... and written again it is the same network, for them too.
    huggingface.write(tmp_path / "again", ours.shape, VOCABULARY, ours.state_dict(), bos=1, eos=2, pad=0)
    again = their_class(model_type).from_pretrained(tmp_path / "again", dtype=torch.float32)
    torch.testing.assert_close(again(tokens()).logits, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("changes", "model_type"), OURS.values(), ids=OURS.keys())
@torch.no_grad()
def test_a_network_of_ours_has_the_same_logits_in_transformers(changes, model_type, tmp_path):
    network = made(ModelConfig(**{**BASE, **changes}), tmp_path / "once")
    described = json.loads((tmp_path / "once" / "config.json").read_text())
    assert described["model_type"] in model_type
    theirs = their_class(model_type).from_pretrained(tmp_path / "once", dtype=torch.float32)
    torch.testing.assert_close(network(tokens()), theirs(tokens()).logits, rtol=1e-4, atol=1e-4)
    loaded = huggingface.load(tmp_path / "once")
    torch.testing.assert_close(loaded(tokens()), network(tokens()), rtol=1e-5, atol=1e-5)
    huggingface.write(tmp_path / "twice", loaded.shape, VOCABULARY, loaded.state_dict(), bos=1, eos=2, pad=0)
    for name in ("config.json", "model.safetensors"):
        assert digest_of_file(tmp_path / "once" / name) == digest_of_file(tmp_path / "twice" / name)


@pytest.mark.parametrize("changes", FOR_US_ALONE.values(), ids=FOR_US_ALONE.keys())
@torch.no_grad()
def test_what_no_family_can_be_is_written_for_us_alone(changes, tmp_path):
    from transformers import AutoConfig

    network = made(ModelConfig(**{**BASE, **changes}), tmp_path)
    loaded = huggingface.load(tmp_path)
    assert torch.equal(loaded(tokens()), network(tokens()))
    assert loaded.shape == network.shape
    with pytest.raises(ValueError, match="athanor"):
        AutoConfig.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "gpt2"}, "model_type 'gpt2' cannot be represented; llama, mistral"),
        ({"mlp_bias": True}, "mlp_bias True cannot be represented; False can"),
        ({"hidden_act": "gelu"}, "hidden_act 'gelu'"),
        ({"rope_scaling": {"type": "dynamic", "factor": 2.0}}, "rope_type 'dynamic'"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor 0.5"),
        ({"quantization_config": {"bits": 4}}, "quantization_config"),
        ({"rope_scaling": {"type": "linear"}}, "lacks 'factor'"),
        ({"model_type": "nemotron", "hidden_act": "relu2"}, "partial_rotary_factor 0.5"),
        ({"model_type": "stablelm", "partial_rotary_factor": 1.0, "qk_layernorm": True}, "qk_layernorm True"),
        ({"model_type": "qwen2", "layer_types": ["sliding_attention"] * 3}, "no sliding_window is in use"),
        ({"num_attention_heads": 3}, "not a multiple of kv_heads"),
        ({"model_type": "athanor", "shape": {"layers": 1}}, "not a shape this network can have"),
    ],
)
def test_what_our_network_does_not_have_is_refused_by_name(changes, message, tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"model_type": "llama", **SMALL, **changes}))
    with pytest.raises(UserError, match=message) as caught:
        huggingface.read_config(tmp_path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)
