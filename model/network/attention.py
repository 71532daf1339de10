"""Which positions see which, and attention over them in the fastest exact form.

One rule says who sees whom (``sight``); what differs is how much of it has to be written down:
nothing at all where the kernel's own causal form will do, where documents begin (``packed``, on
GPUs), a mask of all pairs, or, with a sliding window, the pairs of blocks that lie near each other
(``windows``), so that time and memory grow with the length and not with its square.

    B rows   T positions   S positions seen (T, or more with a cache)   H heads   F features of a head
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Protocol

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from model.network import packed
from model.network.sight import PADDING, Drop, Places, Rule, masked_attention, sees
from model.network.windows import Blocks, block_of


class Visibility(Protocol):
    """What the positions of a batch see: the same for all layers with the same rule."""

    def attend(self, q_BHTF: Tensor, k_BHSF: Tensor, v_BHSF: Tensor, drop: Drop | None) -> Tensor:
        """softmax(q k^T / sqrt(F)) v over what is seen, per head: out_BHTF."""


def visibility(
    rule: Rule, length: int, past: int, positions_BT: Tensor | None, documents_BT: Tensor | None,
    device: torch.device,
) -> Visibility:  # fmt: skip
    """What ``length`` new positions see, after ``past`` ones of a cache.

    ``documents_BT`` and ``positions_BT`` as the network takes them. Raises ValueError for a cache
    together with documents, or with a rule that looks ahead.
    """
    if past and documents_BT is not None:
        raise ValueError("a cache holds one document a row: give no documents with it")
    if past and not rule.causal:
        raise ValueError("bidirectional attention has no cache: what comes later would change what was seen before")
    if past:
        return _after_a_cache(rule, length, past, device)
    if rule.window is not None and rule.window >= length:
        rule = Rule(rule.causal)
    places = _places(length, positions_BT, documents_BT, device)
    if rule.window is not None and length > 2 * block_of(rule.window):
        return Blocks.of(rule, places)
    if rule.window is None and documents_BT is None:
        return Whole(rule.causal)
    free = 0 if rule.window is not None or documents_BT is None else _rows_without_mask(rule, documents_BT)
    if documents_BT is not None and free == len(documents_BT):
        return Whole(rule.causal)
    with_mask = partial(_with_mask, rule, places, free)
    if rule.window is None and documents_BT is not None and packed.has_kernel(device):
        return packed.Packed.of(documents_BT, rule.causal, with_mask)
    return with_mask()


def _with_mask(rule: Rule, places: Places, free: int) -> Visibility:
    """A mask of all pairs for all rows but the first ``free``, which need none."""
    rest = places.at(slice(free, None))
    masked = Masked(sees(rule, rest.at(..., None), rest.at(..., None, slice(None)))[:, None], free)
    return masked if free == 0 else Split(free, Whole(rule.causal), masked)


def kept(rule: Rule, past: int, device: torch.device) -> Tensor:
    """Places of those of ``past`` positions that later ones may see (1-d, rising): what a cache has to hold."""
    index = torch.arange(past, device=device)
    if rule.window is None:
        return index
    return index[(index < rule.global_tokens) | (index > past - rule.window)]


def _after_a_cache(rule: Rule, length: int, past: int, device: torch.device) -> Visibility:
    """What new positions see of each other and of what the cache kept."""
    new_1T = torch.arange(past, past + length, device=device)[None]
    seen_1S = torch.cat((kept(rule, past, device)[None], new_1T), 1)
    query, key = (Places(index, index, torch.zeros_like(index)) for index in (new_1T, seen_1S))
    return Masked(sees(rule, query.at(..., None), key.at(..., None, slice(None)))[:, None])


def _places(length: int, positions_BT: Tensor | None, documents_BT: Tensor | None, device: torch.device) -> Places:
    """Places of whole rows, BT (or 1T where all rows are alike)."""
    index_1T = torch.arange(length, device=device)[None]
    if documents_BT is None:
        return Places(index_1T, index_1T, torch.zeros_like(index_1T))
    if positions_BT is None:
        raise ValueError("documents need the positions in them too")
    return Places(index_1T.expand_as(documents_BT), positions_BT.expand_as(documents_BT), documents_BT)


def _rows_without_mask(rule: Rule, documents_BT: Tensor) -> int:
    """How many rows at the beginning of the batch hold a single document that needs no mask of its own."""
    alone_BT = documents_BT == documents_BT[:, :1]
    if rule.causal:  # padding comes last in a row, so the past of a real position holds none of it
        alone_BT = alone_BT | (documents_BT == PADDING)
    return int(alone_BT.all(1).int().cumprod(0).sum())


@dataclass(frozen=True)
class Whole:
    """Every row is one document, and all of it is seen, or all that came before."""

    causal: bool

    def attend(self, q_BHTF: Tensor, k_BHSF: Tensor, v_BHSF: Tensor, drop: Drop | None) -> Tensor:
        if drop is None:
            return F.scaled_dot_product_attention(q_BHTF, k_BHSF, v_BHSF, is_causal=self.causal)
        length = q_BHTF.shape[2]
        mask_TT = torch.ones(length, length, dtype=torch.bool, device=q_BHTF.device)
        return Masked(mask_TT.tril()[None, None] if self.causal else mask_TT[None, None]).attend(
            q_BHTF, k_BHSF, v_BHSF, drop
        )


@dataclass(frozen=True)
class Masked:
    """A mask of all pairs: quadratic in the length."""

    mask_B1TS: Tensor
    first_row: int = 0
    """Rows of the batch before these."""

    def attend(self, q_BHTF: Tensor, k_BHSF: Tensor, v_BHSF: Tensor, drop: Drop | None) -> Tensor:
        factors = None
        if drop is not None:
            batch, heads, length, _ = q_BHTF.shape
            rows_B = torch.arange(self.first_row, self.first_row + batch, device=q_BHTF.device)
            index_1T = torch.arange(length, device=q_BHTF.device)[None]
            factors = drop(rows_B, heads, index_1T, index_1T)
        return masked_attention(q_BHTF, k_BHSF, v_BHSF, self.mask_B1TS, factors)


@dataclass(frozen=True)
class Split:
    """The first rows need no mask, the others do."""

    rows: int
    first: Visibility
    rest: Visibility

    def attend(self, q_BHTF: Tensor, k_BHSF: Tensor, v_BHSF: Tensor, drop: Drop | None) -> Tensor:
        # Cut and joined where rows lie whole, and their gradients too: each is then copied once, in one go.
        sizes = [self.rows, len(q_BHTF) - self.rows]
        cut = zip(*(torch.split(x_BHTF.transpose(1, 2), sizes) for x_BHTF in (q_BHTF, k_BHSF, v_BHSF)), strict=True)
        found = [
            form.attend(q_BTHF.transpose(1, 2), k_BSHF.transpose(1, 2), v_BSHF.transpose(1, 2), drop).transpose(1, 2)
            for form, (q_BTHF, k_BSHF, v_BSHF) in zip((self.first, self.rest), cut, strict=True)
        ]
        return torch.cat(found).transpose(1, 2)
