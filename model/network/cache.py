"""What a network remembers of the positions seen so far, so that text is generated token by token.

B sequences   T new positions   S positions seen   K key/value heads   F features of a head
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from model.network.attention import kept
from model.network.sight import Rule


@dataclass
class Cache:
    """Keys and values; layers with a window keep only what later positions may see."""

    length: int = 0
    """Positions seen so far."""
    layers: dict[int, tuple[Tensor, Tensor, Tensor]] = field(default_factory=dict)
    """Per layer: the places of the positions it holds, keys_BKSF and values_BKSF."""

    def extend(self, layer: int, rule: Rule, k_BKTF: Tensor, v_BKTF: Tensor) -> tuple[Tensor, Tensor]:
        """Append new positions; returns keys and values of all that they may see, in rising order of place."""
        length = k_BKTF.shape[2]
        index_S = torch.arange(self.length, self.length + length, device=k_BKTF.device)
        if layer in self.layers:
            old_S, old_k, old_v = self.layers[layer]
            if rule.window is not None:
                still = torch.isin(old_S, kept(rule, self.length, old_S.device))
                old_S, old_k, old_v = old_S[still], old_k[:, :, still], old_v[:, :, still]
            index_S = torch.cat((old_S, index_S))
            k_BKTF, v_BKTF = torch.cat((old_k, k_BKTF), 2), torch.cat((old_v, v_BKTF), 2)
        self.layers[layer] = (index_S, k_BKTF, v_BKTF)
        return k_BKTF, v_BKTF
