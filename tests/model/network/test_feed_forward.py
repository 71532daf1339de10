"""Experts against one position at a time, and how evenly they are used against the formula written out."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from model.config import ModelConfig
from model.network.feed_forward import Choice, Choices, Experts, imbalance
from model.network.sight import PADDING

SHAPE = ModelConfig(layers=1, width=16, heads=2, context=8, experts=5, feed_forward=12)


def experts(chosen: int, activation: str = "swiglu") -> Experts:
    torch.manual_seed(3)
    shape = SHAPE.model_copy(update={"experts_chosen": chosen, "activation": activation})
    return Experts(shape, 5).double()


def one_by_one(made: Experts, x_BTD: Tensor) -> Tensor:
    """Every position by itself: its scores, its best experts, their outputs by the softmax of these scores."""
    outputs = []
    for x_D in x_BTD.flatten(0, 1):
        scores_E = made.gate(x_D)
        best = scores_E.argsort(descending=True)[: made.chosen]
        weights_K = scores_E[best].exp() / scores_E[best].exp().sum()
        outputs.append(sum(w * made.experts[int(e)](x_D) for w, e in zip(weights_K, best, strict=True)))
    return torch.stack(outputs).view_as(x_BTD)


@pytest.mark.parametrize("chosen", [1, 2, 5])
@pytest.mark.parametrize("activation", ["swiglu", "relu2"])
def test_values_and_gradients_are_those_of_one_position_at_a_time(chosen: int, activation: str) -> None:
    made = experts(chosen, activation)
    x = torch.randn(2, 7, 16, dtype=torch.float64, requires_grad=True)
    gradient = torch.randn(2, 7, 16, dtype=torch.float64)
    found = []
    for forward in (made, lambda x: one_by_one(made, x)):
        out = forward(x)
        leaves = [x, *made.parameters()]
        made_gradients = torch.autograd.grad(out, leaves, gradient, allow_unused=True)
        zeros = [torch.zeros_like(leaf) if g is None else g for leaf, g in zip(leaves, made_gradients, strict=True)]
        found.append([out, *zeros])
    for ours, wanted in zip(*found, strict=True):
        torch.testing.assert_close(ours, wanted, rtol=1e-6, atol=1e-7)  # scores are float32


def test_what_a_position_gets_does_not_depend_on_the_others() -> None:
    """Nothing is dropped, however many choose the same expert."""
    made = experts(2)
    x = torch.randn(1, 40, 16, dtype=torch.float64)
    crowd = torch.cat((x[:, :1].expand(-1, 30, -1), x), 1)
    torch.testing.assert_close(made(crowd)[:, 30:], made(x))
    torch.testing.assert_close(made(crowd)[:, :1], made(x[:, :1]))


def test_experts_that_nobody_chose_have_a_gradient_of_zero() -> None:
    made = experts(1)
    made(torch.randn(1, 1, 16, dtype=torch.float64)).sum().backward()
    gradients = [made_by.up_proj.weight.grad for made_by in made.experts]
    assert sum(bool(gradient.any()) for gradient in gradients) == 1


def written_out(choice: Choice, documents_BT: Tensor, counted_B: Tensor) -> float:
    total = 0.0
    for row, count in enumerate(counted_B.tolist()):
        real = [place for place, document in enumerate(documents_BT[row].tolist()) if document != PADDING]
        for expert in range(choice.scores_BTE.shape[-1]):
            asked = sum(choice.experts_BTK[row, place].tolist().count(expert) for place in real)
            mean = sum(float(choice.scores_BTE[row, place].softmax(-1)[expert]) for place in real) / max(len(real), 1)
            share = asked / (max(len(real), 1) * choice.experts_BTK.shape[-1])
            total += count * choice.scores_BTE.shape[-1] * share * mean
    return total


def choice_of(seed: int, rows: int = 3) -> Choice:
    scores = torch.randn(rows, 6, 5, generator=torch.Generator().manual_seed(seed))
    return Choice(scores, scores.topk(2, -1).indices)


def test_uneven_use_is_that_of_the_formula_and_adds_up_over_sequences() -> None:
    choices = [choice_of(1), choice_of(2)]
    documents = torch.tensor([[0, 0, 1, 1, 1, PADDING], [0] * 6, [PADDING] * 6])
    counted = torch.tensor([4, 6, 0])
    found = imbalance(Choices(choices), documents, counted)
    wanted = sum(written_out(choice, documents, counted) for choice in choices) / 2
    assert float(found) == pytest.approx(wanted, rel=1e-5)
    apart = [
        imbalance(
            Choices([Choice(c.scores_BTE[row : row + 1], c.experts_BTK[row : row + 1]) for c in choices]),
            documents[row : row + 1], counted[row : row + 1],
        )
        for row in range(3)
    ]  # fmt: skip
    assert float(sum(apart)) == pytest.approx(float(found), rel=1e-6)


def test_even_use_counts_one_and_the_worst_as_many_as_there_are_of_each_chosen() -> None:
    even = Choice(torch.zeros(1, 5, 5), torch.tensor([[[n, (n + 1) % 5] for n in range(5)]]))
    assert float(imbalance(Choices([even]), None, torch.tensor([1]))) == pytest.approx(1)
    scores = torch.full((1, 5, 5), -50.0)
    scores[..., :2] = 50.0
    worst = Choice(scores, torch.tensor([[[0, 1]] * 5]))
    assert float(imbalance(Choices([worst]), None, torch.tensor([1]))) == pytest.approx(5 / 2)
