"""Adapter folders in PEFT's form: written so that PEFT opens them, and opened by their formula alone.

E. Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", 2021, section 4.1: the weight
W of an adapted linear layer acts as W + (alpha / r) B A, A of (r, in), B of (out, r).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from storage.errors import UserError

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
PREFIX = "base_model.model."
"""What PEFT puts before the names of the network that it wraps."""
WRAPPED = "inner."
"""What ``model.formats.foreign`` puts there."""
NAME = "default"
"""The adapter's name within a network; PEFT drops it from the names in a file."""


def adapter_state(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The adapter's tensors among a network's, under the names that PEFT gives them in a file."""
    found = {
        PREFIX + name.removeprefix(WRAPPED).replace(f".{NAME}.", "."): tensor
        for name, tensor in tensors.items()
        if ".lora_" in name
    }
    return dict(sorted(found.items()))


def save(folder: Path, tensors: Mapping[str, Tensor], rank: int, alpha: float, targets: Iterable[str]) -> None:
    """Write an adapter that ``peft.PeftModel.from_pretrained`` opens.

    ``tensors`` are those of ``adapter_state``. Neither PEFT's version nor a path is written, so
    equal adapters are equal bytes; the base model lies below ``base/``.
    """
    config: dict[str, Any] = {
        "base_model_name_or_path": "base",
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "lora_alpha": alpha,
        "lora_dropout": 0.0,
        "peft_type": "LORA",
        "r": rank,
        "target_modules": sorted(targets),
        "task_type": "CAUSAL_LM",
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    contiguous = {name: tensor.detach().to("cpu", torch.float32).contiguous() for name, tensor in tensors.items()}
    save_file(contiguous, folder / WEIGHTS, metadata={"format": "pt"})


def merge_into(weights: dict[str, Tensor], folder: Path) -> None:
    """Add the adapter saved in ``folder`` to ``weights`` (Hugging Face names), in place.

    Raises UserError for an adapter that does more than add B A to linear layers.
    """
    config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    check_plain(folder, config)
    scale = config["lora_alpha"] / config["r"]
    tensors = load_file(folder / WEIGHTS)
    for name, down in tensors.items():
        if not name.endswith(".lora_A.weight"):
            continue
        layer = name.removeprefix(PREFIX).removesuffix(".lora_A.weight")
        up, weight = tensors[name.replace(".lora_A.", ".lora_B.")], weights.get(f"{layer}.weight")
        if weight is None or weight.shape != (up.shape[0], down.shape[1]):
            raise UserError(f"{folder / WEIGHTS}: adapts {layer}, which the base model lacks or has in another shape")
        weights[f"{layer}.weight"] = weight + scale * (up.to(weight.dtype) @ down.to(weight.dtype))


def check_plain(folder: Path, config: Mapping[str, Any]) -> None:
    """UserError for an adapter that does more than add B A to linear layers."""
    if config.get("peft_type") != "LORA":
        raise UserError(f"{folder / CONFIG}: peft_type {config.get('peft_type')!r} is not LORA")
    unknown = ("use_dora", "use_rslora", "fan_in_fan_out", "rank_pattern", "alpha_pattern", "modules_to_save")
    for field in (*unknown, "lora_bias", "layer_replication", "trainable_token_indices"):
        if config.get(field):
            raise UserError(f"{folder / CONFIG}: {field} is {config[field]!r}; only plain LoRA can be opened")
    if config.get("bias", "none") != "none":
        raise UserError(f"{folder / CONFIG}: bias is {config['bias']!r}; only plain LoRA can be opened")
