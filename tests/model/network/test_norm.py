"""What is written out for speed, values and gradients, against formulas that autograd differentiates."""

from __future__ import annotations

import pytest
import torch

from model.network.norm import RMSNorm
from model.network.positions import rotate, rotation


@pytest.mark.parametrize("shape", [(2, 5, 12), (3, 4, 2, 8), (1, 1, 2)])
@pytest.mark.parametrize("learns", [True, False])
def test_rmsnorm_and_its_gradients(shape: tuple[int, ...], learns: bool) -> None:
    torch.manual_seed(len(shape))
    norm = RMSNorm(shape[-1], 1e-3)
    norm.weight.data.normal_()
    norm.weight.requires_grad_(learns)
    x = torch.randn(shape, requires_grad=True)
    above = torch.randn(shape)
    made = norm(x)
    made.backward(above)

    wanted_x = x.detach().double().requires_grad_()
    weight = norm.weight.detach().double().requires_grad_()
    wanted = wanted_x / (wanted_x.square().mean(-1, keepdim=True) + 1e-3).sqrt() * weight
    wanted.backward(above.double())
    torch.testing.assert_close(made.double(), wanted, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(x.grad.double(), wanted_x.grad, rtol=1e-4, atol=1e-5)
    if learns:
        torch.testing.assert_close(norm.weight.grad.double(), weight.grad, rtol=1e-4, atol=1e-5)
    else:
        assert norm.weight.grad is None


def test_rotation_is_a_product_of_complex_numbers() -> None:
    torch.manual_seed(1)
    positions_BT = torch.tensor([[0, 1, 2, 0, 1], [0, 1, 2, 3, 4]])
    x_BTHF = torch.randn(2, 5, 3, 8, requires_grad=True)
    above = torch.randn(2, 5, 3, 8)
    made = rotate(x_BTHF, *rotation(positions_BT, 8, 100.0, None, torch.float32))
    made.backward(above)

    pairs = x_BTHF.detach().double().requires_grad_()
    angles_BTP = positions_BT[..., None] / 100.0 ** (torch.arange(4).double() / 4)
    turned = torch.complex(*pairs.chunk(2, -1)) * torch.polar(torch.ones_like(angles_BTP), angles_BTP)[:, :, None]
    wanted = torch.cat((turned.real, turned.imag), -1)
    wanted.backward(above.double())
    torch.testing.assert_close(made.double(), wanted, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(x_BTHF.grad.double(), pairs.grad, rtol=1e-5, atol=1e-5)
