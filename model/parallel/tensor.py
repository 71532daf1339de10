"""Tensor parallelism: every process of a group has a part of each matrix, and works out its part of each product.

M. Shoeybi et al. 2019, "Megatron-LM: Training Multi-Billion Parameter Language Models Using Model
Parallelism", arXiv 1909.08053, section 3. Queries, keys, values and inner features are cut by rows of
their matrices, so each process has some of the heads; the matrices that write to the stream are cut by
columns, and their products are summed; the tables of the vocabulary are cut by rows, and the softmax is
summed over its parts. Adapters are cut as their layers are. All else (the stream, norms, gains, what
is dropped) is the same on every process.

    B rows   T positions   D width   N predicted positions   C positions of a chunk   V rows of the table held here
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from model.network.cross_entropy import Softening, softened_cross_entropy
from model.network.feed_forward import FeedForward
from model.network.transformer import Layer, Setting, Transformer
from model.parallel.grid import Group


@dataclass(frozen=True)
class Share:
    """Which part of a whole weight a process has."""

    shape: tuple[int, ...]
    """Of the whole."""
    dimension: int
    """The one that is cut."""
    first: int
    count: int

    def of(self, whole: Tensor) -> Tensor:
        """The part; a view."""
        return whole.narrow(self.dimension, self.first, self.count)


def share_of(weight: Tensor) -> Share | None:
    """What a weight is of a whole; None where it is whole."""
    return getattr(weight, "share", None)


def address_of(weight: Tensor) -> tuple[int, tuple[int, int, int] | None]:
    """Where a weight begins in the whole one, flattened; or for columns 0, and the first, how many, and of how many."""
    share = share_of(weight)
    if share is None:
        return 0, None
    if share.dimension == 0:
        return share.first * math.prod(share.shape[1:]), None
    return 0, (share.first, share.count, share.shape[1])


@dataclass(frozen=True)
class TensorParallel:
    """The processes that have the matrices of one network between them."""

    group: Group

    def apply(self, network: Transformer) -> None:
        """Cut the network's weights, in place, and let it work together with the other processes."""
        decoder, head = network.model, network.lm_head
        self._cut_rows(decoder.embed_tokens)
        decoder.embed_tokens.forward = partial(self._looked_up, decoder.embed_tokens)  # type: ignore[method-assign]
        if share_of(head.weight) is None:  # it is not the embedding
            self._cut_rows(head)
        head.cross_entropy = self._cross_entropy
        head.register_forward_pre_hook(self._to_features)
        decoder.setting = self._with_heads(decoder.setting)  # type: ignore[method-assign]
        for layer in decoder.layers:
            assert isinstance(layer, Layer)
            self._cut_layer(layer)

    def _cut_layer(self, layer: Layer) -> None:
        attention, feed_forward = layer.self_attn, layer.mlp
        assert isinstance(feed_forward, FeedForward), "experts are refused before"
        self._cut_rows(attention.q_proj, attention.k_proj, attention.v_proj, feed_forward.up_proj)
        if feed_forward.activation == "swiglu":
            self._cut_rows(feed_forward.gate_proj)
        self._cut_columns(attention.o_proj, feed_forward.down_proj)
        layer.input_layernorm.register_forward_hook(self._from_one)
        feed_forward.register_forward_pre_hook(self._to_all)
        for norm in (attention.q_norm, attention.k_norm):
            if norm is not None:  # one for all heads, of which only some are here
                self._add_gradients(norm.weight)

    def _cut_rows(self, *modules: nn.Module) -> None:
        """They give their part of the features (or know their part of the vocabulary)."""
        for module in modules:
            for weight in _inner(module).parameters(recurse=False):  # a bias too
                self._cut(weight, 0)
            for down, up in _adapters(module):
                self._cut(up, 0)
                self._add_gradients(down)

    def _cut_columns(self, *modules: nn.Module) -> None:
        """They take their part of the features, and give the sum over all parts."""
        for module in modules:
            linear = _inner(module)
            self._cut(linear.weight, 1)
            linear.forward = partial(_without_bias, linear)  # type: ignore[method-assign]
            for down, up in _adapters(module):
                self._cut(down, 1)
                self._add_gradients(up)
            module.forward = partial(self._summed, module.forward, linear)  # type: ignore[method-assign]

    def _add_gradients(self, weight: Tensor) -> None:
        """Every process has it whole, but sees a part of what it does."""
        if weight.requires_grad:
            weight.register_hook(self._added)  # type: ignore[no-untyped-call]

    def _cut(self, weight: Tensor, dimension: int) -> None:
        size, (rank, processes) = weight.shape[dimension], (self.group.rank, self.group.size)
        first, last = size * rank // processes, size * (rank + 1) // processes
        share = Share(tuple(weight.shape), dimension, first, last - first)
        weight.data = share.of(weight.data).clone(memory_format=torch.contiguous_format)
        weight.share = share  # type: ignore[attr-defined]
        weight.tensor_model_parallel = True  # type: ignore[attr-defined]  # so that DeepSpeed counts it in norms

    # ---- forward and backward ----

    def _added(self, gradient: Tensor) -> Tensor:
        return self.group.add(gradient.clone(memory_format=torch.contiguous_format))

    def _to_all(self, module: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...]:
        """What goes into a module; the gradient of it is the sum of those of the processes."""
        return _Copied.apply(given[0], self.group), *given[1:]  # type: ignore[no-untyped-call]

    def _from_one(self, module: nn.Module, given: tuple[Any, ...], made: Tensor) -> Tensor:
        """The same of what comes out of a module."""
        return _Copied.apply(made, self.group)  # type: ignore[no-any-return, no-untyped-call]

    def _to_features(self, head: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...]:
        if len(given) < 2 or given[1] is None:
            raise ValueError("a network whose vocabulary is cut gives losses, not logits: give it targets")
        return self._to_all(head, given)

    def _summed(self, forward: Callable[[Tensor], Tensor], linear: nn.Linear, x_BTI: Tensor) -> Tensor:
        out_BTD: Tensor = _Added.apply(forward(x_BTI), self.group)  # type: ignore[no-untyped-call]
        return out_BTD if linear.bias is None else out_BTD + linear.bias

    def _looked_up(self, table: nn.Embedding, tokens_BT: Tensor) -> Tensor:
        share = share_of(table.weight)
        assert share is not None
        row_BT = tokens_BT - share.first
        elsewhere_BT = (row_BT < 0) | (row_BT >= share.count)
        x_BTD = F.embedding(row_BT.masked_fill(elsewhere_BT, 0), table.weight)
        x_BTD = x_BTD.masked_fill(elsewhere_BT[..., None], 0.0)
        return _Added.apply(x_BTD, self.group)  # type: ignore[no-any-return, no-untyped-call]

    def _with_heads(self, whole: Callable[..., Setting]) -> Callable[..., Setting]:
        """What makes a pass's setting: dropout of attention must know which of all heads are here."""

        def setting(*given: Any) -> Setting:
            made = whole(*given)
            return made if made.noise is None else replace(made, noise=replace(made.noise, part=self.group.rank))

        return setting

    def _cross_entropy(
        self, x_ND: Tensor, weight_VD: Tensor, targets_N: Tensor, cap: float | None, softening: Softening | None
    ) -> Tensor:
        """See ``model.network.cross_entropy.summed_cross_entropy``; the same on every process."""
        share = share_of(weight_VD)
        assert share is not None
        table = _Table(self.group, share, softening or Softening())
        both = softened_cross_entropy(x_ND, weight_VD, targets_N, cap, table)
        return both[0] if softening is None else torch.stack(both)

    # ---- whole values ----

    def whole(self, weight: Tensor, part: Tensor) -> Tensor:
        """Of the parts of a weight (or of what is shaped like it) on all processes; all must call it."""
        share = share_of(weight)
        if share is None:
            return part
        found = torch.zeros(share.shape, dtype=part.dtype, device=part.device)
        share.of(found).copy_(part)
        return self.group.add(found)


