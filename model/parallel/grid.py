"""How the processes of a training run share the work: the one place that makes groups of them.

A process has a place along four axes: which layers it has (pipeline), which sequences (data), which
positions of them (sequence), which part of each matrix (tensor). Ranks count along the last axis
first, so that the processes that talk most are next to each other, on one host.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True)
class Group:
    """Processes that this one belongs to, along one axis or several."""

    ranks: tuple[int, ...]
    """Of all of them, rising."""
    rank: int
    """Of this process, within the group."""
    process_group: Any
    """Torch's; None where the group is this process alone."""

    @property
    def size(self) -> int:
        return len(self.ranks)

    def add(self, x: Tensor, how: Any = dist.ReduceOp.SUM) -> Tensor:
        """``x``, in place the sum (or what else is asked for) of those of all processes; all must call it."""
        if self.process_group is not None:
            dist.all_reduce(x, how, group=self.process_group)
        return x

    def of_first(self, x: Tensor) -> Tensor:
        """``x``, in place that of the first of them; all must call it."""
        if self.process_group is not None:
            dist.broadcast(x, self.ranks[0], group=self.process_group)
        return x


class Grid:
    """The place of this process among all; every process must make the same grid at the same time."""

    def __init__(self, *, pipeline: int = 1, sequence: int = 1, tensor: int = 1) -> None:
        """Sizes of the axes; what they leave of the processes is the data axis. Needs a joined process group."""
        world = dist.get_world_size()
        data, rest = divmod(world, pipeline * sequence * tensor)
        assert rest == 0, "told by model.planning.fit.check"
        self._ranks = np.arange(world).reshape(pipeline, data, sequence, tensor)
        self.pipeline = self._along("pipeline")
        self.data = self._along("data")
        """Those that get other sequences."""
        self.sequence = self._along("sequence")
        self.tensor = self._along("tensor")
        self.replicas = self.data if sequence == 1 else self._along("data", "sequence")
        """Those that have the same weights: gradients are averaged, and ZeRO cuts, over them."""
        self.parts = self.tensor if pipeline == 1 else self._along("pipeline", "tensor")
        """Those that have the network between them."""
        self.stage = self.replicas if tensor == 1 else self._along("data", "sequence", "tensor")
        """Those that have the same layers, or parts of them."""

    def _along(self, *names: str) -> Group:
        """The group of the processes whose places differ along these axes alone."""
        axes = [("pipeline", "data", "sequence", "tensor").index(name) for name in names]
        groups = np.moveaxis(self._ranks, axes, range(-len(axes), 0))
        size = int(np.prod(groups.shape[-len(axes) :]))
        rank = dist.get_rank()
        made = {tuple(ranks): _process_group(ranks) for ranks in groups.reshape(-1, size).tolist()}
        mine = next(ranks for ranks in made if rank in ranks)
        return Group(mine, mine.index(rank), made[mine])


def _process_group(ranks: list[int]) -> Any:
    """Of these ranks; all processes must call it."""
    if len(ranks) == dist.get_world_size():
        return dist.group.WORLD
    return dist.new_group(ranks) if len(ranks) > 1 else None


class ForDeepSpeed:
    """The grid as DeepSpeed asks for it (its ``mpu``, after Megatron-LM's): who has copies, and who other parts."""

    def __init__(self, grid: Grid) -> None:
        self._grid = grid
        # It wants a group of its own also where that is one process. All processes must make it.
        alone = [dist.new_group([rank]) for rank in range(dist.get_world_size())] if grid.replicas.size == 1 else []
        self._replicas = alone[dist.get_rank()] if alone else grid.replicas.process_group

    def get_data_parallel_group(self) -> Any:
        return self._replicas

    def get_data_parallel_group_ranks(self) -> tuple[int, ...]:
        return self._grid.replicas.ranks

    def get_data_parallel_rank(self) -> int:
        return self._grid.replicas.rank

    def get_data_parallel_world_size(self) -> int:
        return self._grid.replicas.size

    def get_model_parallel_group(self) -> Any:
        return self._grid.parts.process_group

    def get_model_parallel_rank(self) -> int:
        return self._grid.parts.rank

    def get_model_parallel_world_size(self) -> int:
        return self._grid.parts.size
