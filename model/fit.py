"""What cannot be trained on the resources given, told before anything runs. Imports no torch."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

from model.config import ModelConfig, Precision
from model.formats import families

PLUMBING = "what is refused has no result"


class Spread(Protocol):
    """The part of a step's resources that says how a network is spread over processes."""

    @property
    def processes(self) -> int: ...
    @property
    def hosts(self) -> Any: ...
    @property
    def zero_stage(self) -> Literal[0, 1, 2, 3]: ...
    @property
    def offload(self) -> Literal["none", "cpu"]: ...
    @property
    def sequence_processes(self) -> int: ...
    @property
    def tensor_processes(self) -> int: ...
    @property
    def pipeline_processes(self) -> int: ...
    @property
    def recompute(self) -> bool: ...


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
    if run.offload == "cpu" and run.zero_stage == 0:
        raise ValueError("offload: cpu is ZeRO's: use zero_stage 1 or more")
    if run.offload == "cpu" and optimizer in ("muon", "lamb"):
        raise ValueError(
            f"offload: cpu leaves pieces on the host, and {optimizer} needs whole weights: use adamw or lion"
        )
    if run.sequence_processes > 1:
        _check_sharing(run, shape, context, sentence_pairs)
    if run.tensor_processes > 1:
        _check_tensor(run, shape, adapted)
    if run.pipeline_processes > 1:
        _check_stages(run, shape)


def check_foreign(run: Spread) -> None:
    """Raise ValueError for what only our own network can do, and a model run as ``transformers`` has it cannot."""
    axes = ("sequence_processes", "tensor_processes", "pipeline_processes")
    asked = [name for name in axes if getattr(run, name) > 1]
    asked += ["recompute"] if run.recompute else []
    if asked:
        raise ValueError(
            f"{' and '.join(asked)}: for our own network alone; this one is run as transformers has it: leave it out"
        )


def check_folder(run: Spread, folder: Path) -> None:
    """``check_foreign``, where the network in a model or adapter folder is one that ours cannot be."""
    for place in (folder / "base" / "config.json", folder / "config.json"):
        if place.is_file():
            try:
                described = json.loads(place.read_text(encoding="utf-8"))
            except ValueError:
                return  # told when it is read
            if not families.can_be(described):
                check_foreign(run)
            return


def _check_sharing(run: Spread, shape: ModelConfig | None, context: int | None, sentence_pairs: bool) -> None:
    size = run.sequence_processes
    if run.processes % size:
        raise ValueError(f"processes {run.processes} is not a multiple of sequence_processes {size}: make it one")
    if run.processes % (size * run.tensor_processes):
        both = f"sequence_processes {size} x tensor_processes {run.tensor_processes}"
        raise ValueError(f"processes {run.processes} is not a multiple of {both}: make it one")
    if context is not None and context % size:
        raise ValueError(f"context {context} cannot be shared by sequence_processes {size}: make it a multiple")
    if sentence_pairs:
        raise ValueError("next_sentence reads a sequence as a whole: leave sequence_processes at 1")
    if shape is None:
        return
    if shape.heads % size:
        raise ValueError(f"heads {shape.heads} cannot be shared by sequence_processes {size}: make it a multiple")
    if shape.heads % (size * run.tensor_processes):
        both = f"sequence_processes {size} x tensor_processes {run.tensor_processes}"
        raise ValueError(f"heads {shape.heads} cannot be shared by {both}: make it a multiple")
    if shape.dropout.any:
        raise ValueError(
            "dropout follows from where a position stands in a whole sequence: no sequence_processes with it"
        )


def _check_tensor(run: Spread, shape: ModelConfig | None, adapted: Sequence[str]) -> None:
    size = run.tensor_processes
    if run.processes % size:
        raise ValueError(f"processes {run.processes} is not a multiple of tensor_processes {size}: make it one")
    if "lm_head" in adapted:
        raise ValueError("an adapter of the output layer is not cut: leave lm_head out, or tensor_processes at 1")
    if shape is None:
        return
    for name, heads in (("heads", shape.heads), ("kv_heads", shape.key_value_heads)):
        if heads % size:
            raise ValueError(f"{name} {heads} cannot be shared by tensor_processes {size}: make it a multiple")


def _check_stages(run: Spread, shape: ModelConfig | None) -> None:
    stages = run.pipeline_processes
    if run.processes % stages:
        raise ValueError(f"processes {run.processes} is not a multiple of pipeline_processes {stages}: make it one")
    if run.zero_stage > 1:
        raise ValueError(
            f"zero_stage {run.zero_stage} cuts gradients before a pipeline has added them up: use zero_stage 0 or 1 "
            "with pipeline_processes"
        )
    if run.sequence_processes > 1:
        raise ValueError("sequence_processes and pipeline_processes do not go together: leave one of them at 1")
    if run.tensor_processes > 1:
        raise ValueError("tensor_processes and pipeline_processes do not go together: leave one of them at 1")
    if run.offload == "cpu":
        raise ValueError("offload: cpu does not go with pipeline_processes: leave it out")
    if shape is not None and shape.layers < stages:
        raise ValueError(
            f"pipeline_processes {stages} is more than the model's layers {shape.layers}: each stage needs one"
        )
