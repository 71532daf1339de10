"""From a network's logits to text: which token comes next, and which characters are certain already."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn; the defaults are common ones for text that should be varied and sound."""

    max_tokens: int = 200
    """Tokens to write at most; writing ends at the end token."""
    temperature: float = 0.8
    """Divides the logits; 0 takes the likeliest token always."""
    top_k: int | None = None
    """Draw among this many of the likeliest tokens."""
    top_p: float = 0.95
    """Draw among the likeliest tokens that together just reach this probability (nucleus sampling)."""
    seed: int = 0
    """The same seed writes the same text, on one machine."""


def choose(logits_V: Tensor, sampling: Sampling, generator: torch.Generator) -> int:
    """Draw the next token: temperature, then top-k, then top-p, as ``transformers`` orders them."""
    if sampling.temperature == 0:
        return int(logits_V.argmax())
    likeliest = torch.sort(logits_V.float().cpu() / sampling.temperature, descending=True, stable=True)
    kept_K = likeliest.values[: sampling.top_k]
    probabilities_K = torch.softmax(kept_K, dim=-1)
    before_K = probabilities_K.cumsum(-1) - probabilities_K
    probabilities_K = probabilities_K.masked_fill(before_K >= sampling.top_p, 0.0)
    probabilities_K[0] = probabilities_K[0].clamp_min(torch.finfo(torch.float32).tiny)
    place = torch.multinomial(probabilities_K, 1, generator=generator)
    return int(likeliest.indices[place])


def certain_text(decode: Callable[[Sequence[int]], str], prompt: Sequence[int], tokens: Iterable[int]) -> Iterator[str]:
    """The text of ``tokens`` after ``prompt``, in pieces, as soon as no later token can change it.

    A character whose bytes are several tokens is held back until it is whole: ``decode`` shows the
    missing part as U+FFFD, for at most the three bytes that a UTF-8 character can lack its end
    after. What is still incomplete at the end is dropped.
    """
    ids = list(prompt)
    given = len(decode(ids))
    for token in tokens:
        ids.append(token)
        text = decode(ids)
        held = min(len(text) - len(text.rstrip("\ufffd")), 3)
        if len(text) - held > given:
            yield text[given : len(text) - held]
            given = len(text) - held
