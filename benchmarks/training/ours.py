"""Athanor's pretraining: the steps of a recipe on plain folders, training in processes that its launcher starts.

What a whole ``athanor run`` does beside it (a server, records of the run) is not measured here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.training.texts import TokenFiles
from storage.artifact import Artifact
from storage.shards import Shards
from storage.tokenizer import Tokenizer
from tasks.context import PlainWorld, RunContext
from tasks.import_tokens import ImportTokens
from tasks.pretrain import Pretrain
from tasks.task import Resources, Task


@dataclass(frozen=True)
class OurRun:
    """What a run took and left."""

    tokens: float
    seconds: float
    """Of training steps, without starting and writing checkpoints."""
    step_seconds: list[float]
    """Of every step."""
    model: Path
    """The exported folder."""


def imported(data: TokenFiles, folder: Path) -> Shards:
    """The training file as shards. None to validate on: all trainers are measured by the same function afterwards."""
    task = ImportTokens(format="nanogpt", train=[str(data.folder / "train.bin")], tokenizer="tokenizer")
    _run(task, {"tokenizer": Tokenizer.of_folder(data.tokenizer)}, folder, 0, Resources())
    return Shards.of_folder(folder / "output")


def train(
    shards: Shards, work: Path, *, seed: int, processes: int, zero_stage: int, micro: int, compiled: bool = False,
    **settings: Any,
) -> OurRun:  # fmt: skip
    """Train with these settings of a ``pretrain`` step. What is compiled is kept beside ``work``."""
    resources = Resources(
        processes=processes, zero_stage=zero_stage, micro_batch_sequences=micro, compile=compiled, device="cpu"
    )
    metrics = _run(Pretrain(data="shards", **settings), {"data": shards}, work, seed, resources)
    rows = [json.loads(line) for line in (work / "scratch" / "metrics.jsonl").read_text("utf-8").splitlines()]
    seconds = [settings["batch_tokens"] / row["tokens_per_second"] for row in rows if "tokens_per_second" in row]
    return OurRun(
        metrics["tokens"], metrics["tokens"] / metrics["tokens_per_second"], seconds, work / "output",
    )  # fmt: skip


def _run(
    task: Task, inputs: Mapping[str, Artifact], work: Path, seed: int, resources: Resources
) -> Mapping[str, float]:
    """Run a step in a folder of its own; returns its metrics."""
    for name in ("output", "scratch"):
        (work / name).mkdir(parents=True)
    references = task.inputs()
    opened = {references[slot]: artifact for slot, artifact in inputs.items()}
    context = RunContext(
        work / "output", work / "scratch", PlainWorld(work), opened, resources, seed, compiled=work.parent / "compiled"
    )
    return task.run(context).metrics


def logits_of(folder: Path) -> Callable[[Tensor], Tensor]:
    """What the trained network says of a batch of ids (rows, positions): logits (rows, positions, vocabulary)."""
    from model.formats import huggingface

    network = huggingface.load(folder).eval()

    def logits(tokens_BT: Tensor) -> Tensor:
        with torch.no_grad():
            return network(tokens_BT)  # type: ignore[no-any-return]

    return logits
