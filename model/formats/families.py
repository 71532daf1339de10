"""Which networks of ``transformers`` ours can be, and how each family's ``config.json`` says so. Imports no torch.

A family is read by ``shape_of`` and written by ``description_of``. A network is written as the first
family that, read again, gives the same network; so what is written is never an approximation. Where
there is none (a global token, a soft cap on logits ...) the folder has a form of its own:
``model_type: athanor``, with our settings under ``shape``. We open it; ``transformers`` refuses it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from model.config import Dropout, ModelConfig
from model.formats.described import Described, Unrepresentable, require
from model.formats.dialects import FAMILIES, Family
from model.formats.rope import rope_parameters, scaling_of, written_scaling
from storage.errors import UserError

_TRAINING = {"dropout": Dropout(), "zero_outputs": False, "experts_balance": 0.0}
"""What concerns a network's training alone, as it is compared."""
OWN = "athanor"
"""The ``model_type`` of what no family can be."""


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
    shape = config.model_dump(mode="json", exclude_defaults=True, exclude=set(_TRAINING))
    return {"architectures": ["AthanorTransformer"], "model_type": OWN, "shape": shape, "vocab_size": vocabulary}


def renamed(name: str, model_type: str, to_ours: bool = False) -> str:
    """What the files of a family call one of our weights, or back."""
    for ours, theirs in FAMILIES[model_type].names if model_type in FAMILIES else ():
        name = name.replace(theirs, ours) if to_ours else name.replace(ours, theirs)
    return name


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
        **_TRAINING,
    }
    return config.model_copy(update=changes)


def _read(described: Described) -> ModelConfig:
    model_type = str(described.get("model_type"))
    if model_type not in FAMILIES:
        known = ", ".join(FAMILIES)
        raise Unrepresentable(f"model_type {model_type!r} cannot be represented; {known} can")
    family = FAMILIES[model_type]
    given = {**family.defaults, **described}
    require(given, "quantization_config", None)
    heads, width = given["num_attention_heads"], given["hidden_size"]
    rope = rope_parameters(given)
    settings = {
        "layers": given["num_hidden_layers"],
        "width": width,
        "heads": heads,
        "kv_heads": given.get("num_key_value_heads") or heads,
        "head_width": given.get("head_dim") or width // heads,
        "feed_forward": given["intermediate_size"],
        "context": given.get("max_position_embeddings", 2048),
        "rope_theta": rope.get("rope_theta", 10_000.0),
        "rope_scaling": scaling_of(rope, given),
        "norm_eps": given.get(family.eps, 1e-6),
        "tied_embeddings": given.get("tie_word_embeddings", False),
    }
    return ModelConfig.model_validate({**settings, **family.read(given)})


def _common(config: ModelConfig, vocabulary: int, model_type: str, family: Family) -> dict[str, Any]:
    """What all families write alike."""
    rope = written_scaling(config)
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
