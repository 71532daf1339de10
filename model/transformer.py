"""The network: a Llama-compatible decoder (Touvron et al. 2023), with Llama's names for its weights.

Parts: RMSNorm (Zhang and Sennrich 2019), rotary positions (Su et al. 2021, in the half-split form
of Hugging Face), grouped-query attention (Ainslie et al. 2023), SwiGLU (Shazeer 2020).

Several documents may lie in one sequence; they do not see each other, and positions restart, so a
packed document gets the logits that it gets alone.

    B sequences   T positions   S positions seen (T, or more with a cache)   N = B x T
    D width   H query heads   K key/value heads   F features of a head   I inner features   V vocabulary
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from model.attention import causal_attention
from model.config import ModelConfig
from model.cross_entropy import summed_cross_entropy

IGNORED = -100
"""In targets: nothing is to be predicted here."""
PADDING = -1
"""In documents: this position belongs to no document."""


@dataclass
class Cache:
    """Keys and values of the positions seen so far, so that text is generated token by token."""

    layers: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)
    """Per layer: keys_BKSF and values_BKSF."""

    @property
    def length(self) -> int:
        """Positions seen so far."""
        return self.layers[0][0].shape[2] if self.layers else 0

    def extend(self, layer: int, k_BKTF: Tensor, v_BKTF: Tensor) -> tuple[Tensor, Tensor]:
        """Append new positions; returns all keys and all values of the layer."""
        if layer in self.layers:
            old_k, old_v = self.layers[layer]
            k_BKTF, v_BKTF = torch.cat((old_k, k_BKTF), 2), torch.cat((old_v, v_BKTF), 2)
        self.layers[layer] = (k_BKTF, v_BKTF)
        return k_BKTF, v_BKTF


@dataclass(frozen=True)
class Visibility:
    """Which positions see which: the past of their own document. The same for all layers."""

    causal_rows: int
    """The first rows of the batch, which hold one document each, need no mask but the causal one."""
    mask_B1TS: Tensor | None
    """For the rows after them: True where the query (T) sees the key (S)."""

    @classmethod
    def of(cls, batch: int, length: int, past: int, documents_BT: Tensor | None, device: torch.device) -> Visibility:
        """``past`` positions of a cache come before the ``length`` new ones."""
        if past:
            if documents_BT is not None:
                raise ValueError("a cache holds one document a row: give no documents with it")
            causal_TS = torch.ones(length, past + length, dtype=torch.bool, device=device).tril(past)
            return cls(0, causal_TS.expand(batch, 1, -1, -1))
        if documents_BT is None:
            return cls(batch, None)
        # Padding comes last in a row, so the past of a real position holds none of it.
        alone_B = ((documents_BT == documents_BT[:, :1]) | (documents_BT == PADDING)).all(1)
        rows = int(alone_B.int().cumprod(0).sum())
        if rows == batch:
            return cls(batch, None)
        documents = documents_BT[rows:]
        same_BTS = documents[:, :, None] == documents[:, None, :]
        causal_TS = torch.ones(length, length, dtype=torch.bool, device=device).tril()
        return cls(rows, (same_BTS & causal_TS)[:, None])


def attend(q_BHTF: Tensor, k_BKSF: Tensor, v_BKSF: Tensor, visibility: Visibility) -> Tensor:
    """Softmax attention over what each position may see, per head: out_BHTF."""
    repeats = q_BHTF.shape[1] // k_BKSF.shape[1]
    if repeats > 1:  # query head h shares key/value head h // repeats
        k_BKSF, v_BKSF = k_BKSF.repeat_interleave(repeats, 1), v_BKSF.repeat_interleave(repeats, 1)
    rows, mask_B1TS = visibility.causal_rows, visibility.mask_B1TS
    if mask_B1TS is None:
        return causal_attention(q_BHTF, k_BKSF, v_BKSF)
    masked = F.scaled_dot_product_attention(q_BHTF[rows:], k_BKSF[rows:], v_BKSF[rows:], attn_mask=mask_B1TS)
    if rows == 0:
        return masked
    return torch.cat((causal_attention(q_BHTF[:rows], k_BKSF[:rows], v_BKSF[:rows]), masked))


def rotation(positions_BT: Tensor, features: int, theta: float, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Cosine and sine of every position's angles: each B1T(F/2), angle i = position x theta^(-2i/F)."""
    exponents = torch.arange(0, features, 2, device=positions_BT.device, dtype=torch.float32) / features
    angles = positions_BT[:, None, :, None].float() / theta**exponents
    return angles.cos().to(dtype), angles.sin().to(dtype)


