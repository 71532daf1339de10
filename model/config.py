"""Settings of a network, and what follows from them by arithmetic. Imports no torch."""

from __future__ import annotations

import math
from typing import Any, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from model.planning.scaling import shape_of_depth
from storage.described import Described


class Frozen(Described):
    """Base of settings inside ``model``: immutable, unknown fields refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def _either_depth_or_the_parts(schema: dict[str, Any]) -> None:
    """In the JSON schema: ``depth`` is enough, or the four numbers that have no default."""
    schema["anyOf"] = [{"required": ["depth"]}, {"required": schema.pop("required")}]


class RopeScaling(Frozen):
    """Rotary angles stretched for a longer context: ``{kind: yarn, factor: 4, original_context: 2048}``."""

    kind: Literal["linear", "llama3", "yarn"]
    """``linear``: all angles divided by the factor (Chen et al. 2023); ``llama3``: only the slow ones, with a smooth
    passage between (Grattafiori et al. 2024, section 3.4.2, as published with the weights); ``yarn``: the same idea by
    the number of turns within the original context, with sharper attention (Peng et al. 2023, section 3)."""
    factor: float = Field(ge=1)
    """How many times longer the context becomes."""
    original_context: int | None = Field(None, ge=2)
    """Positions of the context that was trained on before; llama3 and yarn need it."""
    low_frequency: float = Field(1.0, gt=0)
    """llama3: angles that turn less often than this within the original context are divided by the factor."""
    high_frequency: float = Field(4.0, gt=0)
    """llama3: angles that turn more often than this within the original context stay."""
    beta_fast: float = Field(32.0, gt=0)
    """yarn: angles that turn more often than this within the original context stay."""
    beta_slow: float = Field(1.0, gt=0)
    """yarn: angles that turn less often than this within the original context are divided by the factor."""
    attention_factor: float | None = Field(None, gt=0)
    """yarn: rotated queries and keys are multiplied by it; default: 0.1 ln(factor) + 1."""
    truncate: bool = True
    """yarn: whether the bounds between kept and divided angles are rounded to whole pairs of features."""

    @property
    def rotation_factor(self) -> float:
        """What rotated queries and keys are multiplied by (Peng et al. 2023, equation 22)."""
        if self.kind != "yarn":
            return 1.0
        return 0.1 * math.log(self.factor) + 1.0 if self.attention_factor is None else self.attention_factor

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.kind != "linear" and self.original_context is None:
            raise ValueError(f"rope scaling {self.kind} needs original_context")
        if self.kind == "llama3" and self.high_frequency <= self.low_frequency:
            raise ValueError(f"high_frequency {self.high_frequency} must be more than low_frequency")
        return self


class Dropout(Frozen):
    """Probabilities with which values are set to 0 in training (Srivastava et al. 2014), the rest scaled up."""

    attention: float = Field(0.0, ge=0, lt=1)
    """Of attention's probabilities, which are then held whole: slower, and quadratic in memory without a window."""
    residual: float = Field(0.0, ge=0, lt=1)
    """Of what attention and feed-forward add to the stream."""
    embeddings: float = Field(0.0, ge=0, lt=1)
    """Of the embedded tokens."""

    @property
    def any(self) -> bool:
        return bool(self.attention or self.residual or self.embeddings)


