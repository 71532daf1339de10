"""Matrix products of 8-bit floats, for GPUs that have them (Ada, Hopper and later).

Forward, inputs and weights are e4m3; backward, gradients are e5m2, whose range is wider (P. Micikevicius et al. 2022,
"FP8 Formats for Deep Learning"). Every tensor is scaled, each time, so that its largest value is the format's largest.
Sums are the hardware's, at least float32's exponent; what comes out is bfloat16, and gradients of weights are float32.

    N positions   I inputs   O outputs of a layer
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from model.network.transformer import Layer, Transformer
from storage.errors import UserError

FORWARD, BACKWARD = torch.float8_e4m3fn, torch.float8_e5m2
_CAPABILITY = (8, 9)
"""Of the first GPUs with such products: NVIDIA's Ada."""


def check_device(device: torch.device) -> None:
    """Raise UserError where the device has no products of 8-bit floats."""
    if device.type != "cuda":
        raise UserError("precision fp8 needs a GPU with 8-bit products, and this runs on the CPU: use fp32 or bf16")
    if torch.cuda.get_device_capability(device) < _CAPABILITY:
        name = torch.cuda.get_device_name(device)
        raise UserError(f"precision fp8 needs a GPU with 8-bit products (Ada, Hopper or later), not {name}: use bf16")


def apply(network: Transformer) -> None:
    """Let the linear layers inside the blocks multiply so; all other layers stay as they are."""
    for layer in network.model.layers:
        if isinstance(layer, Layer):  # not those of other stages
            for module in layer.modules():
                if isinstance(module, nn.Linear):
                    module.forward = partial(_linear, module)  # type: ignore[method-assign]


def scaled(x: Tensor, kind: torch.dtype) -> tuple[Tensor, Tensor]:
    """``x`` divided by its scale, in 8 bits, and the scale (a float32 scalar)."""
    largest = torch.finfo(kind).max
    scale = x.abs().amax().float().clamp(min=1e-30) / largest
    return (x.float() / scale).clamp(-largest, largest).to(kind), scale


def _linear(module: nn.Linear, x: Tensor) -> Tensor:
    out_NO: Tensor = Product.apply(x.flatten(0, -2), module.weight)  # type: ignore[no-untyped-call]
    out = out_NO.view(*x.shape[:-1], -1)
    return out if module.bias is None else out + module.bias.to(out.dtype)


class Product(torch.autograd.Function):
    """x_NI times weight_OI transposed; N, I and O are multiples of 16."""

    @staticmethod
    def forward(ctx: Any, x_NI: Tensor, weight_OI: Tensor) -> Tensor:
        x8_NI, x_scale = scaled(x_NI, FORWARD)
        weight8_OI, weight_scale = scaled(weight_OI, FORWARD)
        ctx.save_for_backward(x8_NI, x_scale, weight_OI, weight_scale)
        ctx.dtype = x_NI.dtype
        return _multiplied(x8_NI, weight8_OI, x_scale, weight_scale, torch.bfloat16, fast=True)

    @staticmethod
    def backward(ctx: Any, gradient_NO: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x8_NI, x_scale, weight_OI, weight_scale = ctx.saved_tensors
        gradient8_NO, scale = scaled(gradient_NO, BACKWARD)
        of_x = of_weight = None
        if ctx.needs_input_grad[0]:
            # The weight is cast again: ZeRO 3 has given it back in between, and a copy would be kept all the while.
            weight8_IO = (weight_OI.float() / weight_scale).to(FORWARD).t().contiguous()
            of_x = _multiplied(gradient8_NO, weight8_IO, scale, weight_scale, torch.bfloat16).to(ctx.dtype)
        if ctx.needs_input_grad[1]:
            gradient8_ON, x8_IN = gradient8_NO.t().contiguous(), x8_NI.t().contiguous()
            of_weight = _multiplied(gradient8_ON, x8_IN, scale, x_scale, torch.float32).to(weight_OI.dtype)
        return of_x, of_weight


def _multiplied(
    a_MK: Tensor, b_NK: Tensor, a_scale: Tensor, b_scale: Tensor, dtype: torch.dtype, fast: bool = False
) -> Tensor:
    """a times b transposed. ``fast``: with sums of fewer bits, which only the forward pass can do with."""
    product: Tensor = torch._scaled_mm(
        a_MK, b_NK.t(), scale_a=a_scale, scale_b=b_scale, out_dtype=dtype, use_fast_accum=fast
    )
    return product
