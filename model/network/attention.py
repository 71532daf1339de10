"""Which positions see which, and attention over them in the fastest exact form.

One rule says who sees whom (``sees``); what differs is how much of it has to be written down:
nothing at all where the kernel's own causal form will do, where documents begin (``packed``, on
GPUs), a mask of all pairs, or, with a sliding
window, the pairs of blocks that lie near each other, so that time and memory grow with the length
and not with its square.

    B rows   T positions   S positions seen (T, or more with a cache)   H heads   F features of a head
    N blocks of C positions   E positions that a block may see: near ones, then global ones   R rows of one call
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from model.network import packed

PADDING = -1
"""In documents: this position belongs to no document."""
_OUTSIDE = -2
"""In documents: there is no such position; only blocks at the edges have them."""
_LEAST_BLOCK = 64
"""Positions of a block at least; smaller ones would be too little work for one matrix product."""

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
    if rule.window is not None and length > 2 * _block(rule.window):
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


def _attention(q_RHCF: Tensor, k_RHEF: Tensor, v_RHEF: Tensor, mask_R1CE: Tensor, factors: Tensor | None) -> Tensor:
    """Attention under a mask; with ``factors``, its probabilities are written out and multiplied by them."""
    if factors is None:
        return F.scaled_dot_product_attention(q_RHCF, k_RHEF, v_RHEF, attn_mask=mask_R1CE)
    scores_RHCE = (q_RHCF @ k_RHEF.transpose(-1, -2)).float() * q_RHCF.shape[-1] ** -0.5
    scores_RHCE = scores_RHCE.masked_fill(~mask_R1CE, -torch.inf)
    out_RHCF: Tensor = (scores_RHCE.softmax(-1) * factors).to(v_RHEF.dtype) @ v_RHEF
    return out_RHCF


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
        return _attention(q_BHTF, k_BHSF, v_BHSF, self.mask_B1TS, factors)


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


def _block(window: int) -> int:
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
        block = _block(window)
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
        out_RHCF = _attention(q_RHCF, k_RHEF, v_RHEF, mask_R1CE, factors)
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
