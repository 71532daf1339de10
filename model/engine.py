"""The parallel engine: DeepSpeed's ZeRO behind five verbs (step, evaluate, weights, state, restore).

The gradient of a step is that of the sum of all losses divided by the *global* count, whatever the
number of processes and micro-batches: the count is agreed on before the first backward, and
DeepSpeed's own division by the number of processes is undone.

The network is kept in float32; lower precisions are those of ``torch.autocast``, so every ZeRO
stage has float32 weights, moments and gradient sums.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import deepspeed
import torch
import torch.distributed as dist
from deepspeed.runtime.fp16.loss_scaler import DynamicLossScaler
from torch import Tensor, nn

from model.batches import Batch
from model.config import Precision
from model.objectives import Objective
from model.optimizers import Matrix, Muon
from storage.errors import UserError

_AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}
_REDUCE_BUCKET = 200_000_000
"""Most gradients (elements) that are reduced at a time; DeepSpeed allocates this much."""


@dataclass(frozen=True)
class StepOutcome:
    """What a step says about itself; the same on every process."""

    losses: dict[str, float]
    """Per term, nats (or its own unit) per prediction, over the global batch."""
    grad_norm: float
    """Of the whole gradient, before clipping; infinite where a gradient is not finite."""
    skipped: bool
    """Whether the update was left out because float16 gradients overflowed (the loss scale is lowered then)."""


@dataclass(frozen=True)
class Fragment:
    """Where a part of a weight lies in the flat float32 tensor that this process optimises."""

    flat: Tensor
    flat_start: int
    weight_start: int
    length: int


class Engine:
    """A network and its optimiser, spread over the processes of the current process group."""

    def __init__(
        self,
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        zero_stage: int,
        precision: Precision,
        clip_norm: float,
    ) -> None:
        if precision == "fp16" and zero_stage == 0:
            raise UserError("precision fp16 scales its loss inside ZeRO: use zero_stage 1 or more, or bf16")
        self._optimizer = optimizer
        self._stage = zero_stage
        self._clip_norm = clip_norm
        self._autocast = _AUTOCAST.get(precision)
        self.scales_loss = precision == "fp16"
        self.processes, self.rank = dist.get_world_size(), dist.get_rank()
        self._trainable = {name: weight for name, weight in network.named_parameters() if weight.requires_grad}
        largest = sum(weight.numel() for weight in self._trainable.values())
        self._deepspeed, *_ = deepspeed.initialize(
            model=network, optimizer=optimizer, config=_configuration(zero_stage, clip_norm, largest)
        )
        self.network: nn.Module = self._deepspeed.module
        self._group_numbers = {
            id(weight): number
            for number, group in enumerate(getattr(self._deepspeed.optimizer, "bit16_groups", []))
            for weight in group
        }
        self.device = torch.device(self._deepspeed.device)
        if isinstance(optimizer, Muon) and zero_stage > 0:
            optimizer.spread = True
            optimizer.layout = {id(flat): self._matrices_in(flat) for flat in self._flat_tensors()}
        if precision == "fp16":
            self._deepspeed.optimizer.loss_scaler = DynamicLossScaler(
                init_scale=2.0**16, scale_window=1000, min_scale=1.0, delayed_shift=1, consecutive_hysteresis=False,
                raise_error_at_min_scale=True, dtype=torch.half,
            )  # fmt: skip
            self._deepspeed.optimizer.dynamic_loss_scale = True

    # ---- the work ----

    def step(self, micro_batches: Sequence[Batch], objective: Objective, learning_rate: float) -> StepOutcome:
        """One update from this process's micro-batches; every process must give as many."""
        losses = self.backward(micro_batches, objective)
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate
        if not all(math.isfinite(value) for value in losses.values()):
            return StepOutcome(losses, math.inf, skipped=True)
        norm = None
        if self._stage == 0:
            limit = self._clip_norm or math.inf
            norm = torch.nn.utils.clip_grad_norm_(self._trainable.values(), limit)
        self._deepspeed.step()
        skipped = bool(getattr(self._deepspeed.optimizer, "overflow", False))
        norm = self._deepspeed.get_global_grad_norm() if norm is None else norm
        return StepOutcome(losses, math.inf if skipped or norm is None else float(norm), skipped)

    def backward(self, micro_batches: Sequence[Batch], objective: Objective) -> dict[str, float]:
        """Accumulate the gradient of a step and return its losses; ``step`` follows this with the update."""
        self._deepspeed.train()
        counts = self._summed([[float(n) for n in objective.counts(batch).values()] for batch in micro_batches])
        sums: list[list[float]] = []
        for number, batch in enumerate(micro_batches):
            self._deepspeed.set_gradient_accumulation_boundary(number == len(micro_batches) - 1)
            with self._precision():
                terms = objective.losses(self._deepspeed, batch.to(self.device))
            total = torch.zeros((), device=self.device)
            for term, count in zip(terms, counts, strict=True):
                total = total + term.summed * (term.weight * self.processes / max(count, 1.0))
            self._deepspeed.backward(total, scale_wrt_gas=False)
            sums.append([float(term.summed.detach()) for term in terms])
        names = objective.counts(micro_batches[0])
        return {n: s / max(c, 1.0) for n, s, c in zip(names, self._summed(sums), counts, strict=True)}

    @torch.no_grad()
    def evaluate(self, micro_batches: Sequence[Batch], objective: Objective) -> dict[str, float]:
        """Loss per prediction over all processes' batches; every process must give as many."""
        self._deepspeed.eval()
        counts = self._summed([[float(n) for n in objective.counts(batch).values()] for batch in micro_batches])
        sums = []
        for batch in micro_batches:
            with self._precision():
                sums.append([float(term.summed) for term in objective.losses(self._deepspeed, batch.to(self.device))])
        names = objective.counts(micro_batches[0])
        return {n: s / max(c, 1.0) for n, s, c in zip(names, self._summed(sums), counts, strict=True)}

    def agreed(self, value: bool) -> bool:
        """What the first process says, on all of them."""
        flag = torch.tensor([int(value)], device=self.device)
        dist.broadcast(flag, 0)
        return bool(flag.item())

    def _precision(self) -> AbstractContextManager[Any]:
        if self._autocast is None:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=self._autocast)

    def _summed(self, rows: Sequence[Sequence[float]]) -> list[float]:
        """Column sums over all rows of all processes, in float64."""
        total = torch.tensor(rows, dtype=torch.float64, device=self.device).sum(0)
        dist.all_reduce(total)
        return [float(value) for value in total]

    # ---- what is kept ----

    @torch.no_grad()
    def weights(self, trainable_only: bool = False) -> dict[str, Tensor]:
        """All weights (or the trainable ones), whole, in float32 on the CPU. All processes must call it."""
        found = {}
        for name, weight in self.network.named_parameters():
            if weight.requires_grad or not trainable_only:
                gathered = deepspeed.zero.GatheredParameters([weight]) if self._stage == 3 else nullcontext()
                with gathered:
                    found[name] = weight.detach().to("cpu", torch.float32, copy=True)
        return found

    def gradients(self) -> dict[str, Tensor]:
        """The whole gradient, between ``backward`` and ``step``. All processes must call it."""
        from deepspeed.utils import safe_get_full_grad

        return {name: safe_get_full_grad(weight).detach().clone() for name, weight in self._trainable.items()}

    @torch.no_grad()
    def state(self) -> tuple[dict[str, Tensor], dict[str, float]]:
        """Trainable weights and the optimiser's moments, whole, and its numbers. All processes must call it."""
        tensors = {f"weights/{name}": weight for name, weight in self.weights(trainable_only=True).items()}
        numbers: dict[str, float] = {}
        for name, weight in self._trainable.items():
            for key in sorted(self._optimizer.state.get(self._flat_of_group(weight), {}).keys() - {"step"}):
                tensors[f"{key}/{name}"] = self._gathered(weight, key)
        for entry in self._optimizer.state.values():
            numbers["step"] = float(entry["step"])
        if isinstance(scaler := getattr(self._deepspeed.optimizer, "loss_scaler", None), DynamicLossScaler):
            numbers |= {key: float(getattr(scaler, key)) for key in _SCALER_STATE}
        return tensors, numbers

    @torch.no_grad()
    def restore(self, tensors: dict[str, Tensor], numbers: dict[str, float]) -> None:
        """Take over moments and numbers that ``state`` gave, on any number of processes and any ZeRO stage.

        The weights are to be loaded into the network before the engine is made (``load_weights``).
        """
        if "step" not in numbers:
            return
        for place, whole in tensors.items():
            key, _, name = place.partition("/")
            if key == "weights":
                continue
            weight = self._trainable[name]
            flat = self._flat_of_group(weight)
            state = self._optimizer.state[flat]
            state["step"] = torch.tensor(numbers["step"], dtype=torch.float32)
            state.setdefault(key, torch.zeros_like(flat))
            for part in self._fragments(weight):
                values = whole.flatten()[part.weight_start : part.weight_start + part.length]
                self._moment(part, key).copy_(values)
        if isinstance(scaler := getattr(self._deepspeed.optimizer, "loss_scaler", None), DynamicLossScaler):
            for key in _SCALER_STATE:
                setattr(scaler, key, type(getattr(scaler, key))(numbers[key]))

    def _gathered(self, weight: Tensor, key: str) -> Tensor:
        """One moment of one weight, put together from all processes' fragments."""
        shape = getattr(weight, "ds_shape", weight.shape)
        whole = torch.zeros(math.prod(shape), device=self.device)
        for part in self._fragments(weight):
            whole[part.weight_start : part.weight_start + part.length] = self._moment(part, key)
        if self._stage > 0:
            dist.all_reduce(whole)
        return whole.view(shape).cpu()

    def _moment(self, part: Fragment, key: str) -> Tensor:
        moment: Tensor = self._optimizer.state[part.flat][key].flatten()
        return moment[part.flat_start : part.flat_start + part.length]

    def _matrices_in(self, flat: Tensor) -> list[Matrix]:
        """What a flat tensor holds of each weight of its group, in an order that all processes share."""
        found = []
        for weight in self._trainable.values():
            if self._flat_of_group(weight) is flat:
                shape = tuple(getattr(weight, "ds_shape", weight.shape))
                part = next((part for part in self._fragments(weight) if part.length), None)
                found.append(Matrix(shape, part.flat_start, part.weight_start, part.length) if part else Matrix(shape))
        return found

    def _flat_of_group(self, weight: Any) -> Tensor:
        """This process's flat tensor for the group of weights that this one belongs to."""
        zero = self._deepspeed.optimizer
        if self._stage == 0:
            return weight  # type: ignore[no-any-return]
        if self._stage == 3:
            return zero.fp32_partitioned_groups_flat[zero.grad_position[zero.get_param_id(weight)][0]]  # type: ignore[no-any-return]
        return zero.single_partition_of_fp32_groups[self._group_numbers[id(weight)]]  # type: ignore[no-any-return]

    def _flat_tensors(self) -> list[Tensor]:
        """The float32 tensors that this process's optimiser updates."""
        if self._stage == 0:
            return list(self._trainable.values())
        zero = self._deepspeed.optimizer
        return list(zero.fp32_partitioned_groups_flat if self._stage == 3 else zero.single_partition_of_fp32_groups)

    def _fragments(self, weight: Any) -> Iterator[Fragment]:
        """The parts of a weight that this process optimises."""
        if self._stage == 0:
            yield Fragment(weight, 0, 0, weight.numel())
        elif self._stage == 3:
            zero = self._deepspeed.optimizer
            group, start, length = zero.grad_position[zero.get_param_id(weight)]
            first = self.rank * length
            if first < weight.ds_numel:
                flat = zero.fp32_partitioned_groups_flat[group]
                yield Fragment(flat, start, first, min(length, weight.ds_numel - first))
        elif weight._hp_mapping is not None:
            mapping = weight._hp_mapping
            flat = self._flat_of_group(weight)
            inside, outside = mapping.lp_fragment_address, mapping.hp_fragment_address
            yield Fragment(flat, outside.start, inside.start, inside.numel)


_SCALER_STATE = ("cur_scale", "cur_iter", "last_overflow_iter", "cur_hysteresis")


def load_weights(network: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Put the trainable weights that ``Engine.state`` gave into a network, before its engine is made."""
    own = dict(network.named_parameters())
    with torch.no_grad():
        for name, tensor in tensors.items():
            if name.startswith("weights/"):
                own[name.removeprefix("weights/")].copy_(tensor)


def _configuration(zero_stage: int, clip_norm: float, weights: int) -> dict[str, Any]:
    """DeepSpeed's settings. Accumulation and precision are this module's, so they are switched off there."""
    bucket = max(min(_REDUCE_BUCKET, weights), 1_000)
    return {
        "train_micro_batch_size_per_gpu": 1,  # only counted, never used
        "gradient_accumulation_steps": 1,
        "gradient_clipping": clip_norm if zero_stage > 0 else 0.0,
        "zero_allow_untested_optimizer": True,
        "zero_optimization": {
            "stage": zero_stage,
            "overlap_comm": torch.cuda.is_available() and zero_stage > 1,
            "reduce_bucket_size": bucket,
            "allgather_bucket_size": bucket,
            "stage3_prefetch_bucket_size": bucket,
        },
        "steps_per_print": None,
    }
