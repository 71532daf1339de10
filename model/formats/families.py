"""Which networks of ``transformers`` ours can be, and how each family's ``config.json`` says so. Imports no torch.

A family is read by ``shape_of`` and written by ``description_of``. A network is written as the first
family that, read again, gives the same network; so what is written is never an approximation. Where
there is none (a global token, a soft cap on logits ...) the folder has a form of its own:
``model_type: athanor``, with our settings under ``shape``. We open it; ``transformers`` refuses it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from model.config import Dropout, ModelConfig, RopeScaling
from storage.errors import UserError

OWN = "athanor"
"""The ``model_type`` of what no family can be."""

Described = Mapping[str, Any]
"""A ``config.json``."""


class Unrepresentable(ValueError):
    """A setting that our network does not have."""


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


def shape_of(path: Path, described: Described) -> tuple[ModelConfig, int]:
    """The network that the ``config.json`` at ``path`` describes, and the size of its vocabulary.

    Raises UserError, naming the setting, for a network that ours cannot be.
    """
    try:
        if described.get("model_type") == OWN:
            return ModelConfig.model_validate(described["shape"]), int(described["vocab_size"])
        return _read(described), int(described["vocab_size"])
    except KeyError as error:
        raise UserError(f"{path}: lacks {error.args[0]!r}") from error
    except Unrepresentable as error:
        raise UserError(f"{path}: {error}") from error
    except (ValueError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path}: not a shape this network can have: {reason}") from error


def can_be(described: Described) -> bool:
    """Whether ours can be this network; also where what is wrong with it is not the family's settings."""
    if described.get("model_type") == OWN:
        return True
    try:
        _read(described)
    except Unrepresentable:
        return False
    except (KeyError, TypeError, ValueError):
        return True
    return True


def description_of(config: ModelConfig, vocabulary: int) -> dict[str, Any]:
    """``config.json`` of a network, without the special tokens."""
    wanted = _normal(config)
    for model_type, family in FAMILIES.items():
        described = {**_common(config, vocabulary, model_type, family), **family.write(config)}
        try:
            if _normal(_read(described)) == wanted:
                return described
        except Unrepresentable:
            continue
    shape = config.model_dump(mode="json", exclude_defaults=True, exclude={"dropout", "zero_outputs"})
    return {"architectures": ["AthanorTransformer"], "model_type": OWN, "shape": shape, "vocab_size": vocabulary}


def gain_offset(model_type: str) -> float:
    """What a family adds to the stored gains of its norms."""
    return FAMILIES[model_type].gain_offset if model_type in FAMILIES else 0.0


def _normal(config: ModelConfig) -> ModelConfig:
    """The same network with every default written out, and without what concerns its training alone."""
    scaling = config.rope_scaling
    if scaling is not None and scaling.kind == "yarn" and scaling.attention_factor is None:
        scaling = scaling.model_copy(update={"attention_factor": scaling.rotation_factor})
    if scaling is not None and scaling.kind == "linear":
        scaling = scaling.model_copy(update={"original_context": None})
    full = tuple(sorted(set(config.full_layers)))
    changes = {
        "kv_heads": config.key_value_heads,
        "head_width": config.head_features,
        "feed_forward": config.inner_features,
        "full_layers": full,
        "window": None if len(full) == config.layers else config.window,
        "unrotated_layers": tuple(sorted(set(config.unrotated_layers))),
        "rope_theta": float(config.rope_theta) if config.positions == "rope" else 0.0,
        "rope_scaling": scaling,
        "zero_outputs": False,
        "dropout": Dropout(),
    }
    return config.model_copy(update=changes)


def _read(described: Described) -> ModelConfig:
    model_type = str(described.get("model_type"))
    if model_type not in FAMILIES:
        known = ", ".join(FAMILIES)
        raise Unrepresentable(f"model_type {model_type!r} cannot be represented; {known} can")
    family = FAMILIES[model_type]
    given = {**family.defaults, **described}
    _require(given, "quantization_config", None)
    heads, width = given["num_attention_heads"], given["hidden_size"]
    rope = _rope_parameters(given)
    settings = {
        "layers": given["num_hidden_layers"],
        "width": width,
        "heads": heads,
        "kv_heads": given.get("num_key_value_heads") or heads,
        "head_width": given.get("head_dim") or width // heads,
        "feed_forward": given["intermediate_size"],
        "context": given.get("max_position_embeddings", 2048),
        "rope_theta": rope.get("rope_theta", 10_000.0),
        "rope_scaling": _scaling_of(rope, given),
        "norm_eps": given.get(family.eps, 1e-6),
        "tied_embeddings": given.get("tie_word_embeddings", False),
    }
    return ModelConfig.model_validate({**settings, **family.read(given)})


def _common(config: ModelConfig, vocabulary: int, model_type: str, family: Family) -> dict[str, Any]:
    """What all families write alike."""
    rope = _written_scaling(config)
    return {
        "architectures": [family.architecture],
        "attention_dropout": 0.0,
        "dtype": "float32",
        "head_dim": config.head_features,
        "hidden_act": {"swiglu": "silu"}.get(config.activation, config.activation),
        "hidden_size": config.width,
        "initializer_range": 0.02,
        "intermediate_size": config.inner_features,
        "max_position_embeddings": config.context,
        "model_type": model_type,
        "num_attention_heads": config.heads,
        "num_hidden_layers": config.layers,
        "num_key_value_heads": config.key_value_heads,
        family.eps: config.norm_eps,
        "rope_parameters": rope,
        "rope_theta": config.rope_theta,
        **({"rope_scaling": rope} if config.rope_scaling is not None else {}),
        "tie_word_embeddings": config.tied_embeddings,
        "use_cache": config.attention == "causal",
        "vocab_size": vocabulary,
    }


