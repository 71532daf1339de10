"""Who sees whom: the one definition behind every form of attention, and attention under a mask of it.

B rows   T positions   H heads   F features of a head   R rows of one call   C queries   E keys that they may see
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

PADDING = -1
"""In documents: this position belongs to no document."""

Drop = Callable[[Tensor, int, Tensor, Tensor], Tensor]
"""Factors 0 or 1 / (1 - p) of shape RHTS for attention's probabilities: from the rows' numbers (R, in the batch), the
number of heads, and the places of queries (RT) and keys (RS) within their rows."""


@dataclass(frozen=True)
class Rule:
    """Who sees whom within a document."""

    causal: bool = True
    """Only oneself and what came before."""
    window: int | None = None
    """Only what is less than so many positions away ..."""
    global_tokens: int = 0
    """... and the first so many positions of the document."""


@dataclass(frozen=True)
class Places:
    """Where positions are, in integers of shapes that broadcast."""

    index: Tensor
    """Place in the row."""
    position: Tensor
    """Place in the document."""
    document: Tensor
    """Equal within a document."""

    def at(self, *where: Any) -> Places:
        """All three, indexed alike."""
        return Places(self.index[where], self.position[where], self.document[where])


def sees(rule: Rule, query: Places, key: Places) -> Tensor:
    """True where the query sees the key: the one definition behind every form of attention."""
    visible = query.document == key.document
    if rule.causal:
        visible = visible & (key.index <= query.index)
    if rule.window is not None:
        near = (query.index - key.index).abs() < rule.window
        visible = visible & (near | (key.position < rule.global_tokens))
    return visible


def masked_attention(
    q_RHCF: Tensor, k_RHEF: Tensor, v_RHEF: Tensor, mask_R1CE: Tensor, factors: Tensor | None
) -> Tensor:
    """Attention under a mask; with ``factors``, its probabilities are written out and multiplied by them."""
    if factors is None:
        return F.scaled_dot_product_attention(q_RHCF, k_RHEF, v_RHEF, attn_mask=mask_R1CE)
    scores_RHCE = (q_RHCF @ k_RHEF.transpose(-1, -2)).float() * q_RHCF.shape[-1] ** -0.5
    scores_RHCE = scores_RHCE.masked_fill(~mask_R1CE, -torch.inf)
    out_RHCF: Tensor = (scores_RHCE.softmax(-1) * factors).to(v_RHEF.dtype) @ v_RHEF
    return out_RHCF
