"""Where weights lie in what this process optimises: under ZeRO, flat tensors that hold pieces of weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from model.learning.whole_weights import Held
from model.parallel.tensor import address_of, share_of


@dataclass(frozen=True)
class Fragment:
    """Where a part of a weight lies in the flat float32 tensor that this process optimises."""

    flat: Tensor
    flat_start: int
    weight_start: int
    length: int


class Layout:
    """The trainable weights of a network as DeepSpeed's optimiser of a ZeRO stage has cut them."""

    def __init__(self, zero: Any, trainable: Mapping[str, Tensor], stage: int, rank: int) -> None:
        """``zero``: DeepSpeed's optimiser; ``trainable``: weights by name, as the network has them."""
        self._zero, self._stage, self._rank = zero, stage, rank
        self.trainable = dict(trainable)
        self.cut = stage > 0
        """Whether every process optimises pieces only."""
        self._group_numbers = {
            id(weight): number
            for number, group in enumerate(getattr(zero, "bit16_groups", []))
            for weight in group
        }  # fmt: skip

    def flat_tensors(self) -> list[Tensor]:
        """The float32 tensors that this process's optimiser updates."""
        if self._stage == 0:
            return list(self.trainable.values())
        zero = self._zero
        return list(zero.fp32_partitioned_groups_flat if self._stage == 3 else zero.single_partition_of_fp32_groups)

    def flat_of(self, weight: Any) -> Tensor:
        """This process's flat tensor for the group of weights that this one belongs to."""
        zero = self._zero
        if self._stage == 0:
            return weight  # type: ignore[no-any-return]
        if self._stage == 3:
            return zero.fp32_partitioned_groups_flat[zero.grad_position[zero.get_param_id(weight)][0]]  # type: ignore[no-any-return]
        return zero.single_partition_of_fp32_groups[self._group_numbers[id(weight)]]  # type: ignore[no-any-return]

    def fragments(self, weight: Any) -> Iterator[Fragment]:
        """The parts of a weight that this process optimises."""
        if self._stage == 0:
            yield Fragment(weight, 0, 0, weight.numel())
        elif self._stage == 3:
            zero = self._zero
            group, start, length = zero.grad_position[zero.get_param_id(weight)]
            first = self._rank * length
            if first < weight.ds_numel:
                flat = zero.fp32_partitioned_groups_flat[group]
                yield Fragment(flat, start, first, min(length, weight.ds_numel - first))
        elif weight._hp_mapping is not None:
            mapping = weight._hp_mapping
            flat = self.flat_of(weight)
            inside, outside = mapping.lp_fragment_address, mapping.hp_fragment_address
            yield Fragment(flat, outside.start, inside.start, inside.numel)

    def moved(self) -> None:
        """To be called when the flat tensors have been given another memory, which DeepSpeed looks into as well."""
        if self._stage in (1, 2):
            for weight in self.trainable.values():
                for part in self.fragments(weight):
                    inside = part.flat.detach().narrow(0, part.flat_start, part.length)
                    weight._hp_mapping.hp_fragment = inside  # type: ignore[attr-defined]

    def hand_out(self) -> None:
        """Put what the processes optimise back into the network's weights. All processes must call it."""
        if self._stage in (1, 2):
            self._zero.update_lp_params()
        elif self._stage == 3:
            for number in range(len(self._zero.fp32_partitioned_groups_flat)):
                self._zero._reassign_or_swap_out_partitioned_parameters(number)
            if lasting := self._zero.persistent_parameters:  # small ones, which every process keeps whole
                lasting[0].partition(lasting)
                lasting[0].all_gather(lasting)

    def held_in(self, flat: Tensor, first: bool) -> list[Held]:
        """What a flat tensor holds of each weight of its group, in an order that all processes share.

        ``first``: whether this is the first of the processes that share a network, whose whole weights count.
        """
        found = []
        for weight in self.trainable.values():
            if self.flat_of(weight) is flat:
                shape, (before, columns) = whole_shape_of(weight), address_of(weight)
                part = next((part for part in self.fragments(weight) if part.length), None)
                counts = first or share_of(weight) is not None
                if part is None:
                    found.append(Held(shape))
                else:
                    start = before + part.weight_start
                    found.append(Held(shape, part.flat_start, start, part.length, columns, counts))
        return found


def shape_of(weight: Tensor) -> tuple[int, ...]:
    """Of this process's weight, also where ZeRO 3 has taken it away."""
    return tuple(getattr(weight, "ds_shape", weight.shape))


def whole_shape_of(weight: Tensor) -> tuple[int, ...]:
    """Of the weight that processes share."""
    share = share_of(weight)
    return shape_of(weight) if share is None else share.shape