def rotate(x_BHTF: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate feature pairs (i, i + F/2) by the position's angles."""
    first, second = x_BHTF.chunk(2, -1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), -1).to(x_BHTF.dtype)


class RMSNorm(nn.Module):
    """x / root mean square of x, times a learnt gain."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x_BTD: Tensor) -> Tensor:
        if x_BTD.dtype == torch.float32:
            return F.rms_norm(x_BTD, self.weight.shape, self.weight, self.eps)
        normalised = F.rms_norm(x_BTD.float(), self.weight.shape, None, self.eps)
        return self.weight * normalised.to(x_BTD.dtype)


class Attention(nn.Module):
    """Grouped-query attention with rotary positions."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.features = config.head_features
        queries, keys = config.heads * self.features, config.key_value_heads * self.features
        self.q_proj = nn.Linear(config.width, queries, bias=False)
        self.k_proj = nn.Linear(config.width, keys, bias=False)
        self.v_proj = nn.Linear(config.width, keys, bias=False)
        self.o_proj = nn.Linear(queries, config.width, bias=False)

    def forward(
        self, x_BTD: Tensor, angles: tuple[Tensor, Tensor], visibility: Visibility, cache: Cache | None
    ) -> Tensor:
        def heads(projected: Tensor) -> Tensor:
            return projected.view(*projected.shape[:2], -1, self.features).transpose(1, 2)

        q_BHTF = rotate(heads(self.q_proj(x_BTD)), *angles)
        k_BKSF = rotate(heads(self.k_proj(x_BTD)), *angles)
        v_BKSF = heads(self.v_proj(x_BTD))
        if cache is not None:
            k_BKSF, v_BKSF = cache.extend(self.layer, k_BKSF, v_BKSF)
        out_BHTF = attend(q_BHTF, k_BKSF, v_BKSF, visibility)
        return self.o_proj(out_BHTF.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]


class FeedForward(nn.Module):
    """SwiGLU: down(silu(gate(x)) * up(x))."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.width, config.inner_features, bias=False)
        self.up_proj = nn.Linear(config.width, config.inner_features, bias=False)
        self.down_proj = nn.Linear(config.inner_features, config.width, bias=False)

    def forward(self, x_BTD: Tensor) -> Tensor:
        out_BTD: Tensor = self.down_proj(F.silu(self.gate_proj(x_BTD)) * self.up_proj(x_BTD))
        return out_BTD


class Layer(nn.Module):
    """One block: attention, then feed-forward, each added to the stream it reads normalised."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(config.width, config.norm_eps)
        self.self_attn = Attention(config, layer)
        self.post_attention_layernorm = RMSNorm(config.width, config.norm_eps)
        self.mlp = FeedForward(config)

    def forward(
        self, x_BTD: Tensor, angles: tuple[Tensor, Tensor], visibility: Visibility, cache: Cache | None
    ) -> Tensor:
        x_BTD = x_BTD + self.self_attn(self.input_layernorm(x_BTD), angles, visibility, cache)
        x_BTD = x_BTD + self.mlp(self.post_attention_layernorm(x_BTD))
        return x_BTD


