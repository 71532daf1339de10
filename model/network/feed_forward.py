"""What follows attention in a block: one feed-forward for all, or experts of which each position chooses some.

Each position's experts are those with the highest scores, and their outputs are added up by the softmax
of these scores (Shazeer et al. 2017, section 2.1; Jiang et al. 2024, "Mixtral of Experts", section 2.1).
An expert takes all who choose it: nothing is dropped, and no position depends on what others choose.

    B sequences   T positions   N = B x T   D width   I inner features   E experts   K of them chosen
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from model.config import ModelConfig
from model.network.sight import PADDING


class FeedForward(nn.Module):
    """down(silu(gate(x)) * up(x)), or down(activation(up(x)))."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.activation, biased = config.activation, config.biases == "all"
        if config.activation == "swiglu":
            self.gate_proj = nn.Linear(config.width, config.inner_features, bias=biased)
        self.up_proj = nn.Linear(config.width, config.inner_features, bias=biased)
        self.down_proj = nn.Linear(config.inner_features, config.width, bias=biased)

    def forward(self, x_BTD: Tensor) -> Tensor:
        inner_BTI = self.up_proj(x_BTD)
        if self.activation == "swiglu":
            inner_BTI = F.silu(self.gate_proj(x_BTD)) * inner_BTI
        else:
            inner_BTI = F.gelu(inner_BTI) if self.activation == "gelu" else F.relu(inner_BTI).square()
        return self.down_proj(inner_BTI)  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Choice:
    """What the positions of a batch chose in a layer."""

    scores_BTE: Tensor
    """float32."""
    experts_BTK: Tensor
    """int64."""


@dataclass
class Choices:
    """What is put down about each layer in a pass; no plain list, of which ZeRO 3 would give the modules copies."""

    layers: list[Choice] = field(default_factory=list)


class Experts(nn.Module):
    """Feed-forwards of which each position has its own few."""

    def __init__(self, config: ModelConfig, count: int) -> None:
        super().__init__()
        self.chosen = config.experts_chosen
        self.gate = nn.Linear(config.width, count, bias=False)
        self.experts = nn.ModuleList(FeedForward(config) for _ in range(count))

    def forward(self, x_BTD: Tensor, choices: Choices | None = None) -> Tensor:
        """``choices``: where to add what was chosen."""
        scores_BTE = self.gate(x_BTD).float()
        best = scores_BTE.topk(self.chosen, -1)
        if choices is not None:
            choices.layers.append(Choice(scores_BTE, best.indices))
        # Every position stands once in the queue of each of its experts; a queue is one product of matrices.
        expert_Q = best.indices.flatten()
        queue_Q = expert_Q.argsort(stable=True)
        lengths = torch.bincount(expert_Q, minlength=len(self.experts)).tolist()
        copies_QD = x_BTD[:, :, None].expand(-1, -1, self.chosen, -1).flatten(0, 2)
        queues = torch.split(copies_QD[queue_Q], lengths)
        # Those that nobody chose take part too: their weights are to have a gradient on every process.
        made_QD = torch.cat([expert(x_ND) for expert, x_ND in zip(self.experts, queues, strict=True)])
        made_BTKD = made_QD[queue_Q.argsort()].view(*best.indices.shape, -1)
        weights_BTK = best.values.softmax(-1).to(made_BTKD.dtype)
        out_BTD: Tensor = (made_BTKD * weights_BTK[..., None]).sum(2)
        return out_BTD


def imbalance(choices: Choices, documents_BT: Tensor | None, counted_B: Tensor) -> Tensor:
    """How unevenly experts are used within sequences: 1 where evenly, E / K at worst; each counts ``counted_B`` times.

    E times the sum over experts of their share of the choices, times their mean probability, by sequence
    (DeepSeek-AI 2024, "DeepSeek-V3 Technical Report", equations 17 to 20), so that it does not depend on
    which sequences share a micro-batch. The mean over layers; float32, differentiable by the probabilities.
    """
    total_B = torch.zeros_like(counted_B, dtype=torch.float32)
    for choice in choices.layers:
        scores_BTE, experts_BTK = choice.scores_BTE, choice.experts_BTK
        experts, chosen = scores_BTE.shape[-1], experts_BTK.shape[-1]
        real_BT = torch.ones_like(scores_BTE[..., 0]) if documents_BT is None else (documents_BT != PADDING).float()
        length_B1 = real_BT.sum(1, keepdim=True).clamp(min=1)
        asked_BQ = real_BT[..., None].expand_as(experts_BTK).flatten(1)
        share_BE = torch.zeros_like(scores_BTE[:, 0]).scatter_add(1, experts_BTK.flatten(1), asked_BQ)
        mean_BE = (scores_BTE.softmax(-1) * real_BT[..., None]).sum(1) / length_B1
        total_B = total_B + experts * (share_BE / (length_B1 * chosen) * mean_BE).sum(-1)
    return (total_B * counted_B).sum() / len(choices.layers)
