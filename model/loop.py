"""The training loop: draws batches, steps, records, evaluates, checkpoints, stops.

It knows neither what is learnt (the objective) nor how the work is spread (the engine). What it
does when (checkpoints by the clock, evaluations) has no influence on the weights.
"""

from __future__ import annotations

import math
import resource
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from model.checkpoints.saver import Saver
from model.checkpoints.state import averaged
from model.data.ahead import Ahead
from model.data.batches import Batch, Sequences, collate, share
from model.data.order import Order
from model.engine import LEAST_LOSS_SCALE, Engine, StepOutcome
from model.learning.objectives import Objective
from model.learning.spikes import Spikes
from model.learning.stopping import EarlyStopping, Evaluations
from model.recorder import Recorder
from storage.errors import StepFailed

_NAMED = 20
"""So many documents of a batch are named at most."""
_MOST_WAITING = 0.05
"""The share of the time above which waiting for batches is worth a warning,"""
_JUDGED_SECONDS = 10.0
"""once so many seconds have been trained."""


class _NotFinite(Exception):
    """A loss or a gradient of a step is not a finite number."""

    def __init__(self, step: int, message: str) -> None:
        super().__init__(message)
        self.step = step


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
    record_every: int
    """Steps between records of figures."""
    early_stopping: EarlyStopping | None
    keeps_best: bool
    """Whether the weights with the lowest validation loss are kept."""
    learning_rate: Callable[[float], float]
    """Of the tokens trained on."""
    skip_spikes: float | None
    """Times the usual loss or gradient norm from which a step is left out; None: never."""
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
    data_wait: float
    """Share of the steps' time in which the first process waited for batches."""
    steps_left_out: int | None
    """For a loss or gradient far beyond the usual; None where none can be."""
    steps: int
    """Those that were made: fewer than planned where the validation loss no longer fell."""
    best: tuple[int, float] | None
    """After which step the validation loss was lowest, and that loss; None without evaluations."""