class Decoder(nn.Module):
    """Embedding, blocks, final norm: tokens to the features that the output layer reads."""

    def __init__(self, config: ModelConfig, vocabulary: int) -> None:
        super().__init__()
        self.shape = config
        self.embed_tokens = nn.Embedding(vocabulary, config.width)
        self.layers = nn.ModuleList(Layer(config, layer) for layer in range(config.layers))
        self.norm = RMSNorm(config.width, config.norm_eps)

    def forward(
        self, tokens_BT: Tensor, positions_BT: Tensor | None, documents_BT: Tensor | None, cache: Cache | None
    ) -> Tensor:
        batch, length = tokens_BT.shape
        past = cache.length if cache is not None else 0
        if positions_BT is None:
            positions_BT = torch.arange(past, past + length, device=tokens_BT.device)[None]
        x_BTD = self.embed_tokens(tokens_BT)
        angles = rotation(positions_BT, self.shape.head_features, self.shape.rope_theta, x_BTD.dtype)
        visibility = Visibility.of(batch, length, past, documents_BT, tokens_BT.device)
        for layer in self.layers:
            x_BTD = layer(x_BTD, angles, visibility, cache)
        return self.norm(x_BTD)  # type: ignore[no-any-return]


class Head(nn.Linear):
    """The output layer: logits, or the loss without ever holding all logits."""

    def forward(self, x_BTD: Tensor, targets_BT: Tensor | None = None) -> Tensor:
        """Logits_BTV; with targets, the summed cross-entropy in nats where they are not IGNORED (float32 scalar)."""
        if targets_BT is None:
            logits_BTV: Tensor = F.linear(x_BTD, self.weight)
            return logits_BTV
        predicted_N = targets_BT.flatten() != IGNORED
        x_ND, targets_N = x_BTD.flatten(0, 1), targets_BT.flatten()
        if not predicted_N.all():
            x_ND, targets_N = x_ND[predicted_N], targets_N[predicted_N]
        return summed_cross_entropy(x_ND, self.weight, targets_N)


class Transformer(nn.Module):
    """A causal language model whose ``state_dict`` has the names of Hugging Face's ``LlamaForCausalLM``."""

    def __init__(self, config: ModelConfig, vocabulary: int) -> None:
        super().__init__()
        self.shape = config
        self.vocabulary = vocabulary
        self.model = Decoder(config, vocabulary)
        self.lm_head = Head(config.width, vocabulary, bias=False)
        if config.tied_embeddings:
            self.lm_head.weight = self.model.embed_tokens.weight

    def forward(
        self,
        tokens_BT: Tensor,
        positions_BT: Tensor | None = None,
        documents_BT: Tensor | None = None,
        targets_BT: Tensor | None = None,
        cache: Cache | None = None,
    ) -> Tensor:
        """Logits_BTV, or with ``targets_BT`` the summed cross-entropy (nats, float32 scalar).

        ``tokens_BT``: int64 ids. ``positions_BT``: int64, restarting at 0 with each document
        (default: one document a row). ``documents_BT``: int64, equal for the positions of one
        document, PADDING after the last (default: one document a row). ``targets_BT``: int64 ids
        to be predicted at each position, or IGNORED. ``cache``: what was seen before, and is extended.
        """
        x_BTD = self.model(tokens_BT, positions_BT, documents_BT, cache)
        return self.lm_head(x_BTD, targets_BT)  # type: ignore[no-any-return]

    @torch.no_grad()
    def initialise(self, seed: int) -> None:
        """Set all weights, as a function of the seed and the shape alone.

        Matrices: normal with standard deviation width^-1/2, so that each keeps the size of its
        input; those that write to the residual stream are scaled down by its number of writers
        (Radford et al. 2019, section 2.3). Embeddings 0.02; gains one.
        """
        generator = torch.Generator().manual_seed(seed)
        writers = math.sqrt(2 * self.shape.layers)
        for name, weight in self.named_parameters():
            if weight.dim() < 2:
                weight.fill_(1.0)
                continue
            deviation = 0.02 if "embed_tokens" in name or "lm_head" in name else weight.shape[1] ** -0.5
            if name.endswith(("o_proj.weight", "down_proj.weight")):
                deviation /= writers
            weight.copy_(torch.empty(weight.shape).normal_(0.0, deviation, generator=generator))
