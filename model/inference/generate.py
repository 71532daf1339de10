"""Text from a model or adapter folder, given out as it is written."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from model.data.spans import filled
from model.formats import huggingface
from model.formats.foreign import Foreign
from model.inference.gaps import ids_with_gaps
from model.inference.sampling import Sampling, certain_text, choose
from model.network.transformer import Transformer
from storage.errors import UserError
from storage.tokenizer import SENTINEL

if TYPE_CHECKING:
    from storage.tokenizer import Tokenizer


class Writer:
    """A network and its tokenizer, ready to continue prompts, or to fill their gaps."""

    def __init__(self, network: Transformer | Foreign, tokenizer: Tokenizer, fills_gaps: bool = False) -> None:
        """``fills_gaps``: that is all it has learnt."""
        if network.shape.attention == "bidirectional":
            raise UserError("the model is an encoder (attention: bidirectional): it fills gaps, and continues no text")
        self.network: Transformer | Foreign = network.eval()
        self.tokenizer = tokenizer
        self._fills_gaps = fills_gaps

    @classmethod
    def open(cls, folder: Path, tokenizer: Tokenizer, device: str = "auto") -> Writer:
        """Load a model folder, or an adapter folder with its base."""
        return cls(huggingface.load(folder, resolve_device(device)), tokenizer, huggingface.fills_gaps(folder))

    def stream(self, prompt: str, sampling: Sampling) -> Iterator[str]:
        """What follows the prompt, in pieces of whole characters; of a prompt with gaps, all of it, with them filled.

        Raises UserError for a prompt that leaves no room in the model's context, or that lacks the gaps it is to fill.
        """
        sentinels = self.tokenizer.sentinel_ids
        gapped = ids_with_gaps(prompt, self.tokenizer)
        if gapped is None and self._fills_gaps:
            raise UserError(
                f"the model fills gaps and continues no text: write {SENTINEL.format(0)} where text is missing"
            )
        encoded = [*map(int, self.tokenizer.encode(prompt))] if gapped is None else [*gapped, sentinels[0]]
        ids = [self.tokenizer.bos_id, *encoded]
        context = self.network.shape.context
        if len(ids) >= context:
            raise UserError(f"the prompt has {len(ids)} tokens; the model's context holds {context}: shorten it")
        if gapped is None:
            yield from certain_text(self.tokenizer.decode, ids[1:], self.tokens(ids, sampling))
        else:
            yield self.tokenizer.decode(filled(gapped, [sentinels[0], *self.tokens(ids, sampling)], sentinels))

    def text(self, prompt: str, sampling: Sampling) -> str:
        """All that follows the prompt."""
        return "".join(self.stream(prompt, sampling))

    @torch.inference_mode()
    def tokens(self, ids: Sequence[int], sampling: Sampling) -> Iterator[int]:
        """Token ids after ``ids``, until the end token (not given out), ``max_tokens``, or a full context."""
        device = next(self.network.parameters()).device
        generator = torch.Generator().manual_seed(sampling.seed)
        cache = self.network.new_cache()
        new: Tensor = torch.tensor([list(ids)], device=device)
        for _ in range(min(sampling.max_tokens, self.network.shape.context - len(ids))):
            token = choose(self.network(new, cache=cache)[0, -1], sampling, generator)
            if token == self.tokenizer.eos_id:
                return
            yield token
            new = torch.tensor([[token]], device=device)


def generate(
    folder: Path, prompt: str, max_tokens: int = 100, temperature: float = 0.8, top_k: int = 0, seed: int = 1
) -> Iterator[str]:
    """What the model or adapter in ``folder`` writes after the prompt, in pieces; ``top_k`` 0 draws from all tokens."""
    writer = Writer.open(folder, huggingface.tokenizer_in(folder))
    sampling = Sampling(max_tokens=max_tokens, temperature=temperature, top_k=top_k or None, seed=seed)
    return writer.stream(prompt, sampling)


def resolve_device(device: str) -> str:
    """``auto`` is a GPU if there is one. Raises UserError for a GPU that is not there."""
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("device: cuda was asked for, but torch finds no GPU")
    return device
