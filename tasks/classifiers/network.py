"""A text classifier of Hugging Face ``transformers``: any architecture with a head for sequence classification."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from storage.errors import SourceError
from tasks.classifiers.folders import labels_of

if TYPE_CHECKING:
    from tasks.classifiers.interface import Device

_BATCH_TOKENS = 8_192
"""Tokens of a batch, filling included; texts of like length are put together."""
_MOST_CONTEXT = 8_192
"""Tokens of a text that are looked at, at most, where a network names no bound or a larger one."""
_CHARACTERS_PER_TOKEN = 16
"""No text needs more characters than so many to fill the context; the rest is not even cut into tokens."""


class NetworkClassifier:
    """A network and its tokenizer. A text is looked at up to the network's context.

    The probabilities are a softmax over the labels; where the folder says that labels do not exclude
    each other (``problem_type: multi_label_classification``) a sigmoid for each; where it has a
    single output or says ``regression``, the output itself, on the scale that it was trained on.
    """

    def __init__(self, network: Any, tokenizer: Any, labels: tuple[str, ...]) -> None:
        self.labels = labels
        self._network = network
        self._tokenizer = tokenizer
        self._context = _context_of(network.config, tokenizer)
        known = (network.config.pad_token_id, tokenizer.pad_token_id, tokenizer.eos_token_id, 0)
        self._filling: int = next(number for number in known if number is not None)
        network.config.pad_token_id = self._filling

    @classmethod
    def load(cls, folder: Path, device: Device = "cpu", threads: int | None = None) -> NetworkClassifier:
        """Read the folder; no code in it is run. Raises SourceError if it cannot be opened."""
        import torch
        from transformers import AutoModelForSequenceClassification, AutoTokenizer
        from transformers.utils import logging

        labels = labels_of(folder)
        if threads is not None:
            torch.set_num_threads(threads)
        logging.disable_progress_bar()
        place = "cuda" if device == "cuda" or (device == "auto" and torch.cuda.is_available()) else "cpu"
        options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
        try:
            tokenizer = AutoTokenizer.from_pretrained(folder, **options)
            network, loading = AutoModelForSequenceClassification.from_pretrained(
                folder, use_safetensors=True, dtype=torch.float32, output_loading_info=True, **options
            )
        except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
            reason = " ".join(str(error).split())[:300]
            raise SourceError(f"{folder}: transformers cannot open it as a text classifier ({reason})") from error
        if missing := sorted(loading["missing_keys"]):
            raise SourceError(
                f"{folder}: its weights lack {missing[0]} ({len(missing)} missing); it was never trained to classify"
            )
        return cls(network.eval().to(place), tokenizer, labels)

    def probabilities(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """See ``TextClassifier``: (texts × labels)."""
        import torch

        found = np.zeros((len(texts), len(self.labels)), dtype=np.float32)
        if not texts:
            return found
        tokens = self._tokens(texts)
        with torch.inference_mode():
            for batch in _batched([len(row) for row in tokens]):
                ids, mask = (torch.from_numpy(part) for part in self._filled([tokens[n] for n in batch]))
                place = self._network.device
                logits = self._network(input_ids=ids.to(place), attention_mask=mask.to(place)).logits.float()
                found[batch] = self._as_probabilities(logits).cpu().numpy()
        return found

    def _filled(self, rows: Sequence[list[int]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Token ids filled up behind to the longest row, and 1 for what is no filling; each (rows × tokens)."""
        ids = np.full((len(rows), max(map(len, rows))), self._filling, dtype=np.int64)
        mask = np.zeros_like(ids)
        for number, row in enumerate(rows):
            ids[number, : len(row)] = row
            mask[number, : len(row)] = 1
        return ids, mask

    def _tokens(self, texts: Sequence[str]) -> list[list[int]]:
        most = self._context * _CHARACTERS_PER_TOKEN
        clean = [text[:most].encode("utf-8", "replace").decode("utf-8") for text in texts]
        encoded = self._tokenizer(clean, truncation=True, max_length=self._context, return_attention_mask=False)
        # A network needs one token at least: the end (or filling) stands for an empty text.
        return [row or [self._filling] for row in encoded["input_ids"]]

    def _as_probabilities(self, logits: Any) -> Any:
        kind = self._network.config.problem_type
        if kind == "regression" or (kind is None and len(self.labels) == 1):
            return logits
        if kind == "multi_label_classification":
            return logits.sigmoid()
        return logits.softmax(dim=-1)


def _context_of(config: Any, tokenizer: Any) -> int:
    """Tokens that network and tokenizer both have room for."""
    bounds = [_MOST_CONTEXT, int(tokenizer.model_max_length)]
    positions = getattr(config, "max_position_embeddings", None)
    if isinstance(positions, int) and positions > 0:
        # RoBERTa and its kin count positions from behind the filling token.
        behind = any(name in config.model_type for name in ("roberta", "camembert", "mpnet", "longformer"))
        bounds.append(positions - ((config.pad_token_id or 0) + 1 if behind else 0))
    return max(1, min(bounds))


def _batched(lengths: Sequence[int]) -> list[list[int]]:
    """Positions of rows, longest first, in batches of at most ``_BATCH_TOKENS`` tokens once filled up."""
    batches: list[list[int]] = []
    room = 0
    for position in sorted(range(len(lengths)), key=lambda n: (-lengths[n], n)):
        if not batches or len(batches[-1]) >= room:
            batches.append([])
            room = max(1, _BATCH_TOKENS // lengths[position])
        batches[-1].append(position)
    return batches
