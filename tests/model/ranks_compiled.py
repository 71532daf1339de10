"""Run by ``test_compiled.py`` on real processes: compiled networks beside plain PyTorch on one process."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch.distributed as dist
from torch._dynamo.utils import counters

from model.data.batches import Batch, Sequences, Text, TextRows
from model.engine import Engine
from model.launching.group import join_process_group
from model.learning.objectives import NextToken
from tests.model.parallel import ranks_tensor as plain
from tests.model.ranks_zero import same, saved, whole_state

WAYS: dict[str, tuple[str, int, dict[str, Any]]] = {
    "zero 0": ("llama", 0, {}),
    "zero 1": ("llama", 1, {}),
    "zero 2": ("llama", 2, {}),
    "offload": ("llama", 1, {"offload": "cpu"}),
    "recompute": ("llama", 1, {"recompute": True}),
    "dropout": ("gpt", 1, {}),
    "sequence": ("llama", 1, {"sequence": 2}),
    "bf16": ("llama", 1, {"precision": "bf16"}),
    "lora": ("lora", 1, {}),
}
"""Name → network, ZeRO stage, and how else it is spread."""


def rows_of_step(step: int) -> Sequences:
    """Four sequences: as many in every micro-batch, since each other shape is compiled by itself."""
    random = np.random.default_rng(step)
    rows = TextRows([Text(random.integers(0, 67, length + 1) // (step % 2 + 1)) for length in LENGTHS], plain.CONTEXT)
    return rows.read(np.arange(4))


LENGTHS = (16, 3, 9, 14, 16)
plain.rows_of_step, plain.SEQUENCES = rows_of_step, 4


def batches(step: int, built: Engine) -> list[Batch]:
    return plain.micro_batches(step, built.grid.data.rank, built.grid.data.size)


def compiled(shape: str, stage: int, state: Path | None = None, **spread: Any) -> Engine:
    built = plain.engine(shape, "adamw", stage, state, compiled=True, **spread)
    built.compile(batches(0, built), NextToken(plain.OBJECTIVES[shape]))
    return built


def compared(shape: str, stage: int, spread: dict[str, Any]) -> dict[str, float]:
    """How far the first gradient, the losses and norms, and the weights are from those of one process, not compiled."""
    wanted, objective = plain.reference(shape, "adamw"), NextToken(plain.OBJECTIVES[shape])
    probe = compiled(shape, stage, **spread)
    probe.backward(batches(0, probe), objective)
    gradient_error = plain.largest_error(probe.gradients(), wanted["gradients"])
    graphs = counters["stats"]["unique_graphs"]
    built = compiled(shape, stage, **spread)
    curve = plain.train(built, shape, 0, plain.STEPS)
    built.evaluate(plain.micro_batches(0, 0, 4), objective)
    return {
        "gradient_error": gradient_error,
        "curve_error": max(abs(a - b) for a, b in zip(curve, wanted["curve"], strict=True)),
        "weight_error": plain.largest_error(built.weights(trainable_only=True), wanted["weights"]),
        "compiled_later": counters["stats"]["unique_graphs"] - graphs,
    }


def continued(folder: Path, stage: int) -> float:
    """Whether a run that was stopped half-way ends with the same bits."""
    whole, first = compiled("llama", stage), compiled("llama", stage)
    plain.train(whole, "llama", 0, plain.STEPS)
    plain.train(first, "llama", 0, plain.HALF)
    second = compiled("llama", stage, saved(first, folder / f"zero-{stage}"))
    plain.train(second, "llama", plain.HALF, plain.STEPS)
    return float(same(whole_state(second), whole_state(whole)))


def main(ways: str, output: Path) -> None:
    join_process_group("cpu")
    found: dict[str, Any] = {name: compared(*WAYS[name]) for name in ways.split(",")}
    found |= {f"continued {stage}": continued(output.parent, stage) for stage in (1, 2)}
    found["graphs"] = counters["stats"]["unique_graphs"]
    found["compiled"] = counters["inductor"]["fxgraph_cache_miss"]
    if dist.get_rank() == 0:
        output.write_text(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
