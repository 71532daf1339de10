"""Causal attention of whole sequences, in the fastest exact form for the device."""

from __future__ import annotations

import torch.nn.functional as F  # noqa: N812
from torch import Tensor


def causal_attention(q_BHTF: Tensor, k_BHTF: Tensor, v_BHTF: Tensor) -> Tensor:
    """Every position attends to itself and all before it: softmax(q k^T / sqrt(F)) v, per head."""
    return F.scaled_dot_product_attention(q_BHTF, k_BHTF, v_BHTF, is_causal=True)
