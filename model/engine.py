"""The parallel engine: DeepSpeed's ZeRO behind a few verbs (step, evaluate, weights).

The gradient of a step is that of the sum of all losses divided by the *global* count, whatever the
number of processes and micro-batches: the count is agreed on before the first backward, and
DeepSpeed's own division by the number of processes is undone.

The network is kept in float32; lower precisions are those of ``torch.autocast``, so every ZeRO
stage has float32 weights, moments and gradient sums.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import deepspeed
import torch
import torch.distributed as dist
from deepspeed.runtime.fp16.loss_scaler import DynamicLossScaler
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from model.checkpoints.layout import Layout, whole_shape_of
from model.config import Precision
from model.data.batches import Batch
from model.formats.foreign import Foreign
from model.learning import on_disk
from model.learning.objectives import Objective
from model.learning.optimizer import Optimizer
from model.learning.optimizers import set_learning_rate
from model.learning.spikes import UNBOUNDED, Largest
from model.learning.whole_weights import WholeWeights
from model.network import float8
from model.network.compiled import Compiled, explained
from model.network.transformer import Transformer
from model.parallel.grid import ForDeepSpeed, Grid
from model.parallel.pipeline import Elsewhere, Pipeline, Stage, features, module_of, of_all_stages, told_by_stages
from model.parallel.sequence import Sharing
from model.parallel.tensor import TensorParallel, share_of
from model.parallel.zero import deepspeed_settings

_AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp8": torch.bfloat16}

LEAST_LOSS_SCALE = 1.0
"""Of float16: gradients that overflow even so are not those of a loss that was scaled too far."""


@dataclass(frozen=True)
class StepOutcome:
    """What a step says about itself; the same on every process."""

    losses: dict[str, float]
    """Per term, nats (or its own unit) per prediction, over the global batch."""
    grad_norm: float
    """Of the whole gradient, before clipping; infinite where a gradient is not finite."""
    skipped: bool
    """Whether DeepSpeed left the update out because a gradient was not finite (float16: its loss scale falls)."""
    left_out: bool = False
    """Whether it was left out because its loss or gradient was larger than it may be, or not finite."""


class Engine:
    """A network and its optimiser, spread over the processes of the current process group."""

    def __init__(
        self,
        network: Transformer | Foreign,
        optimizer: Optimizer,
        zero_stage: int,
        precision: Precision,
        clip_norm: float,
        *,
        offload: Literal["none", "cpu", "nvme"] = "none",
        offload_folder: Path | None = None,
        recompute: bool = False,
        compiled: bool = False,
        grid: Grid | None = None,
    ) -> None:
        """What cannot be combined is told by ``model.planning.fit.check``, and not looked at again here.

        ``offload_folder``: where ``offload: nvme`` has its files.
        ``compiled``: whether blocks are to be compiled; see ``compile``.
        ``grid``: how the processes share the work; None: each has sequences of its own, and nothing else. Where it
        has stages, ``network`` and ``optimizer`` are of this process's (see ``model.parallel.pipeline.keep_stage``).
        """
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"{type(optimizer).__name__} is not known to compute the same on pieces of weights")
        self.optimizer = optimizer
        self._stage = zero_stage
        self._clip_norm = clip_norm
        self._autocast = _AUTOCAST.get(precision)
        self.processes, self.rank = dist.get_world_size(), dist.get_rank()
        self.grid = grid or Grid()
        self._sharing = Sharing(self.grid.sequence) if self.grid.sequence.size > 1 else None
        self._tensor = TensorParallel(self.grid.tensor)
        stage, self._compiled = None, None
        if isinstance(network, Transformer):  # others are refused before (``model.beginning``)
            if self.grid.tensor.size > 1:
                self._tensor.apply(network)
            if self._sharing is not None:
                self._sharing.apply(network)
            if precision == "fp8":
                float8.apply(network)
            if compiled:
                self._compiled = Compiled(network)
            if recompute:
                recompute_activations(network)
            if self.grid.pipeline.size > 1:
                stage = Stage(network, self.grid.pipeline)
        if self._autocast is not None:
            # Inside the network: DeepSpeed switches off what it finds around itself, if it is for GPUs.
            network.forward = partial(self._lowered, network.forward)  # type: ignore[method-assign]
        self._trainable = {name: weight for name, weight in network.named_parameters() if weight.requires_grad}
        largest = sum(weight.numel() for weight in self._trainable.values())
        self._deepspeed, *_ = deepspeed.initialize(
            model=network if stage is None else module_of(stage, self.grid),
            optimizer=optimizer,
            # A CPU may be asked for where there are GPUs.
            config=deepspeed_settings(zero_stage, offload, clip_norm, largest, on_gpus=dist.get_backend() == "nccl"),
            mpu=ForDeepSpeed(self.grid) if stage is None else None,  # a pipeline brings its own
        )
        self.network: nn.Module = network
        self.layout = Layout(self._deepspeed.optimizer, self._trainable, zero_stage, self.grid.replicas.rank)
        self.device = torch.device(self._deepspeed.device)
        self.disk = on_disk.Disk(offload_folder) if offload == "nvme" and offload_folder is not None else None
        """Where what the optimiser updates lies; None: in memory."""
        if self.disk is not None:
            on_disk.move(self.layout, optimizer, self.disk)
        self._pipeline = None if stage is None else Pipeline(self._deepspeed, stage, self.grid, self.device)
        if isinstance(optimizer, WholeWeights) and (zero_stage > 0 or self.grid.tensor.size > 1):
            first = self.grid.tensor.rank == 0
            optimizer.layout = {id(flat): self.layout.held_in(flat, first) for flat in self.layout.flat_tensors()}
            optimizer.holders = self.grid.stage if zero_stage > 0 else self.grid.tensor
        if precision == "fp16":
            self._deepspeed.optimizer.loss_scaler = DynamicLossScaler(
                init_scale=2.0**16, scale_window=1000, min_scale=LEAST_LOSS_SCALE / 2, delayed_shift=1,
                consecutive_hysteresis=False, raise_error_at_min_scale=False, dtype=torch.half,
            )  # fmt: skip
            self._deepspeed.optimizer.dynamic_loss_scale = True

    # ---- the work ----

    def step(
        self, micro_batches: Sequence[Batch], objective: Objective, learning_rate: float, largest: Largest = UNBOUNDED
    ) -> StepOutcome:
        """One update from this process's micro-batches (see ``Grid.data``); every process must give as many.

        It is not made where its loss or the norm of its gradient is beyond ``largest``, or not finite.
        """
        losses = self.backward(micro_batches, objective)
        set_learning_rate(self.optimizer, learning_rate)
        norm = None
        if self._stage == 0:
            norm = self._norm()
            torch.nn.utils.clip_grads_with_norm_(self._trainable.values(), self._clip_norm or math.inf, norm)
        # ZeRO knows the norm only within its step, before it calls the optimiser.
        norm_of = (lambda: self._deepspeed.optimizer._global_grad_norm) if norm is None else (lambda: norm)
        beyond = not all(math.isfinite(loss) for loss in losses.values()) or losses["loss"] > largest.loss
        # So written, what is not a number is beyond every limit.
        self.optimizer.left_out = lambda: beyond or not float(norm_of()) <= largest.grad_norm
        if self._pipeline is None:
            self._deepspeed.step()
        else:
            self._pipeline.step()
        skipped = bool(getattr(self._deepspeed.optimizer, "overflow", False))
        norm = self._deepspeed.get_global_grad_norm() if norm is None else norm
        found = math.inf if skipped or norm is None or not math.isfinite(norm) else float(norm)
        overflowed = skipped and self.scaler is not None
        return StepOutcome(losses, found, skipped, not overflowed and (beyond or not found <= largest.grad_norm))

    def compile(self, micro_batches: Sequence[Batch], objective: Objective) -> None:
        """Compile the blocks for batches of these shapes, if they are to be; nothing is learnt from them.

        All processes must call it. One of a host goes ahead, and the others find what it has compiled. Raises
        UserError where the network cannot be compiled.
        """
        if self._compiled is None:
            return
        self._deepspeed.train()
        by_shape = {batch.tokens_BT.shape: batch for batch in self._cut(micro_batches)}
        self._compiled.expect((shape[0], shape[1]) for shape in by_shape)
        # Those that share sequences wait for each other in every layer.
        ahead = self._sharing is not None or os.environ.get("LOCAL_RANK", "0") == "0"
        for turn in (True, False):
            for batch in by_shape.values() if ahead is turn else ():
                with explained():
                    self._tried(batch.to(self.device), objective)
            dist.barrier()

    def _tried(self, batch: Batch, objective: Objective) -> None:
        """Forward and backward, without DeepSpeed, which would add up the gradients."""
        terms = objective.losses(self.network, batch)
        total = torch.stack([term.summed.float() for term in terms]).sum()
        torch.autograd.grad(total, list(self._trainable.values()), allow_unused=True)

    def backward(self, micro_batches: Sequence[Batch], objective: Objective) -> dict[str, float]:
        """Accumulate the gradient of a step and return its losses; ``step`` follows this with the update."""
        self._deepspeed.train()
        batches = self._cut(micro_batches)
        counts = self._counted(batches, objective)
        scales = [self.grid.replicas.size / max(count, 1.0) for count in counts.values()]
        sums: list[list[float]] = []
        if self._pipeline is not None:
            self._pipeline.backward(batches, partial(self._worked, objective, scales, sums))
        for number, batch in enumerate(batches if self._pipeline is None else []):
            self._deepspeed.set_gradient_accumulation_boundary(number == len(batches) - 1)
            self._deepspeed.backward(self._worked(objective, scales, sums, batch), scale_wrt_gas=False)
        summed = self._summed(sums, len(counts))
        return {name: total / max(counts[name], 1.0) for name, total in zip(counts, summed, strict=True)}

    @torch.no_grad()
    def evaluate(self, micro_batches: Sequence[Batch], objective: Objective) -> dict[str, tuple[float, float]]:
        """Per term, the summed loss and the predictions of all processes' batches; each must give as many."""
        self._deepspeed.eval()
        batches = self._cut(micro_batches)
        counts = self._counted(batches, objective)
        sums: list[list[float]] = []
        work = partial(self._worked, objective, [0.0] * len(counts), sums)
        if self._pipeline is not None:
            self._pipeline.evaluate(batches, work)
        for batch in batches if self._pipeline is None else []:
            work(batch)
        return {n: (s, counts[n]) for n, s in zip(counts, self._summed(sums, len(counts)), strict=True)}

    def _worked(self, objective: Objective, scales: Sequence[float], sums: list[list[float]], batch: Batch) -> Tensor:
        """What this process makes of a batch: what is to be made small, a scalar, or what the next stage goes on with.

        The first is the sum of the terms, each times its weight and scale; the terms by themselves are added to
        ``sums``.
        """
        batch = batch.to(self.device)
        if self._pipeline is not None and not self._pipeline.stage.last:
            return self._lowered(features, self._pipeline.stage.network, batch)
        terms = objective.losses(self._deepspeed if self._pipeline is None else self.network, batch)
        total = torch.zeros((), device=self.device)
        for term, scale in zip(terms, scales, strict=True):
            total = total + term.summed * (term.weight * scale)
        sums.append([float(term.recorded.detach()) for term in terms])
        return total

    def _counted(self, batches: Sequence[Batch], objective: Objective) -> dict[str, float]:
        """Per term, the predictions of all processes' batches."""
        rows = [objective.counts(batch) for batch in batches]
        judges = self._pipeline is None or self._pipeline.stage.last
        mine = [[float(count) for count in row.values()] for row in rows] if judges else []
        return dict(zip(rows[0], self._summed(mine, len(rows[0])), strict=True))

    @property
    def scaler(self) -> DynamicLossScaler | None:
        """What scales the loss of float16; None in other precisions."""
        found = getattr(self._deepspeed.optimizer, "loss_scaler", None)
        return found if isinstance(found, DynamicLossScaler) else None

    def agreed(self, flags: Sequence[bool]) -> list[bool]:
        """For each flag, whether any process says so."""
        told = torch.tensor([int(flag) for flag in flags], device=self.device)
        dist.all_reduce(told, dist.ReduceOp.MAX)
        return [bool(flag) for flag in told.tolist()]

    def _cut(self, micro_batches: Sequence[Batch]) -> Sequence[Batch]:
        """The part of each sequence that is this process's."""
        if self._sharing is None:
            return micro_batches
        return [self._sharing.cut(batch) for batch in micro_batches]

    def _norm(self) -> Tensor:
        """Of the gradient, where ZeRO has not cut it; what all that share a network have counts once."""
        first = self.grid.tensor.rank == 0
        counted = [weight.grad for weight in self._trainable.values() if first or share_of(weight) is not None]
        own = torch.nn.utils.get_total_norm([gradient for gradient in counted if gradient is not None])
        return self.grid.parts.add(own.square()).sqrt()

    def _lowered(self, work: Callable[..., Tensor], *given: Any, **named: Any) -> Tensor:
        """What ``work`` makes, in the precision that is asked for."""
        if self._autocast is None:
            return work(*given, **named)
        with torch.autocast(self.device.type, dtype=self._autocast):
            return work(*given, **named)

    def _summed(self, rows: Sequence[Sequence[float]], columns: int) -> list[float]:
        """Column sums over all rows of all processes that judge different positions, in float64.

        Those that share every matrix judge the same positions, and could differ in the last bits: what is decided by
        a loss (to stop, to leave a step out) is to be the same on all, so the first of them tells.
        """
        total = torch.tensor(rows, dtype=torch.float64, device=self.device).view(-1, columns).sum(0)
        total = self.grid.tensor.of_first(self.grid.replicas.add(total))
        return [float(value) for value in self.grid.pipeline.add(total)]

    # ---- what is kept ----

    @torch.no_grad()
    def weights(self, trainable_only: bool = False) -> dict[str, Tensor]:
        """All weights (or the trainable ones), whole, in float32 on the CPU. All processes must call it."""
        found = {}
        for name, weight in self.network.named_parameters():
            if weight.requires_grad or not trainable_only:
                gathered = deepspeed.zero.GatheredParameters([weight]) if self._stage == 3 else nullcontext()
                with gathered:
                    whole = self._tensor.whole(weight, weight.detach())
                    found[name] = whole.to("cpu", torch.float32, copy=True)
        return of_all_stages(found, self.grid.pipeline, self.device)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of all trainable weights, whole. All processes must call it."""
        own = {name: whole_shape_of(weight) for name, weight in self._trainable.items()}
        return {name: shape for part in told_by_stages(own, self.grid.pipeline) for name, shape in part.items()}

    def gradients(self) -> dict[str, Tensor]:
        """The whole gradient, between ``backward`` and ``step``. All processes must call it."""
        from deepspeed.utils import safe_get_full_grad

        whole = self._tensor.whole
        gradients = {name: (weight, safe_get_full_grad(weight)) for name, weight in self._trainable.items()}
        found = {name: whole(*pair).detach().clone() for name, pair in gradients.items()}
        return of_all_stages(found, self.grid.pipeline, self.device)


def recompute_activations(network: Transformer) -> None:
    """Keep what goes into each layer, and compute what happens inside it again in the backward pass.

    T. Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost".
    """
    for layer in network.model.layers:
        if not isinstance(layer, Elsewhere):
            layer.forward = partial(checkpoint, layer.forward, use_reentrant=False)