def _require(given: Described, name: str, *wanted: Any) -> Any:
    """The value of a setting, which must be one of ``wanted``; the first is what a missing one means."""
    found = given.get(name, wanted[0])
    if found not in wanted:
        can = " or ".join(repr(value) for value in wanted)
        raise Unrepresentable(f"{name} {found!r} cannot be represented; {can} can")
    return found


# ---- rotary positions ----


def _rope_parameters(given: Described) -> dict[str, Any]:
    """Rotary parameters, whether written the old way (top level) or the new."""
    found = {name: given[name] for name in ("rope_theta", "partial_rotary_factor") if given.get(name) is not None}
    found = {**found, **(given.get("rope_scaling") or {}), **(given.get("rope_parameters") or {})}
    _require(found, "partial_rotary_factor", 1.0)
    return found


def _scaling_of(rope: Described, given: Described) -> RopeScaling | None:
    """The scaling that ``transformers`` does for these parameters (its ``modeling_rope_utils``)."""
    kind = _require({"rope_type": rope.get("rope_type", rope.get("type", "default"))}, "rope_type", "default", "linear",
                    "llama3", "yarn")  # fmt: skip
    if kind == "default":
        return None
    factor = rope.get("factor")
    if kind == "linear":
        return RopeScaling(kind="linear", factor=rope["factor"])
    context = given.get("max_position_embeddings", 2048)
    original = given.get("original_max_position_embeddings") or rope.get("original_max_position_embeddings") or context
    if kind == "llama3":
        return RopeScaling(
            kind="llama3", factor=rope["factor"], original_context=original,
            low_frequency=rope["low_freq_factor"], high_frequency=rope["high_freq_factor"],
        )  # fmt: skip
    scaling = RopeScaling(
        kind="yarn", factor=context / original if factor is None else factor, original_context=original,
        beta_fast=rope.get("beta_fast") or 32.0, beta_slow=rope.get("beta_slow") or 1.0,
        attention_factor=rope.get("attention_factor"), truncate=rope.get("truncate", True),
    )  # fmt: skip
    mscale, of_all = rope.get("mscale"), rope.get("mscale_all_dim")
    if scaling.attention_factor is None and mscale and of_all:
        plain = scaling.rotation_factor - 1
        return scaling.model_copy(update={"attention_factor": (mscale * plain + 1) / (of_all * plain + 1)})
    return scaling


def _written_scaling(config: ModelConfig) -> dict[str, Any]:
    scaling = config.rope_scaling
    found: dict[str, Any] = {"rope_theta": config.rope_theta, "rope_type": "default"}
    if scaling is None:
        return found
    found |= {"rope_type": scaling.kind, "factor": scaling.factor}
    if scaling.kind != "linear":
        found |= {"original_max_position_embeddings": scaling.original_context}
    if scaling.kind == "llama3":
        found |= {"low_freq_factor": scaling.low_frequency, "high_freq_factor": scaling.high_frequency}
    if scaling.kind == "yarn":
        found |= {"beta_fast": scaling.beta_fast, "beta_slow": scaling.beta_slow, "truncate": scaling.truncate}
        found |= {"attention_factor": scaling.rotation_factor}
    return found


# ---- what families say in their own ways ----


def _read_biases(given: Described) -> dict[str, Any]:
    attention = _require(given, "attention_bias", False, True)
    feed_forward = _require(given, "mlp_bias", False, *([True] if attention else []))
    return {"biases": "all" if feed_forward else "attention" if attention else "none"}


def _write_biases(config: ModelConfig) -> dict[str, Any]:
    return {"attention_bias": config.biases in ("attention", "all"), "mlp_bias": config.biases == "all"}


def _gated(given: Described) -> dict[str, Any]:
    _require(given, "hidden_act", "silu")
    return {"activation": "swiglu"}


def _ungated(given: Described) -> dict[str, Any]:
    return {"activation": _require(given, "hidden_act", "relu2", "gelu")}


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
        _require({"layer_types": kind}, "layer_types", "full_attention", "sliding_attention")
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
    _require(given, "qk_layernorm", False)
    _require(given, "use_parallel_residual", False)
    biases = "qkv" if given.get("use_qkv_bias") else "none"
    head_width = given["hidden_size"] // given["num_attention_heads"]  # no setting of the family
    return _gated(given) | {"norm": "layernorm", "biases": biases, "head_width": head_width}


def _read_eurobert(given: Described) -> dict[str, Any]:
    _require(given, "mlp_bias", False)  # it would give the output layer a bias too
    return _gated(given) | _read_biases(given) | {"attention": "bidirectional"}


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
    "eurobert": Family(
        "EuroBertForMaskedLM", _read_eurobert, _write_biases,
        {"max_position_embeddings": 8192, "rms_norm_eps": 1e-5},
    ),
}  # fmt: skip
"""By ``model_type``, the most common first."""
