"""How close two texts are, by the token embeddings of an encoder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from storage.errors import SourceError
from tasks.networks import Device, batches, context_of, filled, filling_of, opened

Measure = Literal["embedding", "bertscore"]
Vectors = npt.NDArray[np.float32]

_ROWS_AT_ONCE = 2_048
"""Rows of a similarity matrix that are held at a time."""


@dataclass(frozen=True)
class Embedded:
    """A text's tokens as vectors."""

    vectors: Vectors
    """(tokens × width) last hidden states."""
    special: npt.NDArray[np.bool_]
    """(tokens) whether a token is one that the tokenizer adds."""


class Encoder:
    """A network and its tokenizer. A text longer than the context is encoded in windows, one after the other."""

    def __init__(self, network: Any, tokenizer: Any) -> None:
        if not tokenizer.is_fast:
            raise SourceError(
                f"{tokenizer.name_or_path}: its tokenizer has no tokenizer.json; name an encoder with one"
            )
        self._network = network
        self._tokenizer = tokenizer
        self._context = context_of(network.config, tokenizer)
        self._filling = filling_of(network.config, tokenizer)

    @classmethod
    def load(cls, folder: Path, device: Device) -> Encoder:
        """Raises SourceError if the folder holds no encoder that can be opened."""
        return cls(*opened(folder, "encoder", device))

    def embedded(self, text: str) -> Embedded:
        """The text's tokens with the encoder's special tokens, of all windows in a row."""
        import torch

        encoded = self._tokenizer(
            text,
            truncation=True,
            max_length=self._context,
            return_overflowing_tokens=True,
            return_special_tokens_mask=True,
        )
        windows: list[list[int]] = encoded["input_ids"]
        vectors: dict[int, Vectors] = {}
        for batch in batches([len(window) for window in windows]):
            inputs = filled([windows[number] for number in batch], self._filling, self._network.device)
            with torch.inference_mode():
                states = self._network(**inputs).last_hidden_state.float().cpu().numpy()
            vectors |= {number: states[at, : len(windows[number])] for at, number in enumerate(batch)}
        special = [mark for mask in encoded["special_tokens_mask"] for mark in mask]
        together = np.concatenate([vectors[number] for number in range(len(windows))])
        return Embedded(together, np.array(special, np.bool_))

    def closeness(self, measure: Measure, first: Embedded, second: Embedded) -> float:
        """Between -1 and 1; 1 for equal texts."""
        return embedding_similarity(first, second) if measure == "embedding" else bertscore_f1(first, second)


def embedding_similarity(first: Embedded, second: Embedded) -> float:
    """Cosine of the mean vectors, special tokens included (Reimers and Gurevych 2019, section 3, mean pooling)."""
    if not len(first.vectors) or not len(second.vectors):
        return 0.0
    a, b = first.vectors.astype(np.float64).mean(axis=0), second.vectors.astype(np.float64).mean(axis=0)
    size = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / size if size else 0.0


def bertscore_f1(first: Embedded, second: Embedded) -> float:
    """BERTScore's F1 (Zhang et al. 2020, section 3), with neither idf weights nor rescaling.

    Every token is matched with the token of the other text whose cosine is largest; precision and
    recall are the means of these over the tokens of either text, F1 = 2PR / (P + R). Special
    tokens take no part. 0 for a text without tokens.
    """
    a, b = _unit(first), _unit(second)
    if not len(a) or not len(b):
        return 0.0
    best_a, best_b = np.empty(len(a)), np.full(len(b), -np.inf)
    for start in range(0, len(a), _ROWS_AT_ONCE):
        cosines = a[start : start + _ROWS_AT_ONCE] @ b.T
        best_a[start : start + _ROWS_AT_ONCE] = cosines.max(axis=1)
        best_b = np.maximum(best_b, cosines.max(axis=0))
    precision, recall = float(best_a.mean()), float(best_b.mean())
    return 2 * precision * recall / (precision + recall) if precision + recall > 0 else 0.0


def _unit(embedded: Embedded) -> npt.NDArray[np.float64]:
    """The vectors of the text's own tokens, each of length one."""
    vectors = embedded.vectors[~embedded.special].astype(np.float64)
    sizes = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(sizes > 0, sizes, 1.0))
