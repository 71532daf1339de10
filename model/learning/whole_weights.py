"""Optimisers whose update of a weight needs the whole weight: LAMB its norm, Muon its matrix.

Under ZeRO the parameters are flat tensors that hold pieces of weights. ``WholeWeights.layout`` says
which; an optimiser here sums what it needs over the pieces, wherever they lie. Moments stay spread
over the processes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from model.learning.optimizer import Optimizer
from model.parallel.grid import Group


@dataclass(frozen=True)
class Held:
    """A weight as one process sees it: its shape, and which part of it lies where in a flat tensor here."""

    shape: tuple[int, ...]
    flat_start: int = 0
    weight_start: int = 0
    length: int = 0
    """0: no part of it is optimised here."""
    columns: tuple[int, int, int] | None = None
    """Where ``weight_start`` is in columns of the weight alone: the first, how many, and of how many."""
    counts: bool = True
    """False where another process that sums are taken over has the same part."""

    @property
    def here(self) -> slice:
        """Where it lies in the flat tensor."""
        return slice(self.flat_start, self.flat_start + self.length)

    @property
    def inside(self) -> slice | Tensor:
        """Which part of the weight, flattened, it is."""
        if self.columns is None:
            return slice(self.weight_start, self.weight_start + self.length)
        first, count, of = self.columns
        places = torch.arange(self.weight_start, self.weight_start + self.length)
        return places // count * of + first + places % count


class WholeWeights(Optimizer):
    """Base of optimisers that look at whole weights; every process must step the same groups in the same order."""

    layout: dict[int, list[Held]] | None = None
    """By the id of a parameter, the weights that it holds pieces of, the same list on every process; None where
    parameters are the weights themselves."""
    holders: Group | None = None
    """The processes that hold the pieces."""

    def update(self) -> None:
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    state = self.state[weight]
                    if not state:
                        state["step"] = torch.tensor(0.0)
                        state["exp_avg"] = torch.zeros_like(weight)
                    state["step"] += 1
                    self._update(weight, weight.grad, group, state)

    def _update(self, weight: Tensor, gradient: Tensor, group: dict[str, Any], state: dict[str, Tensor]) -> None:
        raise NotImplementedError

    def _pieces(self, flat: Tensor) -> list[Held]:
        if self.layout is None:
            return [Held(tuple(flat.shape), 0, 0, flat.numel())]
        return self.layout[id(flat)]

    def _summed(self, values: Tensor) -> Tensor:
        """Over the processes that hold pieces, where weights are cut."""
        if self.layout is None or self.holders is None or self.holders.size == 1:
            return values
        moved = values.cuda() if dist.get_backend() == "nccl" else values
        return self.holders.add(moved).to(values.device)


class Lamb(WholeWeights):
    """AdamW whose step for each weight is as long as the weight, times the learning rate.

    You et al. 2020, algorithm 2, with phi the identity; groups with ``adapted`` False (gains,
    biases) keep AdamW's own step, as in the authors' code.
    """

    def __init__(self, groups: list[dict[str, Any]], lr: float, betas: tuple[float, float], eps: float) -> None:
        super().__init__(groups, {"lr": lr, "betas": betas, "eps": eps})

    def _update(self, weight: Tensor, gradient: Tensor, group: dict[str, Any], state: dict[str, Tensor]) -> None:
        direction = adam_direction(gradient, group, state).add_(weight, alpha=group["weight_decay"]).view(-1)
        flat = weight.view(-1)
        if not group["adapted"]:
            flat.add_(direction, alpha=-group["lr"])
            return
        pieces = self._pieces(weight)
        squares = [[_square(values[piece.here]) * piece.counts for values in (flat, direction)] for piece in pieces]
        norms = self._summed(torch.stack([torch.stack(pair) for pair in squares])).sqrt()
        for piece, (of_weight, of_direction) in zip(pieces, norms.tolist(), strict=True):
            ratio = of_weight / of_direction if of_weight > 0 and of_direction > 0 else 1.0
            flat[piece.here].add_(direction[piece.here], alpha=-group["lr"] * ratio)


def _square(values: Tensor) -> Tensor:
    """The squared norm, float64."""
    return values.double().square().sum()


class Muon(WholeWeights):
    """Momentum made orthogonal for the matrices inside the network, AdamW for everything else.

    K. Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024; scaled so
    that an update is as large as AdamW's and both take the same learning rate (J. Liu et al.,
    "Muon is Scalable for LLM Training", 2025, equation 4). A matrix is put together for its update only.
    """

    def __init__(
        self, groups: list[dict[str, Any]], lr: float, betas: tuple[float, float], eps: float, momentum: float
    ) -> None:
        super().__init__(groups, {"lr": lr, "betas": betas, "eps": eps, "momentum": momentum})

    def _update(self, weight: Tensor, gradient: Tensor, group: dict[str, Any], state: dict[str, Tensor]) -> None:
        weight.mul_(1 - group["lr"] * group["weight_decay"])
        if not group["orthogonal"]:
            weight.add_(adam_direction(gradient, group, state), alpha=-group["lr"])
            return
        average = state["exp_avg"].lerp_(gradient, 1 - group["momentum"])
        direction = gradient.lerp(average, group["momentum"]).flatten()  # Nesterov's look ahead
        pieces = self._pieces(weight)
        matrices = self._put_together(direction, pieces)
        mine = [(piece, matrix) for piece, matrix in zip(pieces, matrices, strict=True) if piece.length]
        flat = weight.view(-1)
        for shape in sorted({piece.shape for piece, _ in mine}):
            # Matrices of one shape go through as one batch: small products by the dozen would leave the cores idle.
            alike = [(piece, matrix) for piece, matrix in mine if piece.shape == shape]
            updates = orthogonalised(torch.stack([matrix for _, matrix in alike]))
            for (piece, _), update in zip(alike, updates, strict=True):
                size = -group["lr"] * 0.2 * math.sqrt(max(shape))
                flat[piece.here].add_(update.flatten()[piece.inside], alpha=size)

    def _put_together(self, flat: Tensor, pieces: list[Held]) -> list[Tensor]:
        """The matrices that pieces of lie in ``flat``, whole."""
        sizes = [math.prod(piece.shape) for piece in pieces]
        whole = torch.zeros(sum(sizes), dtype=flat.dtype, device=flat.device)
        for piece, place in zip(pieces, torch.split(whole, sizes), strict=True):
            if piece.counts:
                place[piece.inside] = flat[piece.here]
        whole = self._summed(whole)
        return [matrix.view(piece.shape) for piece, matrix in zip(pieces, torch.split(whole, sizes), strict=True)]


def adam_direction(gradient: Tensor, group: dict[str, Any], state: dict[str, Tensor]) -> Tensor:
    """The averaged gradient by the root of the averaged squares, both freed of their bias.

    Kingma and Ba 2015, algorithm 1; keeps ``exp_avg`` and ``exp_avg_sq`` in the state.
    """
    first, second = group["betas"]
    steps = float(state["step"])
    if "exp_avg_sq" not in state:
        state["exp_avg_sq"] = torch.zeros_like(gradient)
    state["exp_avg"].lerp_(gradient, 1 - first)
    state["exp_avg_sq"].mul_(second).addcmul_(gradient, gradient, value=1 - second)
    root = (state["exp_avg_sq"] / (1 - second**steps)).sqrt_().add_(group["eps"])
    direction: Tensor = state["exp_avg"] / (1 - first**steps)
    return direction.div_(root)


def orthogonalised(matrices: Tensor) -> Tensor:
    """About the nearest matrices with orthonormal rows (or columns): singular values go to 0.7 to 1.2.

    ``matrices`` is a batch of shape (..., rows, columns). Five quintic Newton-Schulz steps with
    Jordan's coefficients; in bfloat16 on a GPU.
    """
    x: Tensor = matrices.to(torch.bfloat16 if matrices.is_cuda else torch.float32)
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    tall = x.shape[-2] > x.shape[-1]
    if tall:
        x = x.mT
    for _ in range(5):
        gram = x @ x.mT
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return (x.mT if tall else x).to(matrices.dtype)
