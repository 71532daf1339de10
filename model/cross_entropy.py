"""Cross-entropy of an output layer, chunk by chunk: all logits at once are never held.

Loss and gradients are worked out together, while a chunk's logits are in the cache; the plain form
writes and reads the logits (N x V) four times. Measured on one CPU core with N 2048, V 4096, D 128:
98 ms forward and backward against 195 ms.

    N predicted positions   C positions of a chunk   D width   V vocabulary
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

_CHUNK_LOGITS = 2**20
"""Logits held at a time; on a CPU they should fit its cache."""
_TINY = 1e-30
"""Probabilities below this are not trusted to a float32 softmax."""


def summed_cross_entropy(x_ND: Tensor, weight_VD: Tensor, targets_N: Tensor, cap: float | None = None) -> Tensor:
    """Sum over positions of -log softmax(x W^T)[target], in nats: a float32 scalar, differentiable.

    With ``cap``, logits z are cap x tanh(z / cap) first.
    """
    if not (torch.is_grad_enabled() and (x_ND.requires_grad or weight_VD.requires_grad)):
        return _loss_and_gradients(x_ND, weight_VD, targets_N, cap, False, False)[0]
    loss: Tensor = _SummedCrossEntropy.apply(x_ND, weight_VD, targets_N, cap)  # type: ignore[no-untyped-call]
    return loss


def _loss_and_gradients(
    x_ND: Tensor, weight_VD: Tensor, targets_N: Tensor, cap: float | None, with_x: bool, with_weight: bool
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """The loss, and where asked for its gradients by x (dtype of x) and by the weight (float32)."""
    positions, vocabulary = x_ND.shape[0], weight_VD.shape[0]
    chunk = max(16, _CHUNK_LOGITS // vocabulary)
    loss = torch.zeros((), dtype=torch.float32, device=x_ND.device)
    grad_x_ND = torch.empty_like(x_ND) if with_x else None
    grad_weight_VD = torch.zeros_like(weight_VD, dtype=torch.float32) if with_weight else None
    for start in range(0, positions, chunk):
        x_CD, targets_C1 = x_ND[start : start + chunk], targets_N[start : start + chunk, None]
        logits_CV = (x_CD @ weight_VD.t()).float()
        if cap is not None:
            logits_CV = logits_CV.div_(cap).tanh_().mul_(cap)
        error_CV = torch.softmax(logits_CV, 1)
        probability_C1 = error_CV.gather(1, targets_C1)
        if probability_C1.min() > _TINY:
            loss -= probability_C1.log().sum()
        else:  # NaN comes here too, and stays NaN
            loss -= torch.log_softmax(logits_CV, 1).gather(1, targets_C1).sum()
        error_CV.scatter_add_(1, targets_C1, torch.full_like(probability_C1, -1.0))
        if cap is not None:  # the derivative of cap x tanh(z / cap) is 1 - tanh^2
            error_CV.mul_(1 - (logits_CV / cap).square())
        if grad_x_ND is not None:
            torch.matmul(error_CV.to(x_ND.dtype), weight_VD, out=grad_x_ND[start : start + chunk])
        if grad_weight_VD is not None:
            grad_weight_VD.addmm_(error_CV.t(), x_CD.float())
    return loss, grad_x_ND, grad_weight_VD


class _SummedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_ND: Tensor, weight_VD: Tensor, targets_N: Tensor, cap: float | None) -> Tensor:
        loss, grad_x_ND, grad_weight_VD = _loss_and_gradients(
            x_ND.detach(), weight_VD.detach(), targets_N, cap, ctx.needs_input_grad[0], ctx.needs_input_grad[1]
        )
        ctx.save_for_backward(grad_x_ND, grad_weight_VD)
        ctx.weight_dtype = weight_VD.dtype
        return loss

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor | None, Tensor | None, None, None]:
        scale = gradients[0]
        grad_x_ND, grad_weight_VD = ctx.saved_tensors
        return (
            None if grad_x_ND is None else grad_x_ND * scale.to(grad_x_ND.dtype),
            None if grad_weight_VD is None else (grad_weight_VD * scale).to(ctx.weight_dtype),
            None,
            None,
        )
