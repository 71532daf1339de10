"""Used by ``ranks_zero`` and ``ranks_gpu``: what becomes of float16's loss scale when gradients overflow."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch.distributed as dist

from model.data.batches import Batch
from model.engine import Engine
from model.learning.objective_config import NextTokenConfig
from model.learning.objectives import Loss, NextToken
from tests.model.ranks_zero import engine, micro_batches, same, saved, whole_state

RATE, WINDOW, SPOILT, STOPPED, STEPS = 1e-3, 3, 1, 3, 9


class Overflowing(NextToken):
    """A finite loss, on the last process far too steep for float16."""

    def losses(self, network: Any, batch: Batch) -> list[Loss]:
        steep = 1e9 if dist.get_rank() == dist.get_world_size() - 1 else 1.0
        return [replace(term, summed=term.summed * steep) for term in super().losses(network, batch)]


def after_an_overflow(stage: int) -> dict[str, float]:
    """A loss scale that is far too large costs steps, is halved each time, and harms nothing."""
    built = engine(stage, None, "fp16")
    assert built.scaler is not None
    built.scaler.cur_scale = 2.0**40
    before, skipped = whole_state(built), 0
    while (outcome := built.step(micro_batches(0, built), NextToken(NextTokenConfig()), RATE)).skipped:
        skipped += 1
        assert same(whole_state(built), before)
    return {
        "skipped": skipped,
        "scale": built.scaler.cur_scale * 2.0**skipped / 2.0**40,
        "moved": float(not same(whole_state(built), before)),
        "left_out": float(outcome.left_out),
    }


def scales_of(built: Engine, start: int, stop: int) -> list[float]:
    """The loss scale after each step; below zero where the step was skipped."""
    assert built.scaler is not None
    built.scaler.scale_window = WINDOW
    found = []
    for step in range(start, stop):
        objective = (Overflowing if step == SPOILT else NextToken)(NextTokenConfig())
        skipped = built.step(micro_batches(step, built), objective, RATE).skipped
        found.append(built.scaler.cur_scale * (-1 if skipped else 1))
    return found


def followed(stage: int, folder: Path) -> dict[str, Any]:
    """The scales of a run in which one step overflows, and of one that was stopped within the window and resumed."""
    built = engine(stage, None, "fp16")
    scales = scales_of(built, 0, STOPPED)
    again = engine(stage, saved(built, folder), "fp16")
    scales += scales_of(built, STOPPED, STEPS)
    return {
        "scales": scales,
        "resumed": scales_of(again, STOPPED, STEPS),
        "same_bits": float(same(whole_state(again), whole_state(built))),
    }
