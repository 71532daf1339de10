"""Run by ``test_tensor.py`` on four real processes: two that share a network, twice, beside one process."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from model.checkpoints.checkpoint import About, Checkpoints
from model.checkpoints.state import HostCopies, averaged, numbers_of, part_of, restore
from model.config import Dropout, ModelConfig
from model.data.batches import Batch, Sequences, Text, TextRows, collate, share
from model.engine import Engine
from model.launching.group import join_process_group
from model.learning.objective_config import NextTokenConfig
from model.learning.objectives import Loss, NextToken
from model.learning.optimizer import AVERAGE
from model.learning.optimizer_config import OptimizerConfig
from model.learning.optimizers import make_optimizer
from model.learning.spikes import Largest
from model.network import lora
from model.network.transformer import Transformer
from model.parallel.grid import Grid
from model.parallel.tensor import share_of
from tasks.finetune import LINEAR_LAYERS

CONTEXT, VOCABULARY, SEQUENCES, BATCH_TOKENS = 16, 67, 5, 80
HALF, STEPS, RATE = 2, 4, 3e-3
SHAPES = {
    # Between them, everything that a network can have: each kind of norm, bias, position, activation and output.
    "llama": ModelConfig(layers=2, width=32, heads=4, kv_heads=2, context=CONTEXT, qk_norm=True),
    "gpt": ModelConfig(
        layers=2, width=24, heads=6, context=CONTEXT, norm="layernorm", activation="gelu", positions="learned",
        biases="all", tied_embeddings=False, logit_softcap=5.0, feed_forward=51,
        dropout=Dropout(attention=0.2, residual=0.1, embeddings=0.1),
    ),
    "lora": ModelConfig(layers=1, width=24, heads=6, kv_heads=2, context=CONTEXT, biases="all"),
}  # fmt: skip
OBJECTIVES = {
    "llama": NextTokenConfig(),
    "lora": NextTokenConfig(),
    "gpt": NextTokenConfig(label_smoothing=0.1, z_loss=1e-3),
}
WAYS: dict[str, dict[str, Any]] = {
    "offload": {"offload": "cpu"}, "recompute": {"recompute": True},
    "bf16": {"precision": "bf16"}, "fp16": {"precision": "fp16"},
}  # fmt: skip


def network(name: str) -> Transformer:
    made = Transformer(SHAPES[name], VOCABULARY)
    made.initialise(7)
    made.model.noise_seed = 3
    if name == "lora":
        lora.inject(made, 4, 8.0, LINEAR_LAYERS, 1)
        generator = torch.Generator().manual_seed(2)
        for weight in trainable(made).values():  # where one of the two is zero, the other has no gradient
            weight.data.normal_(0.0, 0.1, generator=generator)
    return made


def trainable(made: Transformer) -> dict[str, torch.nn.Parameter]:
    return {key: weight for key, weight in made.named_parameters() if weight.requires_grad}


def optimizer(name: str) -> OptimizerConfig:
    return OptimizerConfig(
        name=name,
        learning_rate=RATE,
        epsilon=1e-5,  # so that a last bit of a gradient near 0 does not turn an update round
        clip_norm=0.5,
        average_tokens=200,
        factors={"vectors": 0.5},
    )


def rows_of_step(step: int) -> Sequences:
    """Five sequences, full and nearly empty, so that counts per process and micro-batch differ widely."""
    random = np.random.default_rng(step)
    texts = [Text(random.integers(0, VOCABULARY, length + 1) // (step % 2 + 1)) for length in (16, 3, 9, 14, 16, 2, 12)]
    rows = TextRows(texts, CONTEXT)
    assert len(rows) == SEQUENCES
    return rows.read(np.arange(SEQUENCES))


def micro_batches(step: int, rank: int, processes: int) -> list[Batch]:
    rows, first = rows_of_step(step), step * SEQUENCES
    return [collate(rows.take(mine), CONTEXT, first + mine.start) for mine in share(SEQUENCES, rank, processes, 2)]


def train(built: Engine, shape: str, start: int, stop: int) -> list[float]:
    """Losses and gradient norms of steps, in turn."""
    found = []
    for step in range(start, stop):
        mine = micro_batches(step, built.grid.data.rank, built.grid.data.size)
        outcome = built.step(mine, NextToken(OBJECTIVES[shape]), RATE / (1 + step))
        found += [outcome.losses["loss"], outcome.grad_norm]
    return found


def reference(shape: str, name: str) -> dict[str, Any]:
    """The same by plain PyTorch in one process, on a whole batch at a time."""
    made, config = network(shape), optimizer(name)
    updates = make_optimizer(made, config, BATCH_TOKENS)
    gradients: dict[str, Tensor] = {}
    curve = []
    for step in range(STEPS):
        batch = collate(rows_of_step(step), CONTEXT, step * SEQUENCES)
        (term,) = NextToken(OBJECTIVES[shape]).losses(made, batch)
        updates.zero_grad()
        (term.summed / batch.predicted).backward()
        if step == 0:
            gradients = {key: weight.grad.clone() for key, weight in trainable(made).items()}
        norm = torch.nn.utils.clip_grad_norm_(made.parameters(), config.clip_norm)
        for group in updates.param_groups:
            group["lr"] = RATE / (1 + step) * group["factor"]
        updates.step()
        curve += [float(term.recorded.detach()) / batch.predicted, float(norm)]
    return {
        "gradients": gradients,
        "curve": curve,
        "weights": {key: weight.detach() for key, weight in trainable(made).items()},
        "averages": {key: updates.state[weight][AVERAGE] for key, weight in trainable(made).items()},
    }


def engine(shape: str, name: str, stage: int, state: Path | None = None, **spread: Any) -> Engine:
    made = network(shape)
    precision = spread.pop("precision", "fp32")
    grid = Grid(sequence=spread.pop("sequence", 1), tensor=spread.pop("tensor", 1))
    built = Engine(
        made, make_optimizer(made, optimizer(name), BATCH_TOKENS), stage, precision, 0.5, grid=grid, **spread
    )
    if state is not None:
        kept = Checkpoints(state, "run").latest()
        assert kept is not None
        restore(built, kept.parts, kept.about.numbers)
    return built


def saved(built: Engine, folder: Path) -> Path:
    checkpoints = Checkpoints(folder, "run")
    checkpoints.begin(part_of(built, HostCopies()), About(HALF, 0.0, numbers_of(built)))
    checkpoints.settle()
    return folder


def largest_error(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> float:
    """Relative, of any weight that the loss depends on; the gradients of others are rounding alone."""
    assert found.keys() == wanted.keys()
    return max(float((found[name] - wanted[name]).norm() / wanted[name].norm()) for name in seen(wanted))


def seen(weights: dict[str, Tensor]) -> list[str]:
    """Names of the weights that the loss depends on: all but the biases of keys, which no softmax sees."""
    return [name for name in weights if not name.endswith("k_proj.bias")]


def differing(built: Engine) -> float:
    """How many of the weights that every process has are not the same bits on all of them (where ZeRO cuts none)."""
    count = 0
    for weight in built.layout.trainable.values():
        if share_of(weight) is None:
            first = weight.detach().clone()
            dist.broadcast(first, 0)
            count += not torch.equal(first, weight.detach())
    differ = torch.tensor(float(count))
    dist.all_reduce(differ)
    return float(differ)


def compared(
    shape: str, name: str, stage: int, wanted: dict[str, Any], folder: Path, **spread: Any
) -> dict[str, float]:
    """How far gradients, curve, weights and averages are from those of one process; and when resumed half-way."""
    probe = engine(shape, name, stage, **spread)
    batches = micro_batches(0, probe.grid.data.rank, probe.grid.data.size)
    probe.backward(batches, NextToken(OBJECTIVES[shape]))
    gradients = probe.gradients()
    built = engine(shape, name, stage, **spread)
    batches = micro_batches(9, built.grid.data.rank, built.grid.data.size)
    spike = built.step(batches, NextToken(OBJECTIVES[shape]), RATE, Largest(grad_norm=1e-3))
    curve = train(built, shape, 0, HALF)
    saved(built, folder)
    kept = built.weights(trainable_only=True)
    curve += train(built, shape, HALF, STEPS)
    mine = built.weights(trainable_only=True)
    again = engine(shape, name, stage, folder, **spread)
    restored = again.weights(trainable_only=True)
    train(again, shape, HALF, STEPS)
    continued = again.weights(trainable_only=True)
    with averaged(built):
        averages = built.weights(trainable_only=True)
    start = {key: weight.detach() for key, weight in trainable(network(shape)).items()}
    return {
        "moved": min(float((mine[key] - start[key]).norm()) for key in seen(start)),
        "gradient_error": largest_error(gradients, wanted["gradients"]),
        "curve_error": max(abs(a - b) for a, b in zip(curve, wanted["curve"], strict=True)),
        "weight_error": largest_error(mine, wanted["weights"]),
        "average_error": largest_error(averages, wanted["averages"]),
        "restored": float(all(torch.equal(kept[key], restored[key]) for key in kept)),
        "same_bits": float(all(torch.equal(mine[key], continued[key]) for key in mine)),
        "left_out": float(spike.left_out),
        "differing": differing(built) if stage == 0 else 0.0,
    }


class Astray(NextToken):
    """Its losses differ by process in the last bits, as they might on GPUs of several kinds."""

    def losses(self, network: Any, batch: Batch) -> list[Loss]:
        factor = 1 + 1e-6 * dist.get_rank()
        return [replace(term, summed=term.summed * factor) for term in super().losses(network, batch)]


def figures_differ() -> dict[str, float]:
    """Whether what is told of a step and of an evaluation is not the same bits on every process."""
    built = engine("llama", "adamw", 1, tensor=2)
    batches = micro_batches(0, built.grid.data.rank, built.grid.data.size)
    evaluated = built.evaluate(batches, Astray(OBJECTIVES["llama"]))["loss"]
    losses = built.step(batches, Astray(OBJECTIVES["llama"]), RATE).losses
    told: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(told, [evaluated, losses])
    return {name: float(any(one[n] != told[0][n] for one in told)) for n, name in enumerate(("evaluation", "step"))}


def whole_state(built: Engine) -> dict[str, Tensor]:
    """Weights, and what a checkpoint of them holds beside (moments, averages), whole."""
    with averaged(built):
        averages = {f"{AVERAGE}/{key}": weight for key, weight in built.weights().items()}
    return built.weights() | averages


def opened(folder: Path, stage: int, wanted: dict[str, Tensor], curve: list[float], **spread: Any) -> dict[str, float]:
    """A checkpoint, opened however the processes share the network: whether it is the same, and goes on the same."""
    built = engine("llama", "adamw", stage, folder, **spread)
    state = whole_state(built)
    mine = train(built, "llama", HALF, STEPS)
    return {
        "same": float(all(torch.equal(state[key], wanted[key]) for key in wanted)),
        "curve_error": max(abs(a - b) for a, b in zip(mine, curve[2 * HALF :], strict=True)),
    }


def reopened(output: Path, curve: list[float]) -> dict[str, dict[str, float]]:
    """Checkpoints of four processes with whole networks, opened by those that share them, and the reverse."""
    found, ways = {}, {"one": {"tensor": 1}, "tensor": {"tensor": 2}}
    for kept, stage, used, other in (("one", 1, "tensor", 2), ("tensor", 0, "one", 1), ("tensor", 1, "tensor", 3)):
        built = engine("llama", "adamw", stage, **ways[kept])
        train(built, "llama", 0, HALF)
        folder = saved(built, output.parent / f"{kept}-{stage}")
        name = f"{kept} to {used}" if kept != used else f"{kept} {stage} to {used} {other}"
        found[name] = opened(folder, other, whole_state(built), curve, **ways[used])
    return found


def main(output: Path) -> None:
    join_process_group("cpu")
    found: dict[str, dict[str, float]] = {}
    for shape, stages in (("llama", (0, 1, 2, 3)), ("gpt", (1,)), ("lora", (3,))):
        wanted = reference(shape, "adamw")
        for stage in stages:
            folder = output.parent / f"{shape}-{stage}"
            found[f"{shape} {stage}"] = compared(shape, "adamw", stage, wanted, folder, tensor=2)
        if shape == "llama":
            for way in WAYS:
                mine = train(engine(shape, "adamw", 1, tensor=2, **WAYS[way]), shape, 0, STEPS)
                found[way] = {"curve_error": max(abs(a - b) for a, b in zip(mine, wanted["curve"], strict=True))}
            positions = output.parent / "positions"
            found["positions too"] = compared(shape, "adamw", 1, wanted, positions, tensor=2, sequence=2)
            for stage in (1, 2):
                folder = output.parent / f"sequence-{stage}"
                found[f"sequence {stage}"] = compared(shape, "adamw", stage, wanted, folder, sequence=2)
            found |= reopened(output, wanted["curve"])
            found["figures differ"] = figures_differ()
    for name, stages in (("lion", (1,)), ("lamb", (1,)), ("muon", (0, 3))):
        wanted = reference("llama", name)
        for stage in stages:
            folder = output.parent / f"{name}-{stage}"
            found[f"{name} {stage}"] = compared("llama", name, stage, wanted, folder, tensor=2)
    if dist.get_rank() == 0:
        output.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
