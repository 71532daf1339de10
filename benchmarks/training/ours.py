"""Athanor's pretraining, run as its users run it: a recipe over token files, and ``athanor run``."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.training.texts import TokenFiles, athanor


@dataclass(frozen=True)
class OurRun:
    """What a run took and left."""

    tokens: float
    seconds: float
    """Of training steps, without starting, evaluating and writing checkpoints."""
    utilisation: float
    model: Path
    """The exported folder."""


def train(
    data: TokenFiles, work: Path, *, seed: int, processes: int, zero_stage: int, micro: int, **settings: Any
) -> OurRun:
    """Train with these settings of a ``pretrain`` step; every call is a build of its own in its own folder."""
    work.mkdir(parents=True)
    recipe: Mapping[str, Any] = {
        "name": "bench",
        "seed": seed,
        "steps": {
            "shards": {
                **{"task": "import_tokens", "format": "nanogpt", "train": str(data.folder / "train.bin")},
                **{"validation": str(data.folder / "val.bin"), "tokenizer": {"path": str(data.tokenizer)}},
            },
            "base": {"task": "pretrain", "data": "shards", **settings},
        },
        "resources": {
            "steps": {"base": {"processes": processes, "zero_stage": zero_stage, "micro_batch_sequences": micro}}
        },
    }
    (work / "bench.yaml").write_text(json.dumps(recipe), encoding="utf-8")  # JSON is YAML
    report = json.loads(athanor(work, "run", "bench.yaml", "--json"))
    metrics = report["steps"]["base"]["metrics"]
    athanor(work, "export", "bench/base", "model")
    seconds = metrics["tokens"] / metrics["tokens_per_second"]
    return OurRun(metrics["tokens"], seconds, metrics["flops_utilization"], work / "model")


def logits_of(folder: Path) -> Callable[[Tensor], Tensor]:
    """What the trained network says of a batch of ids (rows, positions): logits (rows, positions, vocabulary)."""
    from model.formats import huggingface

    network = huggingface.load(folder).eval()

    def logits(tokens_BT: Tensor) -> Tensor:
        with torch.no_grad():
            return network(tokens_BT)  # type: ignore[no-any-return]

    return logits
