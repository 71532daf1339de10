"""The network: a pre-norm transformer as ``ModelConfig`` describes it, with Llama's names for its weights.

A plain configuration is Llama (Touvron et al. 2023): RMSNorm, rotary positions, grouped-query
attention (Ainslie et al. 2023), SwiGLU. What each option changes stands in one place, in a module
beside this one: visibility in ``attention`` and ``windows``, rotary positions in ``positions``, the
feed-forward and its experts in ``feed_forward``, RMSNorm in ``norm``, dropout in ``dropout``, the loss in
``cross_entropy``, all else here.

Several documents may lie in one sequence; they do not see each other, and positions restart, so a
packed document gets the logits that it gets alone.

    B sequences   T positions   S positions seen (T, or more with a cache)   N = B x T
    D width   H query heads   K key/value heads   F features of a head   V vocabulary
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from model.config import ModelConfig
from model.network.attention import Visibility, visibility
from model.network.cache import Cache
from model.network.cross_entropy import LossOfFeatures, Softening, summed_cross_entropy
from model.network.dropout import Noise
from model.network.feed_forward import Choices, Experts, FeedForward, imbalance
from model.network.norm import RMSNorm
from model.network.positions import rotate, rotation
from model.network.sight import Rule

IGNORED = -100
"""In targets: nothing is to be predicted here."""


def norm_of(config: ModelConfig) -> nn.Module:
    """A norm of the stream between blocks."""
    if config.norm == "rmsnorm":
        return RMSNorm(config.width, config.norm_eps)
    return nn.LayerNorm(config.width, config.norm_eps)


def rule_of(config: ModelConfig, layer: int) -> Rule:
    """Who sees whom in a layer."""
    window = config.window_of(layer)
    return Rule(config.attention == "causal", window, 0 if window is None else config.global_tokens)


@dataclass(frozen=True)
class Setting:
    """What the layers need to know beside the stream itself; made once for a pass, by ``Decoder.setting``."""

    angles: tuple[Tensor, Tensor] | None
    """What rotates queries and keys, by ``positions.rotation``."""
    visible: dict[Rule, Visibility]
    """By the rule of a layer."""
    cache: Cache | None
    noise: Noise | None
    """What is dropped; None where nothing is."""
    choices: Choices | None = None
    """Where layers of experts put down what was chosen; None: nowhere."""


class Attention(nn.Module):
    """Grouped-query attention: queries share the keys and values of their group."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.layer, self.rule, self.rotates = layer, rule_of(config, layer), config.rotates(layer)
        self.features, self.dropout = config.head_features, config.dropout.attention
        queries, keys = config.heads * self.features, config.key_value_heads * self.features
        biased = config.biases != "none"
        self.q_proj = nn.Linear(config.width, queries, bias=biased)
        self.k_proj = nn.Linear(config.width, keys, bias=biased)
        self.v_proj = nn.Linear(config.width, keys, bias=biased)
        self.o_proj = nn.Linear(queries, config.width, bias=config.biases in ("attention", "all"))
        self.q_norm = RMSNorm(self.features, config.norm_eps) if config.qk_norm else None
        self.k_norm = RMSNorm(self.features, config.norm_eps) if config.qk_norm else None

    def heads(self, x_BTD: Tensor, angles: tuple[Tensor, Tensor] | None) -> tuple[Tensor, Tensor, Tensor]:
        """Queries (BHTF), keys and values (BKTF)."""
        q_BHTF = self._heads(self.q_proj(x_BTD), self.q_norm, angles)
        k_BKTF = self._heads(self.k_proj(x_BTD), self.k_norm, angles)
        return q_BHTF, k_BKTF, self._heads(self.v_proj(x_BTD))

    def attend(self, q_BHTF: Tensor, k_BKSF: Tensor, v_BKSF: Tensor, setting: Setting) -> Tensor:
        """What all heads found, side by side: (B, T, H x F)."""
        if setting.cache is not None:
            k_BKSF, v_BKSF = setting.cache.extend(self.layer, self.rule, k_BKSF, v_BKSF)
        repeats = q_BHTF.shape[1] // k_BKSF.shape[1]
        if repeats > 1:  # query head h shares key/value head h // repeats
            k_BKSF, v_BKSF = k_BKSF.repeat_interleave(repeats, 1), v_BKSF.repeat_interleave(repeats, 1)
        drop = setting.noise.drop(self.dropout, 3 * self.layer) if setting.noise is not None else None
        out_BHTF = setting.visible[self.rule].attend(q_BHTF, k_BKSF, v_BKSF, drop)
        return out_BHTF.transpose(1, 2).flatten(2)

    def _heads(
        self, projected: Tensor, norm: RMSNorm | None = None, angles: tuple[Tensor, Tensor] | None = None
    ) -> Tensor:
        """Cut into heads, (B, heads, T, F), normalised and rotated as asked for."""
        x = projected.view(*projected.shape[:2], -1, self.features)
        x = x if norm is None else norm(x)
        return (x if angles is None else rotate(x, *angles)).transpose(1, 2)


