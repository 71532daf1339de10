"""Every optimiser and ZeRO stage on real processes (two in ``ranks_zero``, or one) beside plain torch on one."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from torch import Tensor

from model.checkpoints.checkpoint import Checkpoints
from model.checkpoints.state import averaged, restore
from model.engine import Engine
from model.launching.group import join_process_group
from model.learning.objective_config import NextTokenConfig
from model.learning.objectives import NextToken
from model.learning.optimizer import AVERAGE
from model.learning.optimizer_config import Factors, OptimizerConfig
from model.learning.optimizers import make_optimizer, set_learning_rate
from model.learning.spikes import Largest
from tests.model.learning.test_optimizers import NAMES
from tests.model.ranks_zero import CONTEXT, collate, largest_error, micro_batches, network, rows_of_step, saved

STEPS, HALF, BATCH_TOKENS = 6, 3, 100


def config(name: str) -> OptimizerConfig:
    return OptimizerConfig(
        name=name,
        learning_rate=3e-3,
        epsilon=1e-5,  # so that a last bit of a gradient near 0 does not turn an update round
        clip_norm=0.5,
        average_tokens=200,
        base_width=16,
        factors=Factors(vectors=0.5),
    )


def reference(name: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Weights and averages after all steps, by plain PyTorch on the whole batch at once."""
    made = network()
    optimizer = make_optimizer(made, config(name), BATCH_TOKENS)
    for step in range(STEPS):
        batch = collate(rows_of_step(step), CONTEXT)
        logits = made(batch.tokens_BT, batch.positions_BT, batch.documents_BT)
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch.targets_BT.flatten())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(made.parameters(), config(name).clip_norm)
        set_learning_rate(optimizer, rate(step))
        optimizer.step()
    weights = {key: weight.detach() for key, weight in made.named_parameters()}
    return weights, {key: optimizer.state[weight][AVERAGE] for key, weight in made.named_parameters()}


def rate(step: int) -> float:
    return 3e-3 / (1 + step)


def engine(name: str, stage: int, checkpoint: Path | None = None) -> Engine:
    made = network()
    built = Engine(made, make_optimizer(made, config(name), BATCH_TOKENS), stage, "fp32", 0.5)
    if checkpoint:
        found = Checkpoints(checkpoint, "run").latest()
        assert found is not None
        restore(built, found.parts, found.about.numbers)
    return built


def train(built: Engine, start: int, stop: int) -> None:
    for step in range(start, stop):
        built.step(micro_batches(step, built), NextToken(NextTokenConfig()), rate(step))


def compared(folder: Path) -> dict[str, dict[str, float]]:
    """Per optimiser and stage: how far weights moved, and how far from the reference's they and averages end.

    ``left_out``: whether a step before the others, whose gradient was too large, was. ``continued``: how many weights
    differ in any bit when the run is continued half-way.
    """
    start = {key: weight.detach() for key, weight in network().named_parameters()}
    found: dict[str, dict[str, float]] = {}
    for name in NAMES:
        weights, averages = reference(name)
        for stage in (0, 1, 2, 3):
            built = engine(name, stage)
            spike = built.step(micro_batches(99, built), NextToken(NextTokenConfig()), rate(0), Largest(grad_norm=1e-3))
            train(built, 0, HALF)
            checkpoint = saved(built, folder / f"{name}-{stage}")
            train(built, HALF, STEPS)
            mine = built.weights()
            again = engine(name, stage, checkpoint)
            train(again, HALF, STEPS)
            continued = again.weights()
            with averaged(built):
                means = built.weights()
            found[f"{name} {stage}"] = {
                "moved": largest_error(weights, start),
                "weights": largest_error(mine, weights),
                "averages": largest_error(means, averages),
                "left_out": float(spike.left_out),
                "continued": sum(not torch.equal(mine[key], continued[key]) for key in mine),
                "given_back": float(all(torch.equal(mine[key], weight) for key, weight in built.weights().items())),
            }
    return found


if __name__ == "__main__":
    join_process_group("cpu")
    Path(sys.argv[1]).write_text(json.dumps(compared(Path(sys.argv[1]).parent)))