class ModelConfig(Frozen):
    """The shape of a network: ``{depth: 4}``, or ``{layers: 4, width: 128, heads: 4, context: 256}``."""

    model_config = ConfigDict(json_schema_extra=_either_depth_or_the_parts)

    depth: int | None = Field(None, ge=1)
    """One number for a whole network: as many layers, and what ``model.planning.scaling`` makes of it for all that
    is not given beside it. It is gone once filled in, so the same network has the same identity however it was
    written."""
    layers: int = Field(ge=1)
    """Transformer blocks."""
    width: int = Field(ge=2)
    """Features of a position between blocks."""
    heads: int = Field(ge=1)
    """Attention heads (of the queries)."""
    context: int = Field(ge=2)
    """Positions that attention spans at most, and the length of a training sequence, in tokens."""
    kv_heads: int | None = Field(None, ge=1)
    """Heads of keys and values, each shared by a group of query heads; default: as many as ``heads``."""
    head_width: int | None = Field(None, ge=2)
    """Features of a head; default: width / heads."""
    feed_forward: int | None = Field(None, ge=1)
    """Inner features of the feed-forward; default: 8/3 of the width with swiglu (rounded up to a multiple of 32), else
    4 times the width. With ``experts``, of each of them."""
    experts: int | None = Field(None, ge=2)
    """So many feed-forwards in every layer instead of one, of which each position chooses a few (Shazeer et al. 2017):
    more weights for the operations of few."""
    experts_chosen: int = Field(2, ge=1)
    """Experts of a position."""
    experts_balance: float = Field(0.01, ge=0)
    """Weight of the loss that lets sequences use their experts evenly (DeepSeek-AI 2024, section 2.1.2): 1 where they
    do. It is recorded as ``expert_balance``."""
    activation: Literal["swiglu", "gelu", "relu2"] = "swiglu"
    """Feed-forward: ``swiglu`` with a gate (Shazeer 2020), ``gelu`` (Hendrycks and Gimpel 2016, exact) or the squared
    ReLU (So et al. 2021) without one."""
    norm: Literal["rmsnorm", "layernorm"] = "rmsnorm"
    """Before attention, feed-forward and output: RMSNorm (Zhang and Sennrich 2019), or LayerNorm with bias."""
    norm_eps: float = Field(1e-5, gt=0)
    """Added to the mean square (or variance) in all norms."""
    attention: Literal["causal", "bidirectional"] = "causal"
    """``causal``: a position sees itself and those before it; ``bidirectional``: its whole document, as encoders do."""
    window: int | None = Field(None, ge=1)
    """Sliding-window attention (Beltagy et al. 2020): a position sees only those less than so many tokens away, itself
    included, at a cost linear in the length; default: no such limit."""
    global_tokens: int = Field(0, ge=0)
    """With a window: the first so many positions of a document are seen by all that may see them without a window."""
    full_layers: tuple[int, ...] = ()
    """With a window: numbers of the layers (from 0) that do without it."""
    positions: Literal["rope", "learned", "none"] = "rope"
    """How order is told: rotated queries and keys (Su et al. 2021), an embedding of every position that is added to the
    token's, or not at all (Kazemnejad et al. 2023: causal attention can tell it by itself)."""
    rope_theta: float = Field(10_000.0, gt=1)
    """Base of the rotary position angles."""
    rope_scaling: RopeScaling | None = None
    """Rotary angles for a longer context than was trained on."""
    unrotated_layers: tuple[int, ...] = ()
    """With rope: numbers of the layers (from 0) whose queries and keys are not rotated."""
    qk_norm: bool = False
    """RMSNorm of every head's queries and keys before they are rotated (Dehghani et al. 2023, section 2)."""
    biases: Literal["none", "qkv", "attention", "all"] = "none"
    """Linear layers with a bias: none, those of queries, keys and values, all of attention, or all in a block."""
    tied_embeddings: bool = True
    """Whether the output layer shares the input embedding's weights."""
    logit_softcap: float | None = Field(None, gt=0)
    """Logits are squashed smoothly into (-cap, cap): cap x tanh(logits / cap) (Gemma Team 2024, section 2)."""
    zero_outputs: bool = False
    """Whether the matrices that write to the stream begin at zero, so that every block begins as the identity
    (Zhang et al. 2019, "Fixup"), instead of small."""
    dropout: Dropout = Dropout()
    """Values set to 0 in training. What is dropped follows from the seed and the place in the stream of tokens."""

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, given: Any) -> Any:
        if isinstance(given, dict) and isinstance(depth := given.get("depth"), int) and depth >= 1:
            return {**shape_of_depth(depth, given), "depth": None}
        return given

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.head_width is None and self.width % self.heads:
            raise ValueError(f"width {self.width} is not a multiple of heads {self.heads}")
        if self.heads % self.key_value_heads:
            raise ValueError(f"heads {self.heads} is not a multiple of kv_heads {self.kv_heads}")
        if self.positions == "rope" and self.head_features % 2:
            raise ValueError(f"a head of {self.head_features} features cannot be rotated in pairs: make it even")
        if self.rope_scaling is not None and self.positions != "rope":
            raise ValueError(f"rope_scaling is for positions rope, not {self.positions}")
        if self.unrotated_layers and self.positions != "rope":
            raise ValueError(f"unrotated_layers is for positions rope, not {self.positions}")
        if self.window is None and (self.global_tokens or self.full_layers):
            raise ValueError("global_tokens and full_layers need a window: without one every layer sees everything")
        if self.window is not None and self.global_tokens > self.window:
            raise ValueError(f"global_tokens {self.global_tokens} is more than the window {self.window}")
        if self.experts is None and self.experts_chosen != 2:
            raise ValueError("experts_chosen is for experts: say how many there are")
        if self.experts is not None and self.experts_chosen > self.experts:
            raise ValueError(f"experts_chosen {self.experts_chosen} is more than experts {self.experts}")
        for name in ("full_layers", "unrotated_layers"):
            if any(not 0 <= layer < self.layers for layer in getattr(self, name)):
                raise ValueError(f"{name} {list(getattr(self, name))} must be numbers from 0 to {self.layers - 1}")
        return self

    @property
    def key_value_heads(self) -> int:
        return self.heads if self.kv_heads is None else self.kv_heads

    @property
    def head_features(self) -> int:
        return self.width // self.heads if self.head_width is None else self.head_width

    @property
    def inner_features(self) -> int:
        if self.feed_forward is not None:
            return self.feed_forward
        return -(-self.width * 8 // (3 * 32)) * 32 if self.activation == "swiglu" else 4 * self.width

    def window_of(self, layer: int) -> int | None:
        """The window of a layer (numbered from 0); None: it sees everything."""
        return None if layer in self.full_layers else self.window

    def rotates(self, layer: int) -> bool:
        """Whether a layer (numbered from 0) has rotary positions."""
        return self.positions == "rope" and layer not in self.unrotated_layers

    def parameters(self, vocabulary: int, active: bool = False) -> int:
        """Number of weights, with a vocabulary of that size; ``active``: that work on a position."""
        queries, keys = self.heads * self.head_features, self.key_value_heads * self.head_features
        experts = self._experts_of_layer(active)
        inner_matrices = 2 if self.activation == "swiglu" else 1
        biases = {"none": 0, "qkv": queries + 2 * keys, "attention": queries + 2 * keys + self.width}
        biases["all"] = biases["attention"] + experts * (inner_matrices * self.inner_features + self.width)
        norm = self.width * (2 if self.norm == "layernorm" else 1)
        matrices = self._matrices_of_layer(experts)
        layer = matrices + biases[self.biases] + 2 * norm + 2 * self.head_features * self.qk_norm
        tables = vocabulary * (1 if self.tied_embeddings else 2) + self.context * (self.positions == "learned")
        return tables * self.width + self.layers * layer + norm

    @property
    def hidden_parameters(self) -> int:
        """Weights of the matrices inside the blocks."""
        return self.layers * self._matrices_of_layer(self._experts_of_layer(active=False))

    @property
    def active_hidden_parameters(self) -> int:
        """Those that work on a position: what laws of scaling call the size of a network."""
        return self.layers * self._matrices_of_layer(self._experts_of_layer(active=True))

    def flops_per_token(self, vocabulary: int, length: int | None = None) -> float:
        """Floating-point operations that training needs for one token: forward, and twice that backward.

        Two per weight of every matrix product, plus attention over the positions that are seen on
        average in a document of ``length`` (default: the context) (Kaplan et al. 2020, table 1, with
        the output layer counted and what is masked left out).
        """
        matrices = self.active_hidden_parameters + vocabulary * self.width
        seen = sum(self._seen(length or self.context, self.window_of(layer)) for layer in range(self.layers))
        return 6.0 * (matrices + 2 * self.heads * self.head_features * seen)

    def _seen(self, length: int, window: int | None) -> float:
        """Positions that one position sees in a document of ``length``, on average."""
        sides = 1 if self.attention == "causal" else 2
        reach = length if window is None else min(window, length)
        near = reach * length - reach * (reach - 1) / 2  # itself and those before it
        seen = sides * near - (sides - 1) * length
        if window is not None:  # the pairs of a position and a global one that are at least a window apart
            before = [max(length - window - place, 0) for place in range(self.global_tokens)]
            behind = [max(place + 1 - window, 0) for place in range(self.global_tokens)]
            seen += sum(before) + (sides - 1) * sum(behind)
        return seen / length

    def _experts_of_layer(self, active: bool) -> int:
        """Feed-forwards of a layer; ``active``: of a position."""
        return 1 if self.experts is None else self.experts_chosen if active else self.experts

    def _matrices_of_layer(self, experts: int) -> int:
        """Their weights, with so many of the layer's feed-forwards."""
        queries = self.heads * self.head_features
        keys = self.key_value_heads * self.head_features
        feed_forward = (3 if self.activation == "swiglu" else 2) * self.width * self.inner_features
        return self.width * (2 * queries + 2 * keys + (self.experts or 0)) + experts * feed_forward


Precision = Literal["fp32", "bf16", "fp16", "fp8"]
"""Numbers that the network computes in; weights and moments are kept in float32 in any case. ``fp8``: bf16, but for the
products of the matrices inside the blocks, on GPUs that have 8-bit products."""
