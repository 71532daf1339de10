"""Low-rank adapters by ``peft``, put into a network to train them (the form on disk: ``model.formats.adapters``).

``peft`` takes ten seconds to import, so only ``inject`` imports it, which only training processes call.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from model.formats.adapters import NAME
from model.formats.foreign import is_linear
from model.network.transformer import Head
from storage.errors import UserError


def inject(network: nn.Module, rank: int, alpha: float, targets: Sequence[str], seed: int) -> None:
    """Put adapters on the linear layers called ``targets``, and freeze everything else, in place.

    The first values follow from ``seed`` alone; the caller's random state is left as it was.
    Raises UserError if the network has no such layer.
    """
    _check_targets(network, targets)
    from peft import LoraConfig, inject_adapter_in_model

    config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=list(targets), lora_dropout=0.0, bias="none")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        inject_adapter_in_model(config, network, adapter_name=NAME)
    for name, parameter in network.named_parameters():
        parameter.requires_grad_("lora_" in name)


def _check_targets(network: nn.Module, targets: Sequence[str]) -> None:
    layers = {name.rpartition(".")[2]: module for name, module in network.named_modules() if is_linear(module)}
    # Our output layer gives a loss, which an adapter's logits cannot be added to.
    linear = {name for name, module in layers.items() if not isinstance(module, Head)}
    of_experts = {name.rpartition(".")[2] for name, _ in network.named_modules() if ".experts." in name}
    for target in targets:
        if target in of_experts:
            raise UserError(
                f"targets: {target!r} is of the experts, which PEFT's form has no adapters for; take attention's"
            )
        if target not in linear:
            raise UserError(f"targets: the network has no linear layer {target!r}; it has {', '.join(sorted(linear))}")
