"""Products of 8-bit floats against the same written out in float64, and a network that multiplies so."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from model.config import ModelConfig
from model.network import float8
from model.network.transformer import Transformer
from storage.errors import UserError

E4M3, E5M2 = torch.float8_e4m3fn, torch.float8_e5m2


def rounded(x: Tensor, kind: torch.dtype, largest: float) -> Tensor:
    """To 8 bits and back, scaled so that the largest value is the format's largest; float64."""
    scale = x.abs().max().double() / largest
    return (x.double() / scale).float().to(kind).double() * scale


@pytest.fixture
def example() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(4)
    x, weight, gradient = (torch.randn(*size, generator=generator) for size in ((32, 48), (16, 48), (32, 16)))
    return x * 7, weight * 0.02, gradient * 1e-6


def test_a_product_and_its_gradients_are_those_of_rounded_factors(example: tuple[Tensor, Tensor, Tensor]) -> None:
    x, weight, gradient = example
    x.requires_grad_(), weight.requires_grad_()
    out = float8.Product.apply(x, weight)
    out.backward(gradient.to(out.dtype))
    x8, weight8 = rounded(x.detach(), E4M3, 448.0), rounded(weight.detach(), E4M3, 448.0)
    gradient8 = rounded(gradient.bfloat16(), E5M2, 57344.0)
    assert out.dtype == torch.bfloat16
    assert x.grad is not None
    assert weight.grad is not None
    for found, wanted in ((out, x8 @ weight8.T), (x.grad, gradient8 @ weight8), (weight.grad, gradient8.T @ x8)):
        assert float((found.detach().double() - wanted).norm() / wanted.norm()) < 5e-3  # bfloat16's


def test_what_is_rounded_is_near(example: tuple[Tensor, Tensor, Tensor]) -> None:
    x, weight, _ = example
    exact = x.double() @ weight.double().T
    found = float8.Product.apply(x, weight).double()
    assert 1e-3 < float((found - exact).norm() / exact.norm()) < 0.1


def test_zeros_stay_zeros() -> None:
    found, scale = float8.scaled(torch.zeros(16, 16), E4M3)
    assert float(scale) > 0
    assert not found.float().any()


def test_a_network_computes_its_blocks_so_and_nothing_else() -> None:
    shape = ModelConfig(layers=2, width=32, heads=2, context=16, biases="all")
    network = Transformer(shape, 19)
    network.initialise(1)
    tokens = torch.arange(32).view(2, 16) % 19
    targets = tokens.roll(-1, 1)
    exact = network(tokens, targets_BT=targets)
    float8.apply(network)
    found = network(tokens, targets_BT=targets)
    found.backward()
    assert found.item() != exact.item()
    assert found.item() == pytest.approx(exact.item(), rel=0.02)
    assert all(weight.grad is not None and weight.grad.any() for weight in network.parameters())


def test_without_a_gpu_it_is_refused() -> None:
    with pytest.raises(UserError, match="use fp32 or bf16"):
        float8.check_device(torch.device("cpu"))
