"""What each family of ``transformers`` says in its own way, as our settings and back. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from model.config import ModelConfig
from model.formats.described import Described, Unrepresentable, require


@dataclass(frozen=True)
class Family:
    """One ``model_type`` of ``transformers``."""

    architecture: str
    """Class that opens it."""
    read: Callable[[Described], dict[str, Any]]
    """What is particular to the family, as settings of ``ModelConfig``. Raises Unrepresentable."""
    write: Callable[[ModelConfig], dict[str, Any]]
    """The same back, as far as it can say it."""
    defaults: Described = field(default_factory=dict)
    """What a missing key means, where that is not what most families mean."""
    eps: str = "rms_norm_eps"
    """The key of what is added to the mean square."""
    gain_offset: float = 0.0
    """What is added to the gains of norms when they are used."""
    names: tuple[tuple[str, str], ...] = ()
    """Parts of our names of weights, and what they are called in its files."""


def _read_biases(given: Described) -> dict[str, Any]:
    attention = require(given, "attention_bias", False, True)
    feed_forward = require(given, "mlp_bias", False, *([True] if attention else []))
    return {"biases": "all" if feed_forward else "attention" if attention else "none"}


def _write_biases(config: ModelConfig) -> dict[str, Any]:
    return {"attention_bias": config.biases in ("attention", "all"), "mlp_bias": config.biases == "all"}


def _gated(given: Described) -> dict[str, Any]:
    require(given, "hidden_act", "silu")
    return {"activation": "swiglu"}


def _ungated(given: Described) -> dict[str, Any]:
    return {"activation": require(given, "hidden_act", "relu2", "gelu")}


def _read_layer_types(given: Described) -> dict[str, Any]:
    """A window for some layers: by ``layer_types``, or for those from ``max_window_layers`` on."""
    layers = given["num_hidden_layers"]
    if not given.get("use_sliding_window") or given.get("sliding_window") is None:
        if "sliding_attention" in (given.get("layer_types") or []):
            raise Unrepresentable("layer_types name sliding_attention, but no sliding_window is in use")
        return {}
    first = given.get("max_window_layers", 0)
    types = given.get("layer_types") or ["full_attention"] * first + ["sliding_attention"] * (layers - first)
    for kind in types:
        require({"layer_types": kind}, "layer_types", "full_attention", "sliding_attention")
    full = tuple(layer for layer in range(layers) if types[layer] == "full_attention")
    return {} if len(full) == layers else {"window": given["sliding_window"], "full_layers": full}


def _write_layer_types(config: ModelConfig) -> dict[str, Any]:
    windows = [config.window_of(layer) for layer in range(config.layers)]
    return {
        "layer_types": ["full_attention" if window is None else "sliding_attention" for window in windows],
        "max_window_layers": 0 if config.window else config.layers,
        "sliding_window": config.window,
        "use_sliding_window": config.window is not None,
    }


def _read_smollm3(given: Described) -> dict[str, Any]:
    layers, every = given["num_hidden_layers"], given["no_rope_layer_interval"]
    rotated = given.get("no_rope_layers") or [(layer + 1) % every != 0 for layer in range(layers)]
    unrotated = tuple(layer for layer in range(layers) if not rotated[layer])
    types = given.get("layer_types") or [
        "full_attention" if rotated[layer] else "sliding_attention" for layer in range(layers)
    ]
    sliding = given.get("use_sliding_window") and given.get("sliding_window") is not None
    windows = _read_layer_types({**given, "layer_types": types}) if sliding else {}
    positions = {"positions": "none"} if len(unrotated) == layers else {"unrotated_layers": unrotated}
    return _gated(given) | _read_biases(given) | windows | positions


def _write_smollm3(config: ModelConfig) -> dict[str, Any]:
    rotated = [int(config.rotates(layer)) for layer in range(config.layers)]
    return _write_biases(config) | _write_layer_types(config) | {"no_rope_layers": rotated, "no_rope_layer_interval": 4}


def _read_stablelm(given: Described) -> dict[str, Any]:
    require(given, "qk_layernorm", False)
    require(given, "use_parallel_residual", False)
    biases = "qkv" if given.get("use_qkv_bias") else "none"
    head_width = given["hidden_size"] // given["num_attention_heads"]  # no setting of the family
    return _gated(given) | {"norm": "layernorm", "biases": biases, "head_width": head_width}


def _read_eurobert(given: Described) -> dict[str, Any]:
    require(given, "mlp_bias", False)  # it would give the output layer a bias too
    return _gated(given) | _read_biases(given) | {"attention": "bidirectional"}


def _read_qwen3_moe(given: Described) -> dict[str, Any]:
    require(given, "norm_topk_prob", True)
    require(given, "decoder_sparse_step", 1)
    require(given, "mlp_only_layers", None, [])
    experts = given.get("num_experts") or given["num_local_experts"]
    return _gated(given) | _read_biases(given) | {
        "qk_norm": True,
        "window": given["sliding_window"] if given.get("use_sliding_window") else None,
        "feed_forward": given["moe_intermediate_size"],
        "experts": experts,
        "experts_chosen": given["num_experts_per_tok"],
    }  # fmt: skip


def _write_qwen3_moe(config: ModelConfig) -> dict[str, Any]:
    return {
        "attention_bias": config.biases == "attention",
        "decoder_sparse_step": 1,
        "mlp_only_layers": [],
        "moe_intermediate_size": config.inner_features,
        "norm_topk_prob": True,
        "num_experts": config.experts,
        "num_experts_per_tok": config.experts_chosen,
        "sliding_window": config.window,
        "use_sliding_window": config.window is not None,
    }


def _read_mixtral(given: Described) -> dict[str, Any]:
    experts = {"experts": given["num_local_experts"], "experts_chosen": given["num_experts_per_tok"]}
    return _gated(given) | {"window": given.get("sliding_window")} | experts


def _write_mixtral(config: ModelConfig) -> dict[str, Any]:
    experts = {"num_local_experts": config.experts, "num_experts_per_tok": config.experts_chosen}
    return {"sliding_window": config.window} | experts


FAMILIES: dict[str, Family] = {
    "llama": Family("LlamaForCausalLM", lambda given: _gated(given) | _read_biases(given), _write_biases),
    "mistral": Family(
        "MistralForCausalLM",
        lambda given: _gated(given) | {"window": given.get("sliding_window")},
        lambda config: {"sliding_window": config.window},
        {"num_key_value_heads": 8, "sliding_window": 4096, "max_position_embeddings": 131_072},
    ),
    "qwen3": Family(
        "Qwen3ForCausalLM",
        lambda given: _gated(given) | _read_biases(given) | _read_layer_types(given) | {"qk_norm": True},
        lambda config: _write_layer_types(config) | {"attention_bias": config.biases == "attention"},
        {"num_key_value_heads": 32, "head_dim": 128, "max_position_embeddings": 32_768, "sliding_window": 4096,
         "max_window_layers": 28},
    ),
    "qwen2": Family(
        "Qwen2ForCausalLM",
        lambda given: _gated(given) | _read_layer_types(given) | {"biases": "qkv"},
        _write_layer_types,
        {"num_key_value_heads": 32, "max_position_embeddings": 32_768, "sliding_window": 4096, "max_window_layers": 28},
    ),
    "smollm3": Family(
        "SmolLM3ForCausalLM", _read_smollm3, _write_smollm3,
        {"num_key_value_heads": 4, "tie_word_embeddings": True, "max_position_embeddings": 32_768,
         "rope_theta": 2_000_000.0, "no_rope_layer_interval": 4},
    ),
    "arcee": Family(
        "ArceeForCausalLM", lambda given: _ungated(given) | _read_biases(given), _write_biases,
        {"max_position_embeddings": 4096, "rms_norm_eps": 1e-5},
    ),
    "nemotron": Family(
        "NemotronForCausalLM",
        lambda given: _ungated(given) | _read_biases(given) | {"norm": "layernorm"},
        lambda config: _write_biases(config) | {"partial_rotary_factor": 1.0},
        {"max_position_embeddings": 4096, "norm_eps": 1e-5, "partial_rotary_factor": 0.5},
        eps="norm_eps",
        gain_offset=1.0,
    ),
    "stablelm": Family(
        "StableLmForCausalLM", _read_stablelm,
        lambda config: {"use_qkv_bias": config.biases == "qkv", "partial_rotary_factor": 1.0},
        {"num_key_value_heads": 32, "max_position_embeddings": 4096, "layer_norm_eps": 1e-5,
         "partial_rotary_factor": 0.25},
        eps="layer_norm_eps",
    ),
    "mixtral": Family(
        "MixtralForCausalLM", _read_mixtral, _write_mixtral,
        {"num_key_value_heads": 8, "num_local_experts": 8, "num_experts_per_tok": 2, "rms_norm_eps": 1e-5,
         "max_position_embeddings": 131_072, "rope_theta": 1_000_000.0},
        names=((".mlp.", ".block_sparse_moe."), (".gate_proj.", ".w1."), (".up_proj.", ".w3."),
               (".down_proj.", ".w2.")),
    ),
    "qwen3_moe": Family(
        "Qwen3MoeForCausalLM", _read_qwen3_moe, _write_qwen3_moe,
        {"num_key_value_heads": 4, "max_position_embeddings": 32_768, "sliding_window": 4096,
         "moe_intermediate_size": 768, "num_local_experts": 128, "num_experts_per_tok": 8, "norm_topk_prob": False},
    ),
    "eurobert": Family(
        "EuroBertForMaskedLM", _read_eurobert, _write_biases,
        {"max_position_embeddings": 8192, "rms_norm_eps": 1e-5},
    ),
}  # fmt: skip
"""By ``model_type``, the most common first."""
