"""Rotary positions (Su et al. 2021, in the half-split form of Hugging Face), and their scaling to longer contexts.

B rows   T positions   H heads   F features of a head   P = F / 2 pairs of features
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from model.config import RopeScaling


def rotation(
    positions_BT: Tensor, features: int, theta: float, scaling: RopeScaling | None, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Cosines of every position's angles, and their sines with the sign that ``rotate`` gives them (BT1F each).

    Both are multiplied by the attention factor where the scaling has one.
    """
    frequencies_P = frequencies(features, theta, scaling, positions_BT.device)
    angles_BT1P = positions_BT[:, :, None, None].float() * frequencies_P
    factor = 1.0 if scaling is None else scaling.rotation_factor
    cos_BT1P, sin_BT1P = angles_BT1P.cos() * factor, angles_BT1P.sin() * factor
    return torch.cat((cos_BT1P, cos_BT1P), -1).to(dtype), torch.cat((-sin_BT1P, sin_BT1P), -1).to(dtype)


def rotate(x_BTHF: Tensor, cos_BT1F: Tensor, sin_BT1F: Tensor) -> Tensor:
    """Rotate feature pairs (i, i + F/2) by the position's angles, as ``rotation`` gives them."""
    if torch.compiler.is_compiling():  # which differentiates the plain form as well
        return _rotated(x_BTHF, cos_BT1F, sin_BT1F, 1)
    rotated: Tensor = _Rotated.apply(x_BTHF, cos_BT1F, sin_BT1F)  # type: ignore[no-untyped-call]
    return rotated


class _Rotated(torch.autograd.Function):
    """Half as many passes over memory as autograd would make: the gradient is rotated back in the same way."""

    @staticmethod
    def forward(ctx: Any, x_BTHF: Tensor, cos_BT1F: Tensor, sin_BT1F: Tensor) -> Tensor:
        ctx.save_for_backward(cos_BT1F, sin_BT1F)
        return _rotated(x_BTHF, cos_BT1F, sin_BT1F, 1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        cos_BT1F, sin_BT1F = ctx.saved_tensors
        return _rotated(gradients[0], cos_BT1F, sin_BT1F, -1), None, None


def _rotated(x_BTHF: Tensor, cos_BT1F: Tensor, sin_BT1F: Tensor, direction: int) -> Tensor:
    """(a, b) becomes (a cos - b sin, b cos + a sin); in direction -1, by the same angle back."""
    first, second = x_BTHF.chunk(2, -1)
    swapped_BTHF = torch.cat((second, first), -1).to(cos_BT1F.dtype)
    return (x_BTHF * cos_BT1F).addcmul_(swapped_BTHF, sin_BT1F, value=direction).to(x_BTHF.dtype)


def frequencies(
    features: int, theta: float, scaling: RopeScaling | None = None, device: torch.device | None = None
) -> Tensor:
    """Radians by which each pair of features turns from one position to the next (float32, P)."""
    plain_P = 1.0 / theta ** (torch.arange(0, features, 2, dtype=torch.float32, device=device) / features)
    if scaling is None:
        return plain_P
    divided_P = plain_P / scaling.factor
    if scaling.kind == "linear":
        return divided_P
    if scaling.kind == "yarn":
        kept_P = _kept_by_yarn(features, theta, scaling).to(plain_P.device)
    else:
        kept_P = _kept_by_llama3(plain_P, scaling)
    return divided_P * (1 - kept_P) + plain_P * kept_P


def _kept_by_llama3(plain_P: Tensor, scaling: RopeScaling) -> Tensor:
    """How much of each angle stays: all of those that turn often, nothing of those that hardly turn."""
    turns_P = plain_P * ((scaling.original_context or 0) / (2 * math.pi))
    return ((turns_P - scaling.low_frequency) / (scaling.high_frequency - scaling.low_frequency)).clamp(0, 1)


def _kept_by_yarn(features: int, theta: float, scaling: RopeScaling) -> Tensor:
    """The same, by a ramp over the numbers of the pairs (Peng et al. 2023, section 3.2)."""
    first = _pair_that_turns(features, theta, scaling, scaling.beta_fast)
    last = _pair_that_turns(features, theta, scaling, scaling.beta_slow)
    if scaling.truncate:
        first, last = math.floor(first), math.ceil(last)
    first, last = max(first, 0), min(last, features - 1)
    pairs_P = torch.arange(features // 2, dtype=torch.float32)
    return 1 - ((pairs_P - first) / max(last - first, 1e-3)).clamp(0, 1)


def _pair_that_turns(features: int, theta: float, scaling: RopeScaling, times: float) -> float:
    """The number of the pair (a fraction) that turns so many times within the original context."""
    return features * math.log((scaling.original_context or 1) / (times * 2 * math.pi)) / (2 * math.log(theta))