class Layer(nn.Module):
    """One block: attention, then feed-forward, each added to the stream it reads normalised.

    What comes before attention and what follows it are functions of tensors alone, which can be compiled by
    themselves (``model.network.compiled``).
    """

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.layer, self.dropout = layer, config.dropout.residual
        self.input_layernorm = norm_of(config)
        self.self_attn = Attention(config, layer)
        self.post_attention_layernorm = norm_of(config)
        self.mlp = FeedForward(config) if config.experts is None else Experts(config, config.experts)

    def forward(self, x_BTD: Tensor, setting: Setting) -> Tensor:
        q_BHTF, k_BKTF, v_BKTF = self.before(x_BTD, setting.angles if self.self_attn.rotates else None)
        found = self.self_attn.attend(q_BHTF, k_BKTF, v_BKTF, setting)
        of_attention, of_feed_forward = (self._factors(x_BTD, setting, place) for place in (1, 2))
        return self.after(x_BTD, found, of_attention, of_feed_forward, setting.choices)

    def before(self, x_BTD: Tensor, angles: tuple[Tensor, Tensor] | None) -> tuple[Tensor, Tensor, Tensor]:
        """What attention works on: queries (BHTF), keys and values (BKTF)."""
        return self.self_attn.heads(self.input_layernorm(x_BTD), angles)

    def after(
        self, x_BTD: Tensor, found: Tensor, of_attention: Tensor | None, of_feed_forward: Tensor | None,
        choices: Choices | None,
    ) -> Tensor:  # fmt: skip
        """The stream, from what attention found.

        ``of_attention`` and ``of_feed_forward``: what values are multiplied by where some are dropped.
        """
        x_BTD = x_BTD + _times(self.self_attn.o_proj(found), of_attention)
        read_BTD = self.post_attention_layernorm(x_BTD)
        made_BTD = self.mlp(read_BTD, choices) if isinstance(self.mlp, Experts) else self.mlp(read_BTD)
        return x_BTD + _times(made_BTD, of_feed_forward)

    def _factors(self, x_BTD: Tensor, setting: Setting, place: int) -> Tensor | None:
        if setting.noise is None:
            return None
        return setting.noise.factors(x_BTD, self.dropout, 3 * self.layer + place)


def _times(x: Tensor, factors: Tensor | None) -> Tensor:
    return x if factors is None else x * factors