def _inner(module: nn.Module) -> nn.Linear:
    """The layer itself, without the adapters that ``peft`` may have put around it."""
    linear: Any = getattr(module, "base_layer", module)
    return linear  # type: ignore[no-any-return]


def _adapters(module: nn.Module) -> list[tuple[Tensor, Tensor]]:
    """The two matrices of each adapter around a layer: what reads its input, and what writes to its output."""
    downs, ups = getattr(module, "lora_A", {}), getattr(module, "lora_B", {})
    return [(downs[name].weight, ups[name].weight) for name in downs]


def _without_bias(linear: nn.Linear, x: Tensor) -> Tensor:
    return F.linear(x, linear.weight)


class _Copied(torch.autograd.Function):
    """The same on every process; the gradient is the sum of those of all."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, group: Group) -> Tensor:
        ctx.group = group
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        return ctx.group.add(gradient.clone(memory_format=torch.contiguous_format)), None


class _Added(torch.autograd.Function):
    """The sum over all processes; the gradient is the same on every one."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, group: Group) -> Tensor:
        return group.add(x.clone(memory_format=torch.contiguous_format))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        return gradient, None


@dataclass(frozen=True)
class _Table:
    """How the loss follows from logits of which each process has some."""

    group: Group
    share: Share
    softening: Softening

    def error(self, logits_CV: Tensor, targets_C1: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See ``model.network.cross_entropy.Errors``; the gradient is that by the logits held here."""
        spread, z_loss, vocabulary = self.softening.label_smoothing, self.softening.z_loss, self.share.shape[0]
        row_C1 = targets_C1 - self.share.first
        here_C1 = (row_C1 >= 0) & (row_C1 < self.share.count)
        row_C1 = row_C1.masked_fill(~here_C1, 0)
        top_C1 = self.group.add(logits_CV.amax(1, keepdim=True), dist.ReduceOp.MAX)
        error_CV = (logits_CV - top_C1).exp_()
        target_C1 = (logits_CV.gather(1, row_C1) - top_C1).masked_fill(~here_C1, 0.0)
        sums_C3 = torch.cat((error_CV.sum(1, keepdim=True), target_C1, logits_CV.sum(1, keepdim=True)), 1)
        total_C1, target_C1, all_C1 = (column_C[:, None] for column_C in self.group.add(sums_C3).unbind(1))
        plain = (total_C1.log() - target_C1).sum()
        normaliser_C1 = total_C1.log() + top_C1
        evenly = (normaliser_C1 - all_C1 / vocabulary).sum()
        softened = (1 - spread) * plain + spread * evenly + z_loss * normaliser_C1.square().sum()
        error_CV.mul_((1 + 2 * z_loss * normaliser_C1) / total_C1).sub_(spread / vocabulary)
        error_CV.scatter_add_(1, row_C1, here_C1.float() * (spread - 1))
        return softened, plain, error_CV
