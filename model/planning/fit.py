"""What cannot be trained on the resources given, told before anything runs. Imports no torch."""

from __future__ import annotations

import json
import math
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from model.config import ModelConfig, Precision
from model.formats import families
from model.parallel.spread import Spread

PLUMBING = "what is refused has no result"

_AXES = ("pipeline_processes", "sequence_processes", "tensor_processes")
"""Ways in which processes share one network; what they leave of the processes get other sequences."""


def check(
    run: Spread, precision: Precision, optimizer: str, shape: ModelConfig | None, context: int | None,
    sentence_pairs: bool = False, *, adapted: Sequence[str] = (),
) -> None:  # fmt: skip
    """Raise ValueError, with the remedy, for what cannot be trained so.

    ``shape`` and ``context`` are None while they are not known. ``sentence_pairs``: whether it is also
    learnt which segment follows which. ``adapted``: names of the layers that get adapters.
    """
    if run.hosts is not None:
        run.hosts.check(run.processes)
    if precision == "fp16" and run.zero_stage == 0:
        raise ValueError("precision fp16 scales its loss inside ZeRO: use zero_stage 1 or more, or bf16")
    if precision == "fp8":
        _check_float8(run, shape, context, adapted)
    if run.offload != "none" and run.zero_stage == 0:
        raise ValueError(f"offload: {run.offload} is ZeRO's: use zero_stage 1 or more")
    if run.offload_folder is not None and run.offload != "nvme":
        raise ValueError(f"offload_folder is for offload nvme, not {run.offload}: leave it out, or say offload: nvme")
    if run.offload_folder is not None and not run.offload_folder.startswith("/"):
        raise ValueError(
            f"offload_folder {run.offload_folder!r} is looked for on every host: name it from the root, /…"
        )
    if run.offload != "none" and optimizer in ("muon", "lamb"):
        raise ValueError(
            f"offload: {run.offload} leaves pieces on the host, and {optimizer} needs whole weights: use adamw or lion"
        )
    if shape is not None and shape.experts is not None:
        _check_experts(run, precision, sentence_pairs)
    if run.compile:
        _check_compile(run, precision)
    others = [axis for axis in _AXES[1:] if getattr(run, axis) > 1]
    if run.pipeline_processes > 1 and others:
        raise ValueError(f"{others[0]} and pipeline_processes do not go together: leave one of them at 1")
    _check_multiple("processes", run.processes, run, _AXES)
    if run.sequence_processes > 1:
        _check_sharing(run, shape, context, sentence_pairs)
    if run.tensor_processes > 1:
        _check_tensor(run, shape, adapted)
    if run.pipeline_processes > 1:
        _check_stages(run, shape)


def _check_experts(run: Spread, precision: Precision, sentence_pairs: bool) -> None:
    asked = [name for name in _AXES if getattr(run, name) > 1]
    asked += ["compile"] if run.compile else []
    asked += ["precision fp8"] if precision == "fp8" else []
    asked += ["next_sentence"] if sentence_pairs else []
    if asked:
        raise ValueError(f"{' and '.join(asked)}: not for a model with experts: leave it out, or take one without them")


def check_foreign(run: Spread, precision: Precision) -> None:
    """Raise ValueError for what only our own network can do, and a model run as ``transformers`` has it cannot."""
    asked = [name for name in _AXES if getattr(run, name) > 1]
    asked += [name for name in ("recompute", "compile") if getattr(run, name)]
    asked += ["precision fp8"] if precision == "fp8" else []
    if asked:
        raise ValueError(
            f"{' and '.join(asked)}: for our own network alone; this one is run as transformers has it: leave it out"
        )


def check_folder(run: Spread, precision: Precision, folder: Path) -> None:
    """``check_foreign``, where the network in a model or adapter folder is one that ours cannot be."""
    described = described_in(folder)  # None is told when it is read
    if described is not None and not families.can_be(described):
        check_foreign(run, precision)


