"""Settings of a network, and what follows from them by arithmetic. Imports no torch."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Frozen(BaseModel):
    """Base of settings inside ``model``: immutable, unknown fields refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class ModelConfig(Frozen):
    """The shape of a Llama-like network: ``{layers: 4, width: 128, heads: 4, context: 256}``."""

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
    """Inner features of the SwiGLU; default: 8/3 of the width, rounded up to a multiple of 32."""
    rope_theta: float = Field(10_000.0, gt=1)
    """Base of the rotary position angles."""
    norm_eps: float = Field(1e-5, gt=0)
    """Added to the mean square in RMSNorm."""
    tied_embeddings: bool = True
    """Whether the output layer shares the input embedding's weights."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.head_width is None and self.width % self.heads:
            raise ValueError(f"width {self.width} is not a multiple of heads {self.heads}")
        if self.heads % self.key_value_heads:
            raise ValueError(f"heads {self.heads} is not a multiple of kv_heads {self.kv_heads}")
        if self.head_features % 2:
            raise ValueError(f"a head of {self.head_features} features cannot be rotated in pairs: make it even")
        return self

    @property
    def key_value_heads(self) -> int:
        return self.heads if self.kv_heads is None else self.kv_heads

    @property
    def head_features(self) -> int:
        return self.width // self.heads if self.head_width is None else self.head_width

    @property
    def inner_features(self) -> int:
        return -(-self.width * 8 // (3 * 32)) * 32 if self.feed_forward is None else self.feed_forward

    def parameters(self, vocabulary: int) -> int:
        """Number of weights, with a vocabulary of that size."""
        embeddings = vocabulary * self.width * (1 if self.tied_embeddings else 2)
        return embeddings + self.layers * (self._matrices_of_layer + 2 * self.width) + self.width

    def flops_per_token(self, vocabulary: int, length: int | None = None) -> float:
        """Floating-point operations that training needs for one token: forward, and twice that backward.

        Two per weight of every matrix product, plus causal attention over ``length`` positions
        (default: the context), which on average sees half of them (Kaplan et al. 2020, table 1,
        with the output layer counted and attention halved).
        """
        matrices = self.layers * self._matrices_of_layer + vocabulary * self.width
        attention = self.layers * 2 * self.heads * self.head_features * (length or self.context) / 2
        return 6.0 * (matrices + attention)

    @property
    def _matrices_of_layer(self) -> int:
        queries = self.heads * self.head_features
        keys = self.key_value_heads * self.head_features
        return self.width * (2 * queries + 2 * keys) + 3 * self.width * self.inner_features


Precision = Literal["fp32", "bf16", "fp16"]
"""Numbers that the network computes in; weights and moments are kept in float32 in any case."""