class Decoder(nn.Module):
    """Embedding, blocks, final norm: tokens to the features that the output layer reads."""

    def __init__(self, config: ModelConfig, vocabulary: int) -> None:
        super().__init__()
        self.shape = config
        self.noise_seed = 0
        self.embed_tokens = nn.Embedding(vocabulary, config.width)
        self.embed_positions = nn.Embedding(config.context, config.width) if config.positions == "learned" else None
        self.layers = nn.ModuleList(Layer(config, layer) for layer in range(config.layers))
        self.norm = norm_of(config)

    def forward(
        self, tokens_BT: Tensor, positions_BT: Tensor | None, documents_BT: Tensor | None, cache: Cache | None,
        rows_B: Tensor | None = None, choices: Choices | None = None,
    ) -> Tensor:  # fmt: skip
        if positions_BT is None:
            past = cache.length if cache is not None else 0
            positions_BT = torch.arange(past, past + tokens_BT.shape[1], device=tokens_BT.device)[None]
        x_BTD = self.embed_tokens(tokens_BT)
        if self.embed_positions is not None:
            x_BTD = x_BTD + self.embed_positions(positions_BT)
        setting = self.setting(positions_BT, documents_BT, cache, rows_B, x_BTD.dtype)
        setting = setting if choices is None else replace(setting, choices=choices)
        if setting.noise is not None:
            x_BTD = setting.noise.features(x_BTD, self.shape.dropout.embeddings, 3 * self.shape.layers)
        for layer in self.layers:
            x_BTD = layer(x_BTD, setting)
        if cache is not None:
            cache.length += tokens_BT.shape[1]
        return self.norm(x_BTD)  # type: ignore[no-any-return]

    def setting(
        self, positions_BT: Tensor, documents_BT: Tensor | None, cache: Cache | None, rows_B: Tensor | None,
        dtype: torch.dtype,
    ) -> Setting:  # fmt: skip
        """What all layers share in a pass over these positions."""
        shape, length = self.shape, positions_BT.shape[1]
        past = cache.length if cache is not None else 0
        angles = None
        if shape.positions == "rope":
            angles = rotation(positions_BT, shape.head_features, shape.rope_theta, shape.rope_scaling, dtype)
        rules = {rule_of(shape, layer) for layer in range(shape.layers)}
        device = positions_BT.device
        visible = {rule: visibility(rule, length, past, positions_BT, documents_BT, device) for rule in rules}
        noise = None
        if self.training and shape.dropout.any:
            if rows_B is None:
                raise ValueError("dropout needs rows_B, the numbers of the rows in the stream of training sequences")
            noise = Noise.of(self.noise_seed, rows_B)
        return Setting(angles, visible, cache, noise)


class Head(nn.Linear):
    """The output layer: logits, or the loss without ever holding all logits."""

    def __init__(self, config: ModelConfig, vocabulary: int) -> None:
        super().__init__(config.width, vocabulary, bias=False)
        self.cap = config.logit_softcap
        self.cross_entropy: LossOfFeatures = summed_cross_entropy

    def forward(self, x_BTD: Tensor, targets_BT: Tensor | None = None, softening: Softening | None = None) -> Tensor:
        """Logits_BTV; with targets, the summed cross-entropy in nats where they are not IGNORED (float32 scalar).

        With ``softening``, a vector: the sum that training is to make small, and the plain one.
        """
        if targets_BT is None:
            logits_BTV: Tensor = F.linear(x_BTD, self.weight)
            return logits_BTV if self.cap is None else self.cap * torch.tanh(logits_BTV / self.cap)
        predicted_N = targets_BT.flatten() != IGNORED
        x_ND, targets_N = x_BTD.flatten(0, 1), targets_BT.flatten()
        if not predicted_N.all():
            x_ND, targets_N = x_ND[predicted_N], targets_N[predicted_N]
        return self.cross_entropy(x_ND, self.weight, targets_N, self.cap, softening)


