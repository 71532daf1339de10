"""Attention within a sliding window: blocks of positions, so that time and memory grow with the length.

B rows   T positions   S positions seen   H heads   F features of a head   G global tokens
N blocks of C positions   E positions that a block may see: near ones, then global ones   R rows of one call
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from model.network.sight import Drop, Places, Rule, masked_attention, sees

_OUTSIDE = -2
"""In documents: there is no such position; only blocks at the edges have them."""
_LEAST_BLOCK = 64
"""Positions of a block at least; smaller ones would be too little work for one matrix product."""


def block_of(window: int) -> int:
    """Positions of a block: half the window, so that a block sees three halves of it."""
    return max(_LEAST_BLOCK, -(-window // 32) * 16)


@dataclass(frozen=True)
class Blocks:
    """A window: blocks of positions, each with the keys near it and the global ones of its document.

    A global key that is near is among the near ones. One that is not can only belong to the document
    of the block's first position, for any later document begins within the block; so a block needs
    no more than that one document's global keys.
    """

    block: int
    """C."""
    before: int
    """Keys before a block's first position that it may see."""
    after: int
    """Keys behind a block's last position that it may see."""
    padding: int
    """Positions that fill the last block up."""
    mask_BN1CE: Tensor
    index_BNE: Tensor
    """Places of a block's keys in the row."""
    globals_BNG: Tensor | None
    """Places of the global keys in the row."""

    @classmethod
    def of(cls, rule: Rule, places: Places) -> Blocks:
        """The blocks of rows that have these places (BT, or 1T for all alike)."""
        window, length = rule.window or 1, places.index.shape[1]
        block = block_of(window)
        before, after = window - 1, 0 if rule.causal else window - 1
        padding = -length % block

        def filled(values_BT: Tensor, filling: int, front: int, back: int) -> Tensor:
            return F.pad(values_BT, (front, back + padding), value=filling)

        def blocks(front: int, back: int) -> Places:  # the places that blocks hold, or see: BNC, or BNE
            size = front + block + back
            index = filled(places.index, 0, front, back).unfold(1, size, block)
            position = filled(places.position, rule.global_tokens, front, back).unfold(1, size, block)
            return Places(index, position, filled(places.document, _OUTSIDE, front, back).unfold(1, size, block))

        queries, keys = blocks(0, 0), blocks(before, after)
        mask_BNCE = sees(rule, queries.at(..., None), keys.at(..., None, slice(None)))
        # What fills the last block up sees itself, as a softmax over nothing is not a number.
        own = torch.arange(block, device=mask_BNCE.device)
        mask_BNCE[..., own, own + before] = True
        index_BNE, globals_BNG = keys.index, None
        if rule.global_tokens:
            first_BN1 = queries.at(..., slice(0, 1))
            offsets_G = torch.arange(rule.global_tokens, device=mask_BNCE.device)
            found_BNG = first_BN1.index - first_BN1.position + offsets_G
            globals_BNG = found_BNG.clamp(0, length - 1)
            document_BNG = places.document.gather(1, globals_BNG.flatten(1)).view_as(globals_BNG)
            extra = Places(found_BNG, offsets_G.expand_as(found_BNG), document_BNG)
            far_BN1G = (found_BNG < first_BN1.index - before)[..., None, :] & (found_BNG >= 0)[..., None, :]
            mask_BNCG = sees(rule, queries.at(..., None), extra.at(..., None, slice(None))) & far_BN1G
            mask_BNCE = torch.cat((mask_BNCE, mask_BNCG), -1)
            index_BNE = torch.cat((index_BNE, globals_BNG), -1)
        return cls(block, before, after, padding, mask_BNCE[:, :, None], index_BNE, globals_BNG)

    def attend(self, q_BHTF: Tensor, k_BHSF: Tensor, v_BHSF: Tensor, drop: Drop | None) -> Tensor:
        batch, heads, length, _ = q_BHTF.shape
        count = self.mask_BN1CE.shape[1]
        q_RHCF = self._blocked(q_BHTF, 0, 0)
        k_RHEF, v_RHEF = self._with_globals(k_BHSF), self._with_globals(v_BHSF)
        mask_R1CE = self.mask_BN1CE.expand(batch, -1, -1, -1, -1).flatten(0, 1)
        factors = None
        if drop is not None:
            rows_R = torch.arange(batch, device=q_BHTF.device).repeat_interleave(count)
            index_RE = self.index_BNE.expand(batch, -1, -1).flatten(0, 1)
            queries_R = torch.arange(count * self.block, device=q_BHTF.device).view(count, self.block)
            factors = drop(rows_R, heads, queries_R.repeat(batch, 1), index_RE)
        out_RHCF = masked_attention(q_RHCF, k_RHEF, v_RHEF, mask_R1CE, factors)
        out_BHTF: Tensor = out_RHCF.view(batch, count, *out_RHCF.shape[1:]).transpose(1, 2).flatten(2, 3)
        return out_BHTF[:, :, :length]

    def _blocked(self, x_BHTF: Tensor, front: int, back: int) -> Tensor:
        """Overlapping stretches of a block and what lies near it: RH(front + C + back)F."""
        size = front + self.block + back
        filled = F.pad(x_BHTF, (0, 0, front, back + self.padding))
        return filled.unfold(2, size, self.block).permute(0, 2, 1, 4, 3).flatten(0, 1)

    def _with_globals(self, x_BHSF: Tensor) -> Tensor:
        """Keys (or values) that each block may see: RHEF."""
        near_RHEF = self._blocked(x_BHSF, self.before, self.after)
        if self.globals_BNG is None:
            return near_RHEF
        batch, heads, _, features = x_BHSF.shape
        globals_BNG = self.globals_BNG.expand(batch, -1, -1)
        where = globals_BNG.flatten(1)[:, None, :, None].expand(-1, heads, -1, features)
        far = x_BHSF.gather(2, where).view(batch, heads, *globals_BNG.shape[1:], features)
        return torch.cat((near_RHEF, far.transpose(1, 2).flatten(0, 1)), 2)
