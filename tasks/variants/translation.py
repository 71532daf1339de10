"""Translating texts with a sequence-to-sequence network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tasks.networks import Device, batches, context_of, filled, filling_of, opened
from tasks.variants.pieces import pieces_of

_LONGER = 2
"""A translation may have so many times the tokens of its source …"""
_LONGER_BY = 16
"""… and so many more, before it is broken off."""


class Translator:
    """A network and its tokenizer. Texts are translated sentence by sentence; white space between them stays."""

    def __init__(self, network: Any, tokenizer: Any, beams: int = 1, prefix: str = "") -> None:
        self._network = network
        self._tokenizer = tokenizer
        self._beams = beams
        self._prefix = prefix
        self._context = context_of(network.config, tokenizer)
        self._filling = filling_of(network.config, tokenizer)

    @classmethod
    def load(cls, folder: Path, device: Device, beams: int, prefix: str) -> Translator:
        """Raises SourceError if the folder holds no sequence-to-sequence network that can be opened."""
        return cls(*opened(folder, "translator", device), beams, prefix)

    def translated(self, text: str) -> str:
        """The translation of a text of any length."""
        pieces = pieces_of(text, lambda part: len(self._tokens(part)) <= self._context)
        wanted = [number for number, piece in enumerate(pieces) if piece.text]
        rows = [self._tokens(pieces[number].text)[: self._context] for number in wanted]
        made = {wanted[at]: translation for at, translation in self._generate(rows)}
        return "".join(piece.with_text(made.get(number, "")) for number, piece in enumerate(pieces))

    def _tokens(self, text: str) -> list[int]:
        return list(self._tokenizer(self._prefix + text, verbose=False)["input_ids"])

    def _generate(self, rows: list[list[int]]) -> list[tuple[int, str]]:
        """The translation of each row of tokens, with the row's number."""
        import torch

        found: list[tuple[int, str]] = []
        for batch in batches([len(row) * self._beams for row in rows]):
            inputs = filled([rows[number] for number in batch], self._filling, self._network.device)
            most = min(self._context, len(rows[batch[0]]) * _LONGER + _LONGER_BY) - 1
            with torch.inference_mode():
                ids = self._network.generate(
                    **inputs, num_beams=self._beams, do_sample=False, max_new_tokens=max(1, most), max_length=None
                )
            texts = self._tokenizer.batch_decode(ids, skip_special_tokens=True)
            found += [(number, text.strip()) for number, text in zip(batch, texts, strict=True)]
        return found