class Transformer(nn.Module):
    """A language model whose ``state_dict`` has the names of Hugging Face's ``LlamaForCausalLM``."""

    def __init__(self, config: ModelConfig, vocabulary: int) -> None:
        super().__init__()
        self.shape = config
        self.vocabulary = vocabulary
        self.model = Decoder(config, vocabulary)
        self.lm_head = Head(config, vocabulary)
        if config.tied_embeddings:
            self.lm_head.weight = self.model.embed_tokens.weight

    def new_cache(self) -> Cache:
        return Cache()

    def forward(
        self,
        tokens_BT: Tensor,
        positions_BT: Tensor | None = None,
        documents_BT: Tensor | None = None,
        targets_BT: Tensor | None = None,
        cache: Cache | None = None,
        rows_B: Tensor | None = None,
        softening: Softening | None = None,
        balance: bool = False,
    ) -> Tensor:
        """Logits_BTV, or with ``targets_BT`` the summed cross-entropy (nats, float32 scalar; see ``Head``).

        ``tokens_BT``: int64 ids. ``positions_BT``: int64, restarting at 0 with each document
        (default: one document a row). ``documents_BT``: int64, equal for the positions of one
        document, PADDING after the last (default: one document a row). ``targets_BT``: int64 ids
        to be predicted at each position, or IGNORED. ``cache``: what was seen before, and is extended.
        ``rows_B``: int64 number of each row in the stream of training sequences; what is dropped in
        training follows from it and ``model.noise_seed``, so dropout needs it, and nothing else does.
        ``balance``, of a network of experts with targets: a vector, whose last value is how unevenly
        they are used (``feed_forward.imbalance``), once for each prediction.
        """
        choices = Choices() if balance else None
        x_BTD = self.model(tokens_BT, positions_BT, documents_BT, cache, rows_B, choices)
        made: Tensor = self.lm_head(x_BTD, targets_BT, softening)
        if choices is None or targets_BT is None:
            return made
        uneven = imbalance(choices, documents_BT, (targets_BT != IGNORED).sum(1))
        return torch.cat((made.reshape(-1), uneven[None]))

    @torch.no_grad()
    def initialise(self, seed: int) -> None:
        """Set all weights, as a function of the seed and the shape alone.

        Matrices: normal with standard deviation width^-1/2, so that each keeps the size of its
        input; those that write to the residual stream are scaled down by its number of writers
        (Radford et al. 2019, section 2.3), or zero with ``zero_outputs``. Embeddings and
        output layer 0.02; gains one; biases zero.
        """
        generator = torch.Generator().manual_seed(seed)
        writers = math.sqrt(2 * self.shape.layers)
        kinds = parameter_kinds(self)
        for name, weight in self.named_parameters():
            if kinds[name] == "vector":
                weight.fill_(0.0 if name.endswith(".bias") else 1.0)
                continue
            deviation = weight.shape[1] ** -0.5 if kinds[name] == "hidden" else 0.02
            if name.endswith(("o_proj.weight", "down_proj.weight")):
                deviation = 0.0 if self.shape.zero_outputs else deviation / writers
            weight.copy_(torch.empty(weight.shape).normal_(0.0, deviation, generator=generator))


Kind = Literal["embedding", "hidden", "output", "vector"]
"""What a weight does, as optimisers need to know: a table of rows that are looked up (tied to the output layer or
not), a matrix inside the network (an adapter's included), the output layer of its own, or a vector (gains, biases)."""


def parameter_kinds(network: nn.Module) -> dict[str, Kind]:
    """The kind of every weight by its name in ``named_parameters``, which names a tied weight once: an embedding."""
    tables = {id(module.weight) for module in network.modules() if isinstance(module, nn.Embedding)}
    outputs = {id(m.weight) for m in network.modules() if isinstance(m, Head) or getattr(m, "is_output", False)}
    kinds: dict[str, Kind] = {}
    for name, weight in network.named_parameters():
        kinds[name] = "vector" if len(getattr(weight, "ds_shape", weight.shape)) < 2 else "hidden"
        if id(weight) in tables:
            kinds[name] = "embedding"
        elif id(weight) in outputs:
            kinds[name] = "output"
    return kinds
