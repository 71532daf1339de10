"""Pipeline parallelism: consecutive blocks of the network on processes of their own, which micro-batches flow through.

DeepSpeed's PipelineEngine does the sending, in the order of its ``TrainSchedule`` (one forward, one
backward: D. Narayanan et al. 2021, "Memory-Efficient Pipeline-Parallel DNN Training", section 3.3).
A stage is the network itself with the other stages' modules taken out, so every weight has its own
name, and objectives judge the last stage as they judge a whole network. All stages are given all
batches: only features and their gradients are sent.

DeepSpeed keeps a tied weight twice, each copy with moments of its own that nothing holds together.
Here it belongs to the first stage; the last has a copy for one step (``_Tie``).

    B rows   T positions   D width   V vocabulary
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from deepspeed.runtime.pipe import schedule
from deepspeed.runtime.pipe.module import PipelineModule
from deepspeed.runtime.pipe.topology import PipeDataParallelTopology
from torch import Tensor, nn

from model.data.batches import Batch
from model.network.transformer import Transformer
from model.parallel.grid import Grid, Group
from model.parallel.stages import blocks_of_stages

T = TypeVar("T")
Work = Callable[[Batch], Tensor]
"""What a stage does with a batch: the features that the next is sent, or the loss to be made small."""


class Elsewhere(nn.Module):
    """In the place of what another stage has."""

    def forward(self, x_BTD: Tensor, *rest: Any) -> Tensor:
        return x_BTD


class _Received(nn.Module):
    """In the place of the embedding: what the stage before has sent."""

    x_BTD: Tensor

    def forward(self, tokens_BT: Tensor) -> Tensor:
        return self.x_BTD


def keep_stage(network: Transformer, pipeline: Group) -> None:
    """Take out of the network what belongs to other stages than this process's."""
    decoder, shape = network.model, network.shape
    blocks = blocks_of_stages(shape, network.vocabulary, pipeline.size)[pipeline.rank]
    for number in range(shape.layers):
        if number not in blocks:
            decoder.layers[number] = Elsewhere()
    if pipeline.rank > 0:
        decoder.add_module("embed_tokens", _Received())
        decoder.embed_positions = None
        dropout = shape.dropout.model_copy(update={"embeddings": 0.0})  # it was done before the first block
        decoder.shape = shape.model_copy(update={"dropout": dropout})
    if pipeline.rank < pipeline.size - 1:
        decoder.add_module("norm", Elsewhere())
        for name in [name for name, _ in network.named_children() if name != "model"]:
            network.add_module(name, Elsewhere())
    elif shape.tied_embeddings:
        learns = network.lm_head.weight.requires_grad
        del network.lm_head.weight
        copy = torch.empty(network.vocabulary, shape.width, requires_grad=learns)
        network.lm_head.weight = copy  # type: ignore[assignment]  # no parameter: it is not optimised here


class Stage(nn.Module):
    """What a process does with a micro-batch, in the form that DeepSpeed's PipelineModule takes for a layer."""

    def __init__(self, network: Transformer, pipeline: Group) -> None:
        """``network``: after ``keep_stage``."""
        super().__init__()
        self.network = network
        self.first, self.last = pipeline.rank == 0, pipeline.rank == pipeline.size - 1
        self._batches: Iterator[Batch] = iter(())
        self._work: Work | None = None

    def begin(self, batches: Sequence[Batch], work: Work) -> None:
        """Be told what comes next: a forward pass for each of the batches, in their order."""
        self._batches, self._work = iter(batches), work

    def forward(self, x_BTD: Tensor) -> Tensor:
        """From what the stage before made (the first: nothing that counts) to what the next is sent, or the loss."""
        batch = next(self._batches)
        assert self._work is not None
        if not self.first:
            self.network.model.embed_tokens.x_BTD = x_BTD
        return self._work(batch)


def features(network: Transformer, batch: Batch) -> Tensor:
    """What a stage before the last makes of a batch, (B, T, D)."""
    made: Tensor = network.model(batch.tokens_BT, batch.positions_BT, batch.documents_BT, None, batch.rows_B)
    return made


def told_by_stages(mine: T, pipeline: Group) -> list[T]:
    """What the process of each stage says, in their order."""
    if pipeline.size == 1:
        return [mine]
    told: list[Any] = [None] * pipeline.size
    dist.all_gather_object(told, mine, group=pipeline.process_group)
    return told


def of_all_stages(mine: dict[str, Tensor], pipeline: Group, device: torch.device) -> dict[str, Tensor]:
    """The tensors of all stages, float32 on the CPU, from those of this one."""
    if pipeline.size == 1:
        return mine
    found = {}
    shapes = told_by_stages({name: tuple(tensor.shape) for name, tensor in mine.items()}, pipeline)
    for rank, of_stage in zip(pipeline.ranks, shapes, strict=True):
        for name, shape in of_stage.items():
            sent = mine[name] if rank == dist.get_rank() else torch.empty(shape)
            moved = sent.to(device, torch.float32)
            dist.broadcast(moved, rank, group=pipeline.process_group)
            found[name] = moved.cpu()
    return found