def described_in(folder: Path) -> dict[str, Any] | None:
    """``config.json`` of the network in a model or adapter folder; None where it has none that can be read."""
    for place in (folder / "base" / "config.json", folder / "config.json"):
        if place.is_file():
            try:
                described: dict[str, Any] = json.loads(place.read_text(encoding="utf-8"))
            except ValueError:
                return None
            return described
    return None


def _check_multiple(name: str, number: int, run: Spread, axes: Sequence[str]) -> None:
    """Raise ValueError for a number that the processes along these axes cannot share evenly."""
    sizes = {axis: getattr(run, axis) for axis in axes if getattr(run, axis) > 1}
    if number % math.prod(sizes.values()):
        shared = " x ".join(f"{axis} {size}" for axis, size in sizes.items())
        raise ValueError(f"{name} {number} is not a multiple of {shared}: make it one")


def _check_sharing(run: Spread, shape: ModelConfig | None, context: int | None, sentence_pairs: bool) -> None:
    if context is not None:
        _check_multiple("context", context, run, ["sequence_processes"])
    if sentence_pairs:
        raise ValueError("next_sentence reads a sequence as a whole: leave sequence_processes at 1")
    if shape is None:
        return
    _check_multiple("heads", shape.heads, run, ["sequence_processes", "tensor_processes"])
    if shape.dropout.any:
        raise ValueError(
            "dropout follows from where a position stands in a whole sequence: no sequence_processes with it"
        )


def _check_tensor(run: Spread, shape: ModelConfig | None, adapted: Sequence[str]) -> None:
    if "lm_head" in adapted:
        raise ValueError("an adapter of the output layer is not cut: leave lm_head out, or tensor_processes at 1")
    if shape is None:
        return
    _check_multiple("heads", shape.heads, run, ["tensor_processes"])
    _check_multiple("kv_heads", shape.key_value_heads, run, ["tensor_processes"])


def _check_float8(run: Spread, shape: ModelConfig | None, context: int | None, adapted: Sequence[str]) -> None:
    if run.device == "cpu":
        raise ValueError("precision fp8 needs a GPU with 8-bit products, and device is cpu: use fp32 or bf16")
    if run.tensor_processes > 1:
        raise ValueError("precision fp8 scales whole matrices: use bf16 with tensor_processes")
    if adapted:
        raise ValueError("precision fp8 is for training all weights: use bf16 with adapters")
    sizes = {} if context is None else {"context of a process": context // run.sequence_processes}
    if shape is not None:
        sizes |= {"width": shape.width, "feed_forward": shape.inner_features}
        sizes |= {"the width of all heads": shape.heads * shape.head_features}
        sizes |= {"the width of all kv_heads": shape.key_value_heads * shape.head_features}
    for name, size in sizes.items():
        if size % 16:
            raise ValueError(f"precision fp8 multiplies in blocks of 16, and {name} is {size}: make it a multiple")


def _check_compile(run: Spread, precision: Precision) -> None:
    if precision == "fp8":
        raise ValueError("compile does not go with precision fp8: leave it out, or use bf16")
    if run.zero_stage == 3:
        raise ValueError("zero_stage 3 gathers weights as they are used: no compile with it, or zero_stage 2 at most")
    asked = [name for name in ("tensor_processes", "pipeline_processes") if getattr(run, name) > 1]
    if asked:
        raise ValueError(f"compile does not go with {asked[0]}: leave one of them out")
    compiler = os.environ.get("CXX") or ("clang++" if sys.platform == "darwin" else "g++")
    if shutil.which(compiler) is None:
        raise ValueError(f"compile needs a C++ compiler, and there is no {compiler} here (Debian: apt-get install g++)")


def _check_stages(run: Spread, shape: ModelConfig | None) -> None:
    stages = run.pipeline_processes
    if run.zero_stage > 1:
        raise ValueError(
            f"zero_stage {run.zero_stage} cuts gradients before a pipeline has added them up: use zero_stage 0 or 1 "
            "with pipeline_processes"
        )
    if run.offload != "none":
        raise ValueError(f"offload: {run.offload} does not go with pipeline_processes: leave it out")
    if shape is not None and shape.layers < stages:
        raise ValueError(
            f"pipeline_processes {stages} is more than the model's layers {shape.layers}: each stage needs one"
        )
