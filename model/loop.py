"""The training loop: draws batches, steps, records, evaluates, checkpoints, stops.

It knows neither what is learnt (the objective) nor how the work is spread (the engine). What it
does when (checkpoints by the clock, evaluations) has no influence on the weights.
"""

from __future__ import annotations

import math
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from model.batches import Batch, Sequences, collate, share
from model.checkpoint import Checkpoint, Checkpoints
from model.engine import Engine, StepOutcome
from model.objectives import Objective
from model.order import Order
from model.recorder import Recorder
from model.state import state_of
from storage.errors import StepFailed

_RECORDED_STEPS = 2_000
"""About as many steps are recorded of a long run."""


@dataclass(frozen=True)
class Plan:
    """How long to train, and on how much at a time."""

    steps: int
    batch_sequences: int
    """Of all processes together."""
    micro_batch_sequences: int
    """Of one process, at a time."""
    context: int
    evaluate_every: int
    """Steps between evaluations; 0: never."""
    checkpoint_seconds: float
    learning_rate: Callable[[float], float]
    """Of the tokens trained on."""
    flops_per_token: float
    peak_flops: float
    """What all processes together can do in a second."""

    @property
    def batch_tokens(self) -> int:
        return self.batch_sequences * self.context


@dataclass(frozen=True)
class Outcome:
    """How a run ended."""

    loss: float
    """Of the last step, nats per predicted token."""
    validation_loss: float | None
    tokens_per_second: float
    """Since this process began or resumed; 0 if nothing was left to do."""


class Loop:
    """One run. ``recorder`` and ``checkpoints`` are written by the first process alone."""

    def __init__(
        self,
        engine: Engine,
        objective: Objective,
        order: Order,
        validation: Sequences,
        plan: Plan,
        checkpoints: Checkpoints,
        recorder: Recorder | None,
    ) -> None:
        self.engine, self.objective, self.order, self.plan = engine, objective, order, plan
        self._validation = validation
        self._checkpoints, self._recorder = checkpoints, recorder
        self._saved_at = time.monotonic()
        self._saved_step = -1
        self._seconds = 0.0
        self._validation_loss: float | None = None

    def run(self, start: int, loss: float = math.nan) -> Outcome:
        """Train from the state after step ``start``, whose loss was ``loss``, to the end.

        Raises StepFailed if a loss or a gradient is not finite.
        """
        self._saved_step, self._loss = start, loss
        if self._evaluates_after(start):
            self._evaluate(start)
        for step in range(start + 1, self.plan.steps + 1):
            began = time.monotonic()
            outcome = self._step(step)
            self._seconds += time.monotonic() - began
            self._record(step, outcome, time.monotonic() - began)
            if self._evaluates_after(step) or step == self.plan.steps or self._is_time():
                self._checkpoint(step)
            if self._evaluates_after(step):
                self._evaluate(step)
        done = (self.plan.steps - start) * self.plan.batch_tokens
        return Outcome(self._loss, self._validation_loss, done / self._seconds if self._seconds else 0.0)

    def _step(self, step: int) -> StepOutcome:
        plan = self.plan
        begin = (step - 1) * plan.batch_sequences
        batches = [
            self._batch(self.order.read(begin + mine.start, len(mine)), begin + mine.start)
            for mine in self._shares(plan.batch_sequences)
        ]
        rate = plan.learning_rate((step - 0.5) * plan.batch_tokens)
        outcome = self.engine.step(batches, self.objective, rate)
        for name, loss in outcome.losses.items():
            if not math.isfinite(loss):
                raise StepFailed(
                    f"step {step}: the {name} is {loss}; lower optimizer.learning_rate or lengthen its warmup"
                )
        if not math.isfinite(outcome.grad_norm) and not (outcome.skipped and self.engine.scales_loss):
            raise StepFailed(f"step {step}: a gradient is not finite; lower optimizer.learning_rate")
        self._loss = outcome.losses["loss"]
        return outcome

    def _shares(self, sequences: int) -> list[range]:
        """The micro-batches of this process, by the numbers of their sequences."""
        return share(sequences, self.engine.rank, self.engine.processes, self.plan.micro_batch_sequences)

    def _batch(self, sequences: Sequences, first_row: int) -> Batch:
        """Consecutive sequences of the order, as the objective learns from them."""
        return self.objective.prepare(collate(sequences, self.plan.context, first_row))

    def _record(self, step: int, outcome: StepOutcome, seconds: float) -> None:
        plan = self.plan
        every = max(1, plan.steps // _RECORDED_STEPS)
        if self._recorder is None or (step % every and step != plan.steps):
            return
        speed = plan.batch_tokens / seconds
        norm = {"grad_norm": outcome.grad_norm} if math.isfinite(outcome.grad_norm) else {}
        self._recorder.record(
            step,
            tokens=step * plan.batch_tokens,
            **outcome.losses,
            **norm,
            learning_rate=plan.learning_rate((step - 0.5) * plan.batch_tokens),
            tokens_per_second=speed,
            flops_utilization=speed * plan.flops_per_token / plan.peak_flops,
            memory_bytes=memory_bytes(self.engine.device),
        )

    def _evaluates_after(self, step: int) -> bool:
        every = self.plan.evaluate_every
        return len(self._validation) > 0 and every > 0 and step > 0 and (step % every == 0 or step == self.plan.steps)

    def _evaluate(self, step: int) -> None:
        shares = self._shares(len(self._validation))
        batches = [self._batch(self._validation.take(mine), mine.start) for mine in shares]
        losses = self.engine.evaluate(batches, self.objective)
        self._validation_loss = losses["loss"]
        if self._recorder is not None:
            self._recorder.record(
                step,
                tokens=step * self.plan.batch_tokens,
                **{f"validation_{name}": value for name, value in losses.items()},
            )

    def _is_time(self) -> bool:
        """Whether the first process's clock says so: all must checkpoint together."""
        return self.engine.agreed(time.monotonic() - self._saved_at >= self.plan.checkpoint_seconds)

    def _checkpoint(self, step: int) -> None:
        if step == self._saved_step:
            return
        tensors, numbers = state_of(self.engine)
        if self.engine.rank == 0:
            self._checkpoints.write(Checkpoint(step, tensors, numbers, self._loss))
        self._saved_at, self._saved_step = time.monotonic(), step


def memory_bytes(device: torch.device) -> float:
    """Most memory that this process has held: of the GPU, or of the host."""
    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(device))
    unit = 1 if sys.platform == "darwin" else 1024
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit)


def measured_peak(device: torch.device, dtype: torch.dtype) -> float:
    """Floating-point operations a second of this process in a large matrix product: the ceiling to compare with."""
    size = 8192 if device.type == "cuda" else 1024
    a, b = torch.ones(size, size, device=device, dtype=dtype), torch.ones(size, size, device=device, dtype=dtype)
    best = math.inf
    for _ in range(4):
        began = time.perf_counter()
        product = a @ b
        float(product[0, 0])  # waits for a GPU
        best = min(best, time.perf_counter() - began)
    return 2.0 * size**3 / best
