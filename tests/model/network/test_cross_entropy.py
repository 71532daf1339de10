from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from model.network import cross_entropy as module
from model.network.cross_entropy import Softening, summed_cross_entropy


@pytest.mark.parametrize(("scale", "cap"), [(1.0, None), (60.0, None), (1.0, 2.0), (60.0, 15.0)])
def test_loss_and_gradients_are_those_of_the_plain_form_in_float64(
    monkeypatch: pytest.MonkeyPatch, scale: float, cap: float | None
) -> None:
    monkeypatch.setattr(module, "CHUNK_LOGITS", 50 * 16)  # several chunks, the last one shorter
    x, weight = torch.randn(75, 12) * scale, torch.randn(50, 12)
    targets = torch.randint(0, 50, (75,))
    leaves = [tensor.clone().requires_grad_() for tensor in (x, weight)]
    loss = summed_cross_entropy(*leaves, targets, cap)
    (loss * 0.25).backward()
    wide = [tensor.double().requires_grad_() for tensor in (x, weight)]
    logits = wide[0] @ wide[1].t()
    logits = logits if cap is None else cap * torch.tanh(logits / cap)
    wanted = cross_entropy(logits, targets, reduction="sum")
    (wanted * 0.25).backward()
    assert float(loss.detach()) == pytest.approx(float(wanted), rel=1e-5)
    for ours, theirs in zip(leaves, wide, strict=True):
        error = (ours.grad - theirs.grad).norm() / theirs.grad.norm()
        assert float(error) < 1e-4


def test_frozen_weights_get_no_gradient_and_no_positions_cost_nothing() -> None:
    x, weight = torch.randn(5, 4, requires_grad=True), torch.randn(9, 4)
    summed_cross_entropy(x, weight, torch.tensor([0, 1, 2, 3, 8])).backward()
    assert x.grad is not None
    assert weight.grad is None
    empty = summed_cross_entropy(x[:0], weight, torch.empty(0, dtype=torch.int64))
    empty.backward()
    assert float(empty) == 0.0


def test_what_is_not_a_number_stays_so() -> None:
    x = torch.full((3, 4), float("nan"), requires_grad=True)
    assert summed_cross_entropy(x, torch.randn(9, 4), torch.tensor([0, 1, 2])).isnan()


@pytest.mark.parametrize("chunk", [16, 25, 74, 75, 200])  # positions: 75 of them are cut evenly, unevenly or not at all
@pytest.mark.parametrize(
    ("smoothing", "z_loss", "cap"), [(0.1, 0.0, None), (0.0, 1e-2, None), (0.2, 1e-2, None), (0.2, 1e-2, 3.0)]
)
def test_softened_loss_and_gradients_are_those_of_the_formulas_in_float64(
    monkeypatch: pytest.MonkeyPatch, chunk: int, smoothing: float, z_loss: float, cap: float | None
) -> None:
    monkeypatch.setattr(module, "CHUNK_LOGITS", 50 * chunk)
    x, weight = torch.randn(75, 12), torch.randn(50, 12)
    targets = torch.randint(0, 50, (75,))
    leaves = [tensor.clone().requires_grad_() for tensor in (x, weight)]
    softened, plain = summed_cross_entropy(*leaves, targets, cap, Softening(smoothing, z_loss)).unbind()
    (softened * 0.25).backward()
    wide = [tensor.double().requires_grad_() for tensor in (x, weight)]
    logits = wide[0] @ wide[1].t()
    logits = logits if cap is None else cap * torch.tanh(logits / cap)
    wanted = cross_entropy(logits, targets, reduction="sum", label_smoothing=smoothing)
    wanted = wanted + z_loss * torch.logsumexp(logits, 1).square().sum()
    (wanted * 0.25).backward()
    assert float(softened.detach()) == pytest.approx(float(wanted.detach()), rel=1e-5)
    assert float(plain.detach()) == pytest.approx(float(cross_entropy(logits, targets, reduction="sum")), rel=1e-5)
    for ours, theirs in zip(leaves, wide, strict=True):
        error = (ours.grad - theirs.grad).norm() / theirs.grad.norm()
        assert float(error) < 1e-4


class LargestOutput(TorchDispatchMode):
    """The most values that any operation gave."""

    values = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        sizes = [leaf.numel() for leaf in tree_leaves(made) if isinstance(leaf, torch.Tensor)]
        self.values = max(self.values, *sizes, 0)
        return made


@pytest.mark.parametrize("cap", [None, 3.0])
@pytest.mark.parametrize("softening", [None, Softening(0.1, 1e-4)])
def test_logits_are_never_held_whole(
    monkeypatch: pytest.MonkeyPatch, cap: float | None, softening: Softening | None
) -> None:
    """300 positions of a vocabulary of 64 have fifteen chunks' logits."""
    monkeypatch.setattr(module, "CHUNK_LOGITS", 64 * 20)
    x, weight = torch.randn(300, 4, requires_grad=True), torch.randn(64, 4, requires_grad=True)
    with LargestOutput() as largest:
        loss = summed_cross_entropy(x, weight, torch.randint(0, 64, (300,)), cap, softening)
        (loss if softening is None else loss[0]).backward()
    assert x.grad is not None
    assert largest.values == 64 * 20
