"""Attention within packed documents by the flash kernel for sequences of many lengths, on GPUs: no mask, no pairs.

T. Dao 2023, "FlashAttention-2", for documents laid end to end; memory grows with the length, where a mask of all pairs
would grow with its square, and the kernels that take a mask read it from memory.

    B rows   T positions   H heads   F features of a head   N = B x T   D documents
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

_CAPABILITY = (8, 0)
"""Of the first GPUs that the kernel is written for: NVIDIA's Ampere."""
_FEATURES = 256
"""Of a head at most, and a multiple of 8."""


def has_kernel(device: torch.device) -> bool:
    """Whether the device is one that the kernel is written for."""
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= _CAPABILITY


@dataclass(frozen=True)
class Packed:
    """Rows of documents that lie end to end, each of which sees itself alone (what fills a row up likewise)."""

    bounds_D: Tensor
    """int32, where documents begin in all rows laid end to end, and the end of the last: D + 1."""
    longest: int
    """Positions of the longest document."""
    causal: bool
    without: Callable[[], Any]
    """Makes the ``Visibility`` for what the kernel does not do: dropout, float32, odd sizes of heads."""

    @classmethod
    def of(cls, documents_BT: Tensor, causal: bool, without: Callable[[], Any]) -> Packed:
        """Of documents whose positions follow each other."""
        begins_BT = torch.ones_like(documents_BT, dtype=torch.bool)
        begins_BT[:, 1:] = documents_BT[:, 1:] != documents_BT[:, :-1]
        first_D = begins_BT.flatten().nonzero().flatten()
        bounds_D = torch.cat((first_D, first_D.new_tensor([documents_BT.numel()])))
        return cls(bounds_D.int(), int(bounds_D.diff().max()), causal, without)

    @cached_property
    def _otherwise(self) -> Any:
        return self.without()

    def attend(self, q_BHTF: Tensor, k_BHTF: Tensor, v_BHTF: Tensor, drop: Any) -> Tensor:
        """As ``attention.Visibility`` says."""
        device, kind = q_BHTF.device.type, q_BHTF.dtype
        if torch.is_autocast_enabled(device):  # which does not know the kernel
            kind = torch.get_autocast_dtype(device)
        batch, _, length, features = q_BHTF.shape
        fits = kind in (torch.bfloat16, torch.float16) and features % 8 == 0 and features <= _FEATURES
        if drop is not None or not fits:
            attended: Tensor = self._otherwise.attend(q_BHTF, k_BHTF, v_BHTF, drop)
            return attended
        q_NHF, k_NHF, v_NHF = (x.transpose(1, 2).flatten(0, 1).to(kind) for x in (q_BHTF, k_BHTF, v_BHTF))
        out_NHF = flash(q_NHF, k_NHF, v_NHF, self.bounds_D, self.longest, self.causal)
        return out_NHF.view(batch, length, *out_NHF.shape[1:]).transpose(1, 2)


def flash(q_NHF: Tensor, k_NHF: Tensor, v_NHF: Tensor, bounds_D: Tensor, longest: int, causal: bool) -> Tensor:
    """PyTorch's kernel: attention within each of the stretches between ``bounds_D``."""
    from torch.nn.attention.varlen import varlen_attn

    seen = (-1, 0) if causal else (-1, -1)  # how many before and behind; -1: all
    out_NHF: Tensor = varlen_attn(q_NHF, k_NHF, v_NHF, bounds_D, bounds_D, longest, longest, window_size=seen)  # type: ignore[assignment]
    return out_NHF
