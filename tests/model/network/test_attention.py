"""Every form of attention against the softmax over what the rule says, written out in float64."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from model.network.attention import Masked, kept, visibility
from model.network.dropout import Noise
from model.network.sight import PADDING, Rule
from model.network.windows import Blocks

CPU = torch.device("cpu")


def packed(lengths: list[int], total: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Documents and positions of a row that holds documents of these lengths, cut off or padded to ``total``."""
    documents = [number for number, length in enumerate(lengths) for _ in range(length)][:total]
    positions = [place for length in lengths for place in range(length)][:total]
    padding = total - len(documents)
    return torch.tensor(documents + [PADDING] * padding), torch.tensor(positions + [0] * padding)


def dense(rule: Rule, documents: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """The rule by its words, one query after the other: True where the query (row) sees the key (column)."""
    rows = []
    for t, (document, place) in enumerate(zip(documents.tolist(), positions.tolist(), strict=True)):
        first = t - place  # of the document
        seen = documents == document
        if rule.causal:
            seen[t + 1 :] = False
        if rule.window is not None:
            near = torch.zeros(len(documents), dtype=torch.bool)
            near[max(0, t - rule.window + 1) : t + rule.window] = True
            near[first : first + rule.global_tokens] = True
            seen &= near
        rows.append(seen)
    return torch.stack(rows)


def wanted(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    scores = (q.double() @ k.double().transpose(-1, -2)) * q.shape[-1] ** -0.5
    return scores.masked_fill(~mask, -torch.inf).softmax(-1) @ v.double()


rules = st.builds(Rule, causal=st.booleans(), window=st.none() | st.integers(3, 90), global_tokens=st.integers(0, 3))


@settings(max_examples=30, deadline=None)
@given(rules, st.lists(st.lists(st.integers(1, 300), min_size=1, max_size=6), min_size=1, max_size=3),
       st.integers(1, 420), st.integers(0, 2**20))  # fmt: skip
def test_all_forms_of_attention_are_the_softmax_over_what_the_rule_says(
    rule: Rule, rows: list[list[int]], length: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    places = [packed(lengths, length) for lengths in rows]
    documents, positions = (torch.stack([place[n] for place in places]) for n in (0, 1))
    q, k, v = (torch.randn(len(rows), 2, length, 4, generator=generator).requires_grad_() for _ in range(3))
    out = visibility(rule, length, 0, positions, documents, CPU).attend(q, k, v, None)
    masks = torch.stack([dense(rule, *place) for place in places])[:, None]
    real = (documents != PADDING)[:, None, :, None]
    expected = wanted(q, k, v, masks)
    torch.testing.assert_close(out * real, (expected * real).float(), rtol=1e-4, atol=1e-5)
    # ... and so are the gradients.
    weights = torch.randn(out.shape, generator=generator) * real
    found = torch.autograd.grad((out * weights).sum(), (q, k, v))
    for ours, theirs in zip(found, torch.autograd.grad((expected * weights).sum(), (q, k, v)), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("causal", [True, False])
def test_a_window_costs_time_and_memory_in_proportion_to_the_length(causal: bool) -> None:
    rule = Rule(causal, window=48, global_tokens=2)
    flops, bytes_held = [], []
    for length in (1024, 2048, 4096):
        documents, positions = packed([700, 300, 5000], length)
        seen = visibility(rule, length, 0, positions[None], documents[None], CPU)
        assert isinstance(seen, Blocks)
        q, k, v = (torch.randn(1, 2, length, 8, requires_grad=True) for _ in range(3))
        held: list[int] = []
        with (
            sdpa_kernel(SDPBackend.MATH),  # whose matrix products are counted
            FlopCounterMode(display=False) as counter,
            torch.autograd.graph.saved_tensors_hooks(lambda t, held=held: held.append(t.numel()) or t, lambda t: t),
        ):
            seen.attend(q, k, v, None).sum().backward()
        flops.append(counter.get_total_flops())
        bytes_held.append(sum(held) + seen.mask_BN1CE.numel())
    assert flops[0] > 0
    assert flops[1] == 2 * flops[0]
    assert flops[2] == 4 * flops[0]
    assert bytes_held[2] <= 4 * bytes_held[0]


def test_a_cache_sees_what_the_whole_row_sees() -> None:
    for rule in (Rule(), Rule(window=5), Rule(window=5, global_tokens=2)):
        q, k, v = (torch.randn(2, 2, 40, 4) for _ in range(3))
        whole = visibility(rule, 40, 0, None, None, CPU).attend(q, k, v, None)
        for start, stop in ((0, 7), (7, 8), (8, 30), (30, 31), (31, 40)):
            part = visibility(rule, stop - start, start, None, None, CPU)
            held = torch.cat((kept(rule, start, CPU), torch.arange(start, stop)))
            assert rule.window is None or len(held) < rule.window + rule.global_tokens + stop - start
            found = part.attend(q[:, :, start:stop], k[:, :, held], v[:, :, held], None)
            torch.testing.assert_close(found, whole[:, :, start:stop], rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="bidirectional attention has no cache"):
        visibility(Rule(causal=False), 1, 4, None, None, CPU)


@pytest.mark.parametrize("causal", [True, False])
def test_dropped_probabilities_are_the_same_in_blocks_and_in_a_whole_mask(causal: bool) -> None:
    rule = Rule(causal, window=20, global_tokens=3)
    length, rows = 300, torch.tensor([11, 5])
    documents, positions = (
        torch.stack(both) for both in zip(packed([90, 250], length), packed([300], length), strict=True)
    )
    drop = Noise.of(3, rows).drop(0.3, site=6)
    q, k, v = (torch.randn(2, 5, length, 4) for _ in range(3))
    blocks = visibility(rule, length, 0, positions, documents, CPU)
    masks = torch.stack([dense(rule, documents[n], positions[n]) for n in (0, 1)])[:, None]
    out, whole = blocks.attend(q, k, v, drop), Masked(masks).attend(q, k, v, drop)
    torch.testing.assert_close(out, whole, rtol=1e-4, atol=1e-5)
    assert (out - blocks.attend(q, k, v, None)).abs().max() > 0.01
    # A row's choices follow from its number in the stream, wherever in a batch it lies.
    alone = visibility(rule, length, 0, positions[1:], documents[1:], CPU)
    again = alone.attend(q[1:], k[1:], v[1:], Noise.of(3, rows[1:]).drop(0.3, site=6))
    torch.testing.assert_close(again, out[1:], rtol=1e-4, atol=1e-5)