class Loop:
    """One run. ``recorder`` is the first process's alone."""

    def __init__(
        self,
        engine: Engine,
        objective: Objective,
        order: Order,
        validation: dict[str, Sequences],
        plan: Plan,
        saver: Saver,
        recorder: Recorder | None,
    ) -> None:
        self.engine, self.objective, self.order, self.plan = engine, objective, order, plan
        self._validation = validation
        self._saver, self._recorder = saver, recorder
        self._seconds = self._waited = 0.0
        self._warned = False
        self.memory: dict[str, Any] = {}
        """What must be known again when the run is resumed, beside the engine's state: JSON, equal on every process."""
        self._validation_loss: float | None = None

    def run(self, start: int, loss: float = math.nan) -> Outcome:
        """Train from the state after step ``start``, whose loss was ``loss``, to the end.

        Raises StepFailed if a loss or a gradient is not finite, and what ``Saver.after`` raises.
        """
        self._loss, self._done = loss, start
        try:
            if self._evaluates_after(start):
                self._evaluate(start)
            if not self._evaluations.ended:
                self._train(range(start + 1, self.plan.steps + 1))
        except _NotFinite as error:
            raise StepFailed(f"step {error.step}: {error}; {self._batch_of(error.step)}") from None
        done = (self._done - start) * self.plan.batch_tokens
        seconds = self._seconds or math.inf
        left_out = Spikes(self.plan.skip_spikes, self.memory).left_out
        return Outcome(
            loss=self._loss,
            validation_loss=self._validation_loss,
            tokens_per_second=done / seconds,
            data_wait=self._waited / seconds,
            steps_left_out=left_out,
            steps=self._done,
            best=self._evaluations.best,
        )

    @property
    def _evaluations(self) -> Evaluations:
        return Evaluations(self.plan.early_stopping, self.memory)

    def _train(self, steps: range) -> None:
        with Ahead(self.batches, steps) as ahead:
            for step in steps:
                self._take(step, ahead)
                evaluates, last = self._evaluates_after(step), step == self.plan.steps
                self._saver.after(step, self._loss, self.memory, wanted=evaluates, last=last)
                self._done = step
                if evaluates:
                    self._evaluate(step)
                if self._evaluations.ended:
                    break

    def _take(self, step: int, ahead: Ahead[list[Batch]]) -> None:
        """Make a step and record it."""
        began, waited = time.monotonic(), ahead.waited
        outcome = self._step(step, ahead.take(step))
        seconds, waited = time.monotonic() - began, ahead.waited - waited
        self._seconds += seconds
        self._waited += waited
        self._record(step, outcome, seconds, waited)
        self._warn_of_waiting(step)

    def _warn_of_waiting(self, step: int) -> None:
        """Say once that the data cannot keep up."""
        share = self._waited / self._seconds
        if self._warned or self._seconds < _JUDGED_SECONDS or share <= _MOST_WAITING:
            return
        self._warned = True
        if self.engine.rank == 0:
            sys.stderr.write(
                f"step {step}: {share:.0%} of the time was spent waiting for batches; put the shards on a faster disk, "
                "or leave the processes fewer threads (OMP_NUM_THREADS)\n"
            )

    def batches(self, step: int) -> list[Batch]:
        """This process's micro-batches of a step."""
        begin = (step - 1) * self.plan.batch_sequences
        return [
            self._batch(self.order.read(begin + mine.start, len(mine)), begin + mine.start)
            for mine in self._shares(self.plan.batch_sequences)
        ]

    def _step(self, step: int, batches: Sequence[Batch]) -> StepOutcome:
        plan = self.plan
        rate = plan.learning_rate((step - 0.5) * plan.batch_tokens)
        spikes = Spikes(plan.skip_spikes, self.memory)
        outcome = self.engine.step(batches, self.objective, rate, spikes.largest())
        loss, wrong = outcome.losses["loss"], self._not_finite(outcome)
        if wrong is not None and not spikes.forgives:
            raise _NotFinite(step, wrong)
        if math.isfinite(loss):
            self._loss = loss
        spikes.saw(loss, outcome.grad_norm, outcome.left_out)
        if outcome.left_out and self.engine.rank == 0:
            said = f"loss {loss:.3f}, gradient norm {outcome.grad_norm:.3g}; {self._batch_of(step)}"
            sys.stderr.write(f"step {step} was left out: {said}\n")
        return outcome

    def _not_finite(self, outcome: StepOutcome) -> str | None:
        """What of a step is not finite, and the remedy; None if nothing is, or if only the loss scale was too large."""
        for name, loss in outcome.losses.items():
            if not math.isfinite(loss):
                return f"the {name} is {loss}; lower optimizer.learning_rate or lengthen its warmup"
        if math.isfinite(outcome.grad_norm):
            return None
        scaler = self.engine.scaler
        if outcome.skipped and scaler is not None:
            if scaler.cur_scale >= LEAST_LOSS_SCALE:
                return None
            return "a gradient overflows float16 at every loss scale; use precision bf16 or fp32"
        return "a gradient is not finite; lower optimizer.learning_rate"

    def _batch_of(self, step: int) -> str:
        """Which documents a step was made of."""
        rows = self.plan.batch_sequences
        found = self.order.documents((step - 1) * rows, rows)
        more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
        return f"its batch holds the documents {', '.join(found[:_NAMED])}{more}"

    def _shares(self, sequences: int) -> list[range]:
        """The micro-batches of this process, by the numbers of their sequences."""
        return share(sequences, self.engine.grid.data.rank, self.engine.grid.data.size, self.plan.micro_batch_sequences)

    def _batch(self, sequences: Sequences, first_row: int) -> Batch:
        """Consecutive sequences of the order, as the objective learns from them."""
        return self.objective.prepare(collate(sequences, self.plan.context, first_row))

    def _record(self, step: int, outcome: StepOutcome, seconds: float, waited: float) -> None:
        plan = self.plan
        if self._recorder is None or (step % plan.record_every and step != plan.steps):
            return
        speed = plan.batch_tokens / seconds
        figures = {name: value for name, value in outcome.losses.items() if math.isfinite(value)}
        if math.isfinite(outcome.grad_norm):
            figures["grad_norm"] = outcome.grad_norm
        left_out = Spikes(plan.skip_spikes, self.memory).left_out
        skipped = {} if left_out is None else {"steps_left_out": left_out}
        self._recorder.record(
            step,
            tokens=step * plan.batch_tokens,
            **figures,
            **skipped,
            learning_rate=plan.learning_rate((step - 0.5) * plan.batch_tokens),
            tokens_per_second=speed,
            flops_utilization=speed * plan.flops_per_token / plan.peak_flops,
            memory_bytes=memory_bytes(self.engine.device),
            data_wait=waited / seconds,
        )

    def _evaluates_after(self, step: int) -> bool:
        every = self.plan.evaluate_every
        return bool(self._validation) and every > 0 and step > 0 and (step % every == 0 or step == self.plan.steps)

    def _evaluate(self, step: int) -> None:
        """Measure the loss on what is held out of every source, and of all together."""
        before = dict(self.memory)
        sums: dict[str, dict[str, tuple[float, float]]] = {}
        first = 0
        with averaged(self.engine):
            for name, rows in self._validation.items():
                batches = [self._batch(rows.take(mine), first + mine.start) for mine in self._shares(len(rows))]
                sums[name] = self.engine.evaluate(batches, self.objective)
                first += len(rows)
        losses = _means(list(sums.values()))
        self._validation_loss = losses["loss"]
        if self._evaluations.saw(step, losses["loss"]) and self.plan.keeps_best:
            self._saver.keep_best(step, self._loss, before)
        if len(sums) > 1:
            losses |= {f"{term}/{name}": loss for name, part in sums.items() for term, loss in _means([part]).items()}
        if self._recorder is not None:
            self._recorder.record(
                step,
                tokens=step * self.plan.batch_tokens,
                **{f"validation_{name}": value for name, value in losses.items()},
            )


def _means(parts: Sequence[dict[str, tuple[float, float]]]) -> dict[str, float]:
    """Per term, the loss per prediction over all parts, of sums and counts."""
    return {
        term: sum(part[term][0] for part in parts) / max(sum(part[term][1] for part in parts), 1.0) for term in parts[0]
    }


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
