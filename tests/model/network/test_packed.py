"""Attention by the kernel for many lengths: what it is given, with the kernel written out as a loop over documents.

That the GPU's kernel is that loop is a test of its own (``tests/model/test_gpu.py``).
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from model.network import packed
from model.network.attention import Masked, visibility
from model.network.dropout import Noise
from model.network.sight import PADDING, Rule

CPU = torch.device("cpu")
DOCUMENTS = torch.tensor([[0] * 7 + [1] * 20 + [PADDING] * 5, [3] * 32, [3] + [4] * 31])
POSITIONS = torch.tensor([[*range(7), *range(20), *range(5)], [*range(32)], [0, *range(31)]])


def each_by_itself(q: Tensor, k: Tensor, v: Tensor, bounds: Tensor, longest: int, causal: bool) -> Tensor:
    """softmax(q k^T / sqrt(F)) v for one document after the other."""
    parts = []
    for first, last in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
        assert 0 < last - first <= longest
        a, b, c = (x[first:last].transpose(0, 1).double() for x in (q, k, v))
        scores = a @ b.mT * a.shape[-1] ** -0.5
        if causal:
            scores = scores.masked_fill(torch.ones(scores.shape[-2:], device=q.device).triu(1).bool(), -torch.inf)
        parts.append((scores.softmax(-1) @ c).transpose(0, 1))
    return torch.cat(parts).to(q.dtype)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[torch.dtype]:
    """A GPU's way on the CPU; the kinds of numbers that the kernel was given."""
    found: list[torch.dtype] = []

    def kernel(*arguments: Tensor | int | bool) -> Tensor:
        assert isinstance(arguments[0], Tensor)
        found.append(arguments[0].dtype)
        return each_by_itself(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(packed, "flash", kernel)
    monkeypatch.setattr(packed, "has_kernel", lambda device: True)
    return found


def three(dtype: torch.dtype, features: int = 8) -> list[Tensor]:
    generator = torch.Generator().manual_seed(5)
    return [torch.randn(3, 2, 32, features, generator=generator).to(dtype).requires_grad_() for _ in range(3)]


@pytest.mark.parametrize("causal", [True, False])
def test_documents_laid_end_to_end_see_what_a_mask_shows_them(calls: list[torch.dtype], causal: bool) -> None:
    seen = visibility(Rule(causal), 32, 0, POSITIONS, DOCUMENTS, CPU)
    same = (DOCUMENTS[:, :, None] == DOCUMENTS[:, None])[:, None]
    masked = Masked(same & torch.ones(32, 32).tril().bool() if causal else same)
    inputs, weights = three(torch.bfloat16), torch.randn(3, 2, 32, 8)
    out, wanted = seen.attend(*inputs, None), masked.attend(*inputs, None)
    assert calls == [torch.bfloat16]
    torch.testing.assert_close(out, wanted, rtol=2e-2, atol=2e-2)
    found, expected = (torch.autograd.grad((x * weights).sum(), inputs) for x in (out, wanted))
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=5e-2, atol=5e-2)


def test_autocast_is_followed(calls: list[torch.dtype]) -> None:
    seen = visibility(Rule(), 32, 0, POSITIONS, DOCUMENTS, CPU)
    with torch.autocast("cpu", torch.bfloat16):
        seen.attend(*three(torch.float32), None)
    assert calls == [torch.bfloat16]


def test_what_the_kernel_does_not_do_is_done_with_a_mask(
    calls: list[torch.dtype], monkeypatch: pytest.MonkeyPatch
) -> None:
    drop = Noise.of(3, torch.arange(3)).drop(0.3, site=1)
    cases = [(three(torch.float32), None), (three(torch.bfloat16, 6), None), (three(torch.bfloat16), drop)]
    seen = visibility(Rule(), 32, 0, POSITIONS, DOCUMENTS, CPU)
    found = [seen.attend(*inputs, how) for inputs, how in cases]
    monkeypatch.undo()
    plain = visibility(Rule(), 32, 0, POSITIONS, DOCUMENTS, CPU)
    assert calls == []
    for out, (inputs, how) in zip(found, cases, strict=True):
        assert torch.equal(out, plain.attend(*inputs, how))
