"""Optimisers by name."""

from __future__ import annotations

import torch
from torch import nn

from model.config import OptimizerConfig


def make_optimizer(network: nn.Module, config: OptimizerConfig) -> torch.optim.Optimizer:
    """The optimiser of the network's trainable weights; weight decay is for matrices only.

    Adam by its fused kernel: on the CPU it is as fast as DeepSpeed's own, which would first have
    to be compiled (and needs a C++ compiler).
    """
    trainable = [weight for weight in network.parameters() if weight.requires_grad]
    groups = [
        {"params": [weight for weight in trainable if weight.dim() >= 2], "weight_decay": config.weight_decay},
        {"params": [weight for weight in trainable if weight.dim() < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=config.learning_rate,
        betas=config.betas,
        eps=config.epsilon,
        fused=True,
    )
