"""Cross-entropy of an output layer, chunk by chunk: all logits at once are never held.

Loss and gradients are worked out together, while a chunk's logits are in the cache; the plain form
writes and reads the logits (N x V) four times. Measured on one CPU core with N 2048, V 4096, D 128:
98 ms forward and backward against 195 ms.

    N predicted positions   C positions of a chunk   D width   V vocabulary
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

CHUNK_LOGITS = 2**22
"""Logits held at a time. More of them make larger products, which two cores share better, and add less often to the
weight's gradient, which is as large as three chunks of a small network: N 4096, V 8192, D 384 takes 243 ms of each core
with 2**22, 276 ms with 2**20, 237 ms with 2**23."""
GPU_CHUNK_LOGITS = 2**26
"""Likewise on a GPU, which has no cache to stay in, and waits for each chunk's own pass over the weight's gradient. Not
measured: with V 50,304 and D 1,024 that pass moves 0.6 GB a chunk, about 0.2 ms on an H100, where the products of the
83 positions of a chunk of 2**22 take 0.05 ms, and those of 1,334 positions 0.8 ms."""
_TINY = 1e-30
"""Probabilities below this are not trusted to a float32 softmax."""


class Errors(Protocol):
    """How the loss follows from a chunk's logits."""

    def error(self, logits_CV: Tensor, targets_C1: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The softened loss and the plain one, summed over positions, and the gradient of the first by the logits."""
        ...


@dataclass(frozen=True)
class Softening:
    """What is added to the cross-entropy in training."""

    label_smoothing: float = 0.0
    """Share of the target's probability that is spread evenly over the vocabulary (Szegedy et al. 2016, section 7)."""
    z_loss: float = 0.0
    """Weight of (log sum exp z)^2 (Chowdhery et al. 2022, section 5)."""

    def error(self, logits_CV: Tensor, targets_C1: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See ``Errors``."""
        spread = self.label_smoothing
        normaliser_C1 = torch.logsumexp(logits_CV, 1, keepdim=True)
        plain = (normaliser_C1 - logits_CV.gather(1, targets_C1)).sum()
        evenly = (normaliser_C1[:, 0] - logits_CV.mean(1)).sum()
        softened = (1 - spread) * plain + spread * evenly + self.z_loss * normaliser_C1.square().sum()
        error_CV = (logits_CV - normaliser_C1).exp_().mul_(1 + 2 * self.z_loss * normaliser_C1)
        error_CV.sub_(spread / logits_CV.shape[1])
        error_CV.scatter_add_(1, targets_C1, torch.full_like(normaliser_C1, spread - 1))
        return softened, plain, error_CV


LossOfFeatures = Callable[[Tensor, Tensor, Tensor, float | None, Softening | None], Tensor]
"""What takes the arguments of ``summed_cross_entropy``."""


def summed_cross_entropy(
    x_ND: Tensor, weight_VD: Tensor, targets_N: Tensor, cap: float | None = None, softening: Softening | None = None
) -> Tensor:
    """Sum over positions of -log softmax(x W^T)[target], in nats: a float32 scalar, differentiable.

    With ``cap``, logits z are cap x tanh(z / cap) first. With ``softening``, a vector of two: what
    training is to make small, differentiable, and the plain sum, which is not.
    """
    if softening is not None:
        return torch.stack(softened_cross_entropy(x_ND, weight_VD, targets_N, cap, softening))
    if not (torch.is_grad_enabled() and (x_ND.requires_grad or weight_VD.requires_grad)):
        return _loss_and_gradients(x_ND, weight_VD, targets_N, cap, False, False)[0]
    loss: Tensor = _SummedCrossEntropy.apply(x_ND, weight_VD, targets_N, cap)  # type: ignore[no-untyped-call]
    return loss


def softened_cross_entropy(
    x_ND: Tensor, weight_VD: Tensor, targets_N: Tensor, cap: float | None, errors: Errors
) -> tuple[Tensor, Tensor]:
    """What training is to make small, differentiable, and the plain sum, which is not."""
    both: tuple[Tensor, Tensor] = _Softened.apply(  # type: ignore[no-untyped-call]
        x_ND, weight_VD, targets_N, cap, errors, torch.is_grad_enabled()
    )
    return both


def positions_of_a_chunk(vocabulary: int, device: torch.device) -> int:
    """How many positions have their logits held at a time."""
    return max(16, (CHUNK_LOGITS if device.type == "cpu" else GPU_CHUNK_LOGITS) // vocabulary)


def _kind_of_products(x: Tensor) -> torch.dtype:
    """bfloat16 under its autocast, for gradients too, as a GPU multiplies float32 at a fifteenth of the speed.

    Not float16, whose range is too small for gradients that are not scaled yet.
    """
    device = x.device.type
    lowered = torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device) == torch.bfloat16
    return torch.bfloat16 if lowered else x.dtype


def _add_product(total_VD: Tensor, error_CV: Tensor, x_CD: Tensor) -> None:
    """Add a chunk's part to the weight's gradient, a sum in float32."""
    if x_CD.dtype == torch.bfloat16:
        total_VD.add_(error_CV.to(torch.bfloat16).t() @ x_CD)
    else:
        total_VD.addmm_(error_CV.t(), x_CD.float())


def _loss_and_gradients(
    x_ND: Tensor, weight_VD: Tensor, targets_N: Tensor, cap: float | None, with_x: bool, with_weight: bool
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """The loss, and where asked for its gradients by x (in the kind of products) and by the weight (float32)."""
    kind = _kind_of_products(x_ND)
    x_ND, weight_VD = x_ND.to(kind), weight_VD.to(kind)
    positions, vocabulary = x_ND.shape[0], weight_VD.shape[0]
    chunk = positions_of_a_chunk(vocabulary, x_ND.device)
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
            torch.matmul(error_CV.to(kind), weight_VD, out=grad_x_ND[start : start + chunk])
        if grad_weight_VD is not None:
            _add_product(grad_weight_VD, error_CV, x_CD)
    return loss, grad_x_ND, grad_weight_VD


class _Softened(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x_ND: Tensor,
        weight_VD: Tensor,
        targets_N: Tensor,
        cap: float | None,
        errors: Errors,
        with_gradients: bool,
    ) -> tuple[Tensor, Tensor]:
        of_x, of_weight = (needed and with_gradients for needed in ctx.needs_input_grad[:2])
        ctx.x_dtype, ctx.weight_dtype, kind = x_ND.dtype, weight_VD.dtype, _kind_of_products(x_ND)
        x_ND, weight_VD = x_ND.to(kind), weight_VD.to(kind)
        chunk = positions_of_a_chunk(weight_VD.shape[0], x_ND.device)
        softened, plain = torch.zeros(2, dtype=torch.float32, device=x_ND.device).unbind()
        grad_x_ND = torch.empty_like(x_ND) if of_x else None
        grad_weight_VD = torch.zeros_like(weight_VD, dtype=torch.float32) if of_weight else None
        for start in range(0, x_ND.shape[0], chunk):
            x_CD, targets_C1 = x_ND[start : start + chunk], targets_N[start : start + chunk, None]
            logits_CV = (x_CD @ weight_VD.t()).float()
            if cap is not None:
                logits_CV = logits_CV.div_(cap).tanh_().mul_(cap)
            more, more_plain, error_CV = errors.error(logits_CV, targets_C1)
            softened, plain = softened + more, plain + more_plain
            if cap is not None:
                error_CV.mul_(1 - (logits_CV / cap).square())
            if grad_x_ND is not None:
                torch.matmul(error_CV.to(kind), weight_VD, out=grad_x_ND[start : start + chunk])
            if grad_weight_VD is not None:
                _add_product(grad_weight_VD, error_CV, x_CD)
        ctx.save_for_backward(grad_x_ND, grad_weight_VD)
        ctx.mark_non_differentiable(plain)
        return softened, plain

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor | None, ...]:
        grad_x_ND, grad_weight_VD = ctx.saved_tensors
        return (
            None if grad_x_ND is None else grad_x_ND.to(ctx.x_dtype) * gradients[0].to(ctx.x_dtype),
            None if grad_weight_VD is None else (grad_weight_VD * gradients[0]).to(ctx.weight_dtype),
            *(None, None, None, None),
        )


class _SummedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_ND: Tensor, weight_VD: Tensor, targets_N: Tensor, cap: float | None) -> Tensor:
        loss, grad_x_ND, grad_weight_VD = _loss_and_gradients(
            x_ND.detach(), weight_VD.detach(), targets_N, cap, ctx.needs_input_grad[0], ctx.needs_input_grad[1]
        )
        ctx.save_for_backward(grad_x_ND, grad_weight_VD)
        ctx.x_dtype, ctx.weight_dtype = x_ND.dtype, weight_VD.dtype
        return loss

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor | None, Tensor | None, None, None]:
        scale = gradients[0]
        grad_x_ND, grad_weight_VD = ctx.saved_tensors
        return (
            None if grad_x_ND is None else grad_x_ND.to(ctx.x_dtype) * scale.to(ctx.x_dtype),
            None if grad_weight_VD is None else (grad_weight_VD * scale).to(ctx.weight_dtype),
            None,
            None,
        )
