"""Sequence parallelism: the positions of a sequence are shared out, and attention exchanges them for heads.

S. A. Jacobs et al. 2023, "DeepSpeed Ulysses", arXiv 2309.14509: every process holds T/S positions of
the same sequences; before attention, one all-to-all gives it all T positions of H/S heads, and
another gives the result back. All else in the network works on single positions.

    B rows   T positions   H heads   F features of a head   S processes of the group
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from model.data.batches import Batch
from model.network.attention import Visibility
from model.network.sight import Drop, Rule
from model.network.transformer import Setting, Transformer
from model.parallel.grid import Group


@dataclass(frozen=True)
class Sharing:
    """The processes that share the positions of the same sequences."""

    group: Group

    def cut(self, batch: Batch) -> Batch:
        """This process's positions of the batch."""
        names = ("tokens_BT", "targets_BT", "documents_BT", "positions_BT")
        return replace(batch, **{name: self._own(getattr(batch, name)) for name in names})

    def apply(self, network: Transformer) -> None:
        """Let the network take shares of sequences, and attend to all of them."""
        decoder = network.model
        decoder.setting = self._shared(decoder.setting)  # type: ignore[method-assign]

    def _shared(self, whole: Callable[..., Setting]) -> Callable[..., Setting]:
        """What makes a pass's setting from shares, from what makes it from whole sequences."""

        def setting(
            positions_BT: Tensor, documents_BT: Tensor | None, cache: None, rows_B: Tensor | None, dtype: torch.dtype
        ) -> Setting:
            documents = None if documents_BT is None else self._all(documents_BT)
            made = whole(self._all(positions_BT), documents, cache, rows_B, dtype)
            angles = None
            if made.angles is not None:
                angles = (self._own(made.angles[0]), self._own(made.angles[1]))
            visible: dict[Rule, Visibility] = {rule: Exchanging(self, inner) for rule, inner in made.visible.items()}
            return replace(made, angles=angles, visible=visible)

        return setting

    def _own(self, x_BT: Tensor) -> Tensor:
        return x_BT.chunk(self.group.size, 1)[self.group.rank].contiguous()

    def _all(self, share_BT: Tensor) -> Tensor:
        parts = [torch.empty_like(share_BT) for _ in range(self.group.size)]
        dist.all_gather(parts, share_BT.contiguous(), group=self.group.process_group)
        return torch.cat(parts, 1)


@dataclass(frozen=True)
class Exchanging:
    """See ``model.network.attention.Visibility``: attention among the shares of all processes of the group."""

    sharing: Sharing
    whole: Visibility

    def attend(self, q_BHTF: Tensor, k_BHSF: Tensor, v_BHSF: Tensor, drop: Drop | None) -> Tensor:
        if drop is not None:
            raise ValueError("dropout of attention does not know which heads a process of a shared sequence holds")
        q, k, v = (_to_heads(x, self.sharing) for x in (q_BHTF, k_BHSF, v_BHSF))
        return _to_positions(self.whole.attend(q, k, v, None), self.sharing)


def _to_heads(x_BHtF: Tensor, sharing: Sharing) -> Tensor:
    """From T/S positions of all heads to all positions of H/S heads."""
    size = sharing.group.size
    batch, heads, length, features = x_BHtF.shape
    cut = x_BHtF.view(batch, size, heads // size, length, features).transpose(0, 1)
    received = _exchange(cut, sharing)  # this process's heads, by the sender's positions
    return received.permute(1, 2, 0, 3, 4).reshape(batch, heads // size, size * length, features)


def _to_positions(x_BhTF: Tensor, sharing: Sharing) -> Tensor:
    """From all positions of H/S heads to T/S positions of all heads."""
    size = sharing.group.size
    batch, heads, length, features = x_BhTF.shape
    cut = x_BhTF.view(batch, heads, size, length // size, features).permute(2, 0, 1, 3, 4)
    received = _exchange(cut, sharing)  # this process's positions, by the sender's heads
    return received.transpose(0, 1).reshape(batch, size * heads, length // size, features)


def _exchange(x: Tensor, sharing: Sharing) -> Tensor:
    """Part i of the first dimension goes to process i, and comes from process i."""
    received: Tensor = _Exchange.apply(x, sharing.group.process_group)  # type: ignore[no-untyped-call]
    return received


class _Exchange(torch.autograd.Function):
    """All-to-all over the first dimension; its gradient goes the same way back."""

    @staticmethod
    def forward(context: Any, x: Tensor, group: Any) -> Tensor:
        context.group = group
        return _exchanged(x, group)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        return _exchanged(gradient, context.group), None


def _exchanged(x: Tensor, group: Any) -> Tensor:
    received = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    dist.all_to_all_single(received, x.contiguous(), group=group)
    return received
