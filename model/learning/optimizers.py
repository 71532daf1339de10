"""Optimisers by name: which weights they take how."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from model.learning.optimizer import Optimizer
from model.learning.optimizer_config import OptimizerConfig
from model.learning.whole_weights import Lamb, Muon
from model.network.transformer import Kind, parameter_kinds

POSITIONS = "embed_positions.weight"
"""What the name of a table of learned positions ends with: no logits come from it."""


class AdamW(Optimizer, torch.optim.AdamW):
    """torch's, by its fused kernel: on the CPU it is as fast as DeepSpeed's own, which would first have to be compiled
    (and needs a C++ compiler)."""

    moments: tuple[str, ...] = ("exp_avg", "exp_avg_sq")

    def update(self) -> None:
        torch.optim.AdamW.step(self)


class Lion(Optimizer):
    """The sign of an average of gradients. Chen et al. 2023, algorithm 2."""

    moments: tuple[str, ...] = ("exp_avg",)

    def __init__(self, groups: list[dict[str, Any]], lr: float, betas: tuple[float, float]) -> None:
        super().__init__(groups, {"lr": lr, "betas": betas})

    def update(self) -> None:
        for group in self.param_groups:
            within, kept = group["betas"]
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                state = self.state[weight]
                if not state:
                    state["step"] = torch.tensor(0.0)
                    state["exp_avg"] = torch.zeros_like(weight)
                state["step"] += 1
                weight.mul_(1 - group["lr"] * group["weight_decay"])
                weight.add_(state["exp_avg"].lerp(weight.grad, 1 - within).sign_(), alpha=-group["lr"])
                state["exp_avg"].lerp_(weight.grad, 1 - kept)


def make_optimizer(network: nn.Module, config: OptimizerConfig, batch_tokens: int = 1) -> Optimizer:
    """The optimiser of the network's trainable weights; weight decay is for matrices only."""
    groups = _groups(network, config)
    common: dict[str, Any] = {"lr": config.learning_rate, "betas": config.averaging}
    made: Optimizer
    if config.name == "lion":
        made = Lion(groups, **common)
    elif config.name == "lamb":
        made = Lamb(groups, eps=config.epsilon, **common)
    elif config.name == "muon":
        made = Muon(groups, eps=config.epsilon, momentum=config.momentum, **common)
    else:
        made = AdamW(groups, eps=config.epsilon, fused=True, **common)
    if config.average_tokens is not None:
        made.keep_average(math.exp(-batch_tokens / config.average_tokens))
    return made


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give every group its own factor of the rate."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["factor"]


@torch.no_grad()
def initialise_for_width(network: nn.Module, config: OptimizerConfig, width: int) -> None:
    """Let the logits of a random network begin as large as at ``base_width``: of root width as many random terms."""
    kinds = parameter_kinds(network)
    for name in _read_out(network, kinds):
        network.get_parameter(name).mul_(math.sqrt(config.widening(width)))


def _read_out(network: nn.Module, kinds: Mapping[str, Kind]) -> set[str]:
    """The weights that logits come from: the output layer's, or the embedding's where it is tied.

    A stage of a pipeline may have the embedding without the output layer, so our own network says which.
    """
    tied = getattr(getattr(network, "shape", None), "tied_embeddings", "output" not in kinds.values())
    wanted = "embedding" if tied else "output"
    return {name for name, kind in kinds.items() if kind == wanted and not name.endswith(POSITIONS)}


def _groups(network: nn.Module, config: OptimizerConfig) -> list[dict[str, Any]]:
    """One group for each kind of weights and of update that the network has.

    What decays a weight in a step is learning_rate x weight_decay, whatever the group's factor: a
    wider network, whose matrices learn at a lower rate, forgets as fast.
    """
    width = getattr(getattr(network, "shape", None), "width", None)
    kinds = parameter_kinds(network)
    read_out = _read_out(network, kinds)
    groups: dict[Any, dict[str, Any]] = {}
    for name, kind in kinds.items():
        weight = network.get_parameter(name)
        if not weight.requires_grad:
            continue
        orthogonal = kind == "hidden" and weight.dim() == 2
        factor = config.factor(kind, width, name in read_out)
        decay = config.weight_decay if kind != "vector" else 0.0
        group = {
            "factor": factor,
            "lr": config.learning_rate * factor,
            "weight_decay": decay if config.name == "lamb" else decay / factor,
            "orthogonal": orthogonal,
            "adapted": kind != "vector",
        }
        groups.setdefault(tuple(group.values()), {**group, "params": []})["params"].append(weight)
    return list(groups.values())
