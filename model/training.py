"""One training, from what was asked for to what it leaves. To be imported once the process has joined its group."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch

from model.beginning import kept_state, make_engine, make_network
from model.checkpoints.checkpoint import Checkpoint, Checkpoints
from model.checkpoints.keeping import BestKeeper
from model.checkpoints.saver import Saver
from model.config import ModelConfig
from model.data.batches import Batch
from model.data.training_data import TrainingData, make_data, tokenizer_of
from model.engine import Engine
from model.launching.stop import StopRequest
from model.learning.objectives import Objective, make_objective
from model.learning.schedule import learning_rate
from model.loop import Loop, Outcome, Plan, measured_peak
from model.network import float8
from model.recorder import Recorder
from model.request import COMPILING, PLAN, SUMMARY, Request
from model.result import publishers_of, shape_of, weights_of, write_result
from storage.disk import write_json
from storage.errors import UserError

_RECORDED_STEPS = 2_000
"""About as many steps are recorded of a long run."""


def train_here(request: Request, device: torch.device) -> None:
    """Train from the newest checkpoint, or from the start, and write the result; all processes must call it."""
    if request.precision == "fp8":
        float8.check_device(device)
    torch.manual_seed(request.seed)
    data = make_data(request)
    if request.judges and not data.validation:
        raise UserError("early_stopping and keep: best measure the validation split, and this one is empty")
    network, vocabulary = make_network(request)
    checkpoints = Checkpoints(request.run.scratch / "checkpoints", request.identity)
    saved = checkpoints.latest()
    resumed, saved = saved is not None, saved or kept_state(request)
    engine = make_engine(request, network, saved)
    best = BestKeeper(request.run.scratch, request.identity)
    with StopRequest() as stop:
        publishers = publishers_of(request, engine, vocabulary, data.steps)
        saver = Saver(engine, checkpoints, request.run.checkpoint_seconds, stop, best, publishers)
        if saved is not None:
            saver.resumed(saved.about.step, own=resumed)
        plan = _plan_of(request, data, engine.processes, vocabulary, device)
        outcome = _run_loop(request, engine, data, plan, saver, saved)
    checkpoints.close()
    weights = weights_of(request, engine, best, outcome)
    if engine.rank == 0:
        write_result(request, request.run.output, weights, vocabulary)
        parameters = sum(weight.numel() for weight in weights.values())
        write_json(request.run.scratch / SUMMARY, {**outcome, **data.facts, "parameters": parameters})
    torch.distributed.barrier()


def _plan_of(request: Request, data: TrainingData, processes: int, vocabulary: int, device: torch.device) -> Plan:
    """How the loop is to run."""
    optimizer = request.optimizer.for_batch(request.batch_tokens)
    flops = shape_of(request).flops_per_token(vocabulary, request.context)
    dtype = {"fp32": torch.float32, "fp16": torch.float16}.get(request.precision, torch.bfloat16)
    return Plan(
        steps=data.steps,
        batch_sequences=request.batch_sequences,
        micro_batch_sequences=request.run.micro_batch_sequences,
        context=request.context,
        evaluate_every=_evaluate_every(request, data.steps),
        record_every=record_every(request, data.steps),
        early_stopping=request.early_stopping,
        keeps_best=request.keep == "best",
        learning_rate=partial(learning_rate, optimizer=optimizer, total=data.steps * request.batch_tokens),
        skip_spikes=optimizer.skip_spikes,
        # With adapters, the gradients of the network's own weights are not needed.
        flops_per_token=flops * (2 / 3 if request.adapter else 1),
        peak_flops=measured_peak(device, dtype) * processes,
    )


def _run_loop(
    request: Request, engine: Engine, data: TrainingData, plan: Plan, saver: Saver, saved: Checkpoint | None
) -> dict[str, Any]:
    """Train; what there is to say of it."""
    run, start = request.run, saved.about.step if saved else 0
    recorder = Recorder(run.metrics_file, start) if engine.rank == 0 else None
    if engine.rank == 0:  # behind the metrics, which lose what came after the checkpoint
        tokens = {"tokens": data.steps * request.batch_tokens, "begun": start * request.batch_tokens}
        write_json(run.scratch / PLAN, {"steps": data.steps, "begun_step": start} | tokens)
    objective = _objective_of(request)
    loop = Loop(engine, objective, data.order, data.validation, plan, saver, recorder)
    if saved:
        loop.memory.update(saved.about.memory)
    compiling = 0.0
    if run.compile and start < data.steps:
        compiling = _compile(engine, loop.batches(start + 1), objective, run.scratch / COMPILING)
    told = _told(request, plan, loop.run(start, saved.about.loss) if saved else loop.run(start))
    return told | {"compile_seconds": compiling} if run.compile else told


def _told(request: Request, plan: Plan, outcome: Outcome) -> dict[str, Any]:
    """What there is to say of a run of the loop, by name."""
    told = asdict(outcome) | {"tokens": outcome.steps * request.batch_tokens}
    told["flops_utilization"] = outcome.tokens_per_second * plan.flops_per_token / plan.peak_flops
    best = told.pop("best")
    if request.judges and best is not None:
        told |= {"planned_steps": plan.steps, "best_step": best[0], "best_validation_loss": best[1]}
    if request.keep == "best" and best is not None:
        told["validation_loss"] = best[1]
    return told


def _objective_of(request: Request) -> Objective:
    shape = shape_of(request)
    balance = shape.experts_balance if isinstance(shape, ModelConfig) and shape.experts is not None else None
    return make_objective(request.objective, tokenizer_of(request), request.seed, balance)


def _compile(engine: Engine, batches: Sequence[Batch], objective: Objective, told: Path) -> float:
    """Compile the network, and let the launcher know while it lasts; the seconds that it took.

    All processes must call it.
    """
    began = time.monotonic()
    if engine.rank == 0:
        told.touch()
    engine.compile(batches, objective)
    if engine.rank == 0:
        told.unlink()
    return time.monotonic() - began


def _evaluate_every(request: Request, steps: int) -> int:
    """Steps between evaluations; 0: never."""
    if request.evaluate_every is not None:
        return math.ceil(request.evaluate_every / request.batch_tokens)
    return math.ceil(steps / request.run.evaluations) if request.run.evaluations else 0


def record_every(request: Request, steps: int) -> int:
    """Steps between records of figures, in a run of so many steps."""
    if request.run.record_every is not None:
        return math.ceil(request.run.record_every / request.batch_tokens)
    return max(1, steps // _RECORDED_STEPS)
