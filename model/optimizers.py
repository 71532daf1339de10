"""Optimisers by name, and Muon, which knows how ZeRO cuts weights into pieces."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from model.optimizer_config import OptimizerConfig


def make_optimizer(network: nn.Module, config: OptimizerConfig) -> torch.optim.Optimizer:
    """The optimiser of the network's trainable weights; weight decay is for matrices only.

    Adam by its fused kernel: on the CPU it is as fast as DeepSpeed's own, which would first have
    to be compiled (and needs a C++ compiler).
    """
    trainable = {name: weight for name, weight in network.named_parameters() if weight.requires_grad}
    lookups = {id(module.weight) for module in network.modules() if isinstance(module, nn.Embedding)}
    lookups |= {id(weight) for name, weight in trainable.items() if "lm_head" in name}
    hidden = [weight for weight in trainable.values() if weight.dim() == 2 and id(weight) not in lookups]
    tables = [weight for weight in trainable.values() if weight.dim() == 2 and id(weight) in lookups]
    gains = [weight for weight in trainable.values() if weight.dim() < 2]
    groups: list[dict[str, Any]] = [
        {"params": hidden, "weight_decay": config.weight_decay, "orthogonal": True},
        {"params": tables, "weight_decay": config.weight_decay, "orthogonal": False},
        {"params": gains, "weight_decay": 0.0, "orthogonal": False},
    ]
    groups = [group for group in groups if group["params"]]
    common: dict[str, Any] = {"lr": config.learning_rate, "betas": config.averaging, "eps": config.epsilon}
    if config.name == "muon":
        return Muon(groups, momentum=config.momentum, **common)
    return torch.optim.AdamW(groups, fused=True, **common)


@dataclass(frozen=True)
class Matrix:
    """A weight as one process sees it: its shape, and which part of it lies where in a flat tensor here."""

    shape: tuple[int, ...]
    flat_start: int = 0
    weight_start: int = 0
    length: int = 0
    """0: no part of it is optimised here."""


class Muon(torch.optim.Optimizer):
    """Momentum made orthogonal for the matrices inside the network, AdamW for everything else.

    K. Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024; scaled so
    that an update is as large as AdamW's and both take the same learning rate (J. Liu et al.,
    "Muon is Scalable for LLM Training", 2025, equation 4).

    Under ZeRO the parameters are flat tensors that hold pieces of weights; ``layout`` says which, and
    is empty where they are the weights themselves.
    Momentum stays spread over the processes; a matrix is put together for its update only.
    """

    def __init__(
        self, groups: list[dict[str, Any]], lr: float, betas: tuple[float, float], eps: float, momentum: float
    ) -> None:
        super().__init__(groups, {"lr": lr, "betas": betas, "eps": eps, "momentum": momentum})
        self.layout: dict[int, list[Matrix]] = {}
        """By the id of a parameter, the matrices that it holds pieces of, the same list on every process."""
        self.spread = False
        """Whether weights are cut over processes, so that matrices must be put together."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One update; every process must call it for the same groups in the same order."""
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                state = self.state[weight]
                if not state:
                    state["step"] = torch.tensor(0.0)
                    state["exp_avg"] = torch.zeros_like(weight)
                    if not group["orthogonal"]:
                        state["exp_avg_sq"] = torch.zeros_like(weight)
                state["step"] += 1
                weight.mul_(1 - group["lr"] * group["weight_decay"])
                if group["orthogonal"]:
                    self._orthogonal_update(weight, group, state["exp_avg"])
                else:
                    _adam_update(weight, group, state)

    def _orthogonal_update(self, weight: Tensor, group: dict[str, Any], average: Tensor) -> None:
        gradient = weight.grad
        assert gradient is not None
        average.lerp_(gradient, 1 - group["momentum"])
        direction = gradient.lerp(average, group["momentum"]).flatten()  # Nesterov's look ahead
        flat = weight.view(-1)
        matrices = self.layout.get(id(weight)) or [Matrix(tuple(weight.shape), 0, 0, weight.numel())]
        sizes = [math.prod(matrix.shape) for matrix in matrices]
        whole = torch.zeros(sum(sizes), dtype=weight.dtype, device=weight.device)
        for matrix, place in zip(matrices, torch.split(whole, sizes), strict=True):
            here = direction[matrix.flat_start : matrix.flat_start + matrix.length]
            place[matrix.weight_start : matrix.weight_start + matrix.length] = here
        if self.spread:
            dist.all_reduce(whole)
        mine = [(m, d.view(m.shape)) for m, d in zip(matrices, torch.split(whole, sizes), strict=True) if m.length]
        for shape in sorted({matrix.shape for matrix, _ in mine}):
            # Matrices of one shape go through as one batch: small products by the dozen would leave the cores idle.
            alike = [(matrix, direction) for matrix, direction in mine if matrix.shape == shape]
            updates = orthogonalised(torch.stack([direction for _, direction in alike]))
            for (matrix, _), update in zip(alike, updates, strict=True):
                inside = update.flatten()[matrix.weight_start : matrix.weight_start + matrix.length]
                place = flat[matrix.flat_start : matrix.flat_start + matrix.length]
                place.add_(inside, alpha=-group["lr"] * 0.2 * math.sqrt(max(shape)))


def _adam_update(weight: Tensor, group: dict[str, Any], state: dict[str, Tensor]) -> None:
    """Kingma and Ba 2015, algorithm 1."""
    first, second = group["betas"]
    steps = float(state["step"])
    gradient = weight.grad
    assert gradient is not None
    state["exp_avg"].lerp_(gradient, 1 - first)
    state["exp_avg_sq"].mul_(second).addcmul_(gradient, gradient, value=1 - second)
    root = (state["exp_avg_sq"] / (1 - second**steps)).sqrt_().add_(group["eps"])
    weight.addcdiv_(state["exp_avg"], root, value=-group["lr"] / (1 - first**steps))


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
    x = x.mT if tall else x
    return x.to(matrices.dtype)