def module_of(stage: Stage, grid: Grid) -> PipelineModule:
    """The stage as ``deepspeed.initialize`` takes it to make a PipelineEngine. All processes must call it."""
    layers = [stage if number == grid.pipeline.rank else Elsewhere() for number in range(grid.pipeline.size)]
    topology = PipeDataParallelTopology(num_pp=grid.pipeline.size, num_dp=grid.data.size)
    made = PipelineModule(layers, topology=topology, partition_method="uniform", dynamic_shape=True)
    assert tuple(made.mpu().pp_group) == grid.pipeline.ranks, "DeepSpeed counts processes as the grid does"
    return made


class Pipeline:
    """A PipelineEngine that accumulates gradients apart from the update, and whose loss is already scaled."""

    def __init__(self, engine: Any, stage: Stage, grid: Grid, device: torch.device) -> None:
        self._engine, self.stage, self._place = engine, stage, grid.pipeline
        tied = stage.network.shape.tied_embeddings and (stage.first or stage.last)
        self._tie = _Tie(stage, grid.pipeline, device) if tied else None
        engine._compute_loss = True  # by the stage itself; DeepSpeed sets it in train_batch alone
        if hasattr(engine.optimizer, "scaled_global_norm"):
            engine.optimizer.scaled_global_norm = partial(_norm_of_all_parts, engine.optimizer, grid.parts)

    def backward(self, batches: Sequence[Batch], work: Work) -> None:
        """Accumulate the gradients of the batches, averaged over the data axis."""
        self._run(_Accumulation(len(batches), self._place.size, self._place.rank), batches, work)
        if self._tie is not None:
            self._tie.bring_gradient()
        self._engine._exec_reduce_grads()

    def evaluate(self, batches: Sequence[Batch], work: Work) -> None:
        """Pass the batches through."""
        self._run(schedule.InferenceSchedule(len(batches), self._place.size, self._place.rank), batches, work)

    def step(self) -> None:
        """Make the update."""
        self._engine._exec_optimizer_step()

    def _run(self, order: schedule.PipeSchedule, batches: Sequence[Batch], work: Work) -> None:
        if self._tie is not None:
            self._tie.bring_weight()
        self.stage.begin(batches, work)
        self._engine.total_loss = None
        # The first and the last stage load something for each micro-batch; here it is in the stage already.
        nothing = torch.zeros(())
        self._engine.set_dataiterator(iter([(nothing, nothing)] * len(batches)))
        self._engine._exec_schedule(order)


def _norm_of_all_parts(zero: Any, parts: Group, norm_type: int = 2) -> Tensor:
    """The norm of the whole gradient for ZeRO's step; -1 where it is not finite.

    DeepSpeed's own waits for all parts once for each group of weights, and not all stages have the
    same groups.
    """
    zero.model_parallel_group, kept = None, zero.model_parallel_group
    try:
        own: Tensor = type(zero).scaled_global_norm(zero, norm_type)
    finally:
        zero.model_parallel_group = kept
    squares = torch.stack([own.square(), (own < 0).to(own.dtype)])
    squared, failures = parts.add(squares)
    return torch.where(failures > 0, -1.0, squared.sqrt())


class _Accumulation(schedule.TrainSchedule):  # type: ignore[misc]
    """One forward, one backward, without what follows the last of them."""

    def steps(self) -> Iterator[list[schedule.PipeInstruction]]:
        after = (schedule.ReduceTiedGrads, schedule.ReduceGrads, schedule.OptimizerStep)
        for instructions in super().steps():
            yield [instruction for instruction in instructions if not isinstance(instruction, after)]


class _Tie:
    """The output layer of the last stage, whose weight (V, D) is the embedding of the first."""

    def __init__(self, stage: Stage, pipeline: Group, device: torch.device) -> None:
        self._first, self._other = stage.first, pipeline.ranks[-1 if stage.first else 0]
        owner: Any = stage.network.model.embed_tokens if stage.first else stage.network.lm_head
        if not stage.first:
            owner.weight = owner.weight.detach().to(device).requires_grad_(owner.weight.requires_grad)
        self._weight: Tensor = owner.weight

    @torch.no_grad()
    def bring_weight(self) -> None:
        """From the first stage to the last."""
        if self._first:
            dist.send(self._weight.detach().contiguous(), self._other)
        else:
            dist.recv(self._weight.detach(), self._other)

    @torch.no_grad()
    def bring_gradient(self) -> None:
        """From the last stage to the first, which adds it to that of the embedding."""
        if not self._weight.requires_grad:
            return
        assert self._weight.grad is not None
        if self._first:
            other = torch.empty_like(self._weight.grad)
            dist.recv(other, self._other)
            self._weight.grad.add_(other)
        else:
            dist.send(self._weight.grad, self._other)
            self._weight.grad = None
