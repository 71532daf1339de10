"""Rotary positions and their scaling as ``config.json`` says them, in the old way or the new."""

from __future__ import annotations

from typing import Any

from model.config import ModelConfig, RopeScaling
from model.formats.described import Described, require


def rope_parameters(given: Described) -> dict[str, Any]:
    """Rotary parameters, whether written the old way (top level) or the new."""
    found = {name: given[name] for name in ("rope_theta", "partial_rotary_factor") if given.get(name) is not None}
    found = {**found, **(given.get("rope_scaling") or {}), **(given.get("rope_parameters") or {})}
    require(found, "partial_rotary_factor", 1.0)
    return found


def scaling_of(rope: Described, given: Described) -> RopeScaling | None:
    """The scaling that ``transformers`` does for these parameters (its ``modeling_rope_utils``)."""
    kind = require({"rope_type": rope.get("rope_type", rope.get("type", "default"))}, "rope_type", "default", "linear",
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


def written_scaling(config: ModelConfig) -> dict[str, Any]:
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
