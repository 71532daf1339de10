"""Dropout whose choices are a function of the seed and of the place, not of what was drawn before.

Every value that may be dropped has an address: the seed, the row's number in the stream of training
sequences, the place in the row, the layer, the feature (or the other place, for attention). A hash
of the address (SplitMix64's finaliser: Steele, Lea and Flood 2014) says whether it is dropped. So
masks are the same on any device, after a restart, on another number of processes, and when
activations are computed a second time for the backward pass.

    B rows   T positions   D features   R rows of an attention call   H heads   C queries   E keys
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from model.network.sight import Drop

_LANES = 4
"""Numbers of 16 bits in a hash: each decides about one value."""
_STEP = -7046029254386353131
"""2^64 / golden ratio, as a signed integer: what addresses are spread with."""


@dataclass(frozen=True)
class Noise:
    """What is dropped in one pass through the network."""

    rows_B: Tensor
    """int64 hash of the seed and the row's number."""
    part: int = 0
    """Which of as many equal parts of all heads is here (see ``model.parallel.tensor``)."""

    @classmethod
    def of(cls, seed: int, rows_B: Tensor) -> Noise:
        """From the rows' numbers in the stream (int64)."""
        return cls(_hashed(_hashed(torch.full_like(rows_B, seed & (2**63 - 1))) + rows_B * _STEP))

    def features(self, x_BTD: Tensor, probability: float, site: int) -> Tensor:
        """``x`` with values dropped, and the others scaled up; ``site`` tells the uses in a network apart."""
        factors_BTD = self.factors(x_BTD, probability, site)
        return x_BTD if factors_BTD is None else x_BTD * factors_BTD

    def factors(self, x_BTD: Tensor, probability: float, site: int) -> Tensor | None:
        """What ``features`` multiplies by; None where nothing is dropped."""
        if not probability:
            return None
        _, length, width = x_BTD.shape
        places_T = torch.arange(length, device=x_BTD.device)
        address_BT1 = _joined(_joined(self.rows_B[:, None], site), places_T)[..., None]
        lanes_D = torch.arange(-(-width // _LANES), device=x_BTD.device)
        return _factors(_joined(address_BT1, lanes_D), width, probability).to(x_BTD.dtype)

    def drop(self, probability: float, site: int) -> Drop | None:
        """The dropping of attention's probabilities; None where nothing is dropped."""
        return partial(self._pairs, probability, site) if probability else None

    def _pairs(self, probability: float, site: int, rows_R: Tensor, heads: int, q_RC: Tensor, k_RE: Tensor) -> Tensor:
        address_R = _joined(self.rows_B[rows_R], site)
        address_RC1 = _joined(address_R[:, None], q_RC)[..., None]
        address_RCE = _joined(address_RC1, k_RE[:, None, :])
        first, beyond = self.part * heads, (self.part + 1) * heads
        lanes = torch.arange(first // _LANES, -(-beyond // _LANES), device=k_RE.device)
        factors = _factors(_joined(address_RCE[..., None], lanes), first % _LANES + heads, probability)
        return factors[..., first % _LANES :].movedim(-1, 1)


def _joined(address: Tensor, part: Tensor | int) -> Tensor:
    """The hash of an address with one more part (an integer) to it."""
    return _hashed(address + (torch.as_tensor(part, device=address.device) + 1) * _STEP)


def _hashed(x: Tensor) -> Tensor:
    """SplitMix64's finaliser on int64, which wraps around as unsigned integers do."""
    x = (x ^ _shifted(x, 30)) * -4658895280553007687
    x = (x ^ _shifted(x, 27)) * -7723592293110705685
    return x ^ _shifted(x, 31)


def _shifted(x: Tensor, bits: int) -> Tensor:
    """Logical shift to the right."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def _factors(hashes: Tensor, width: int, probability: float) -> Tensor:
    """0 or 1 / (1 - p) for ``width`` values from a quarter as many hashes (..., width); p in steps of 2^-16."""
    bound = min(round(probability * 2**16), 2**16 - 1)
    kept = hashes.contiguous().view(torch.int16)[..., :width] >= bound - 2**15
    return kept * (1.0 / (1.0 - bound / 2**16))
