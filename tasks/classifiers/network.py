"""A text classifier of Hugging Face ``transformers``: any architecture with a head for sequence classification."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.classifiers.folders import labels_of
from tasks.networks import Device, batches, context_of, filled, filling_of, opened

_MOST_CONTEXT = 8_192
"""Tokens of a text that are looked at, at most, where a network has room for more."""
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
        self._context = min(_MOST_CONTEXT, context_of(network.config, tokenizer, _MOST_CONTEXT))
        self._filling = filling_of(network.config, tokenizer)
        # Networks that read from left to right look for the last token that is no filling.
        network.config.pad_token_id = self._filling

    @classmethod
    def load(cls, folder: Path, device: Device = "cpu", threads: int | None = None) -> NetworkClassifier:
        """Read the folder; no code in it is run. Raises SourceError if it cannot be opened."""
        labels = labels_of(folder)
        if threads is not None:
            import torch

            torch.set_num_threads(threads)
        return cls(*opened(folder, "text classifier", device), labels)

    def probabilities(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """See ``TextClassifier``: (texts × labels)."""
        import torch

        found = np.zeros((len(texts), len(self.labels)), dtype=np.float32)
        if not texts:
            return found
        tokens = self._tokens(texts)
        with torch.inference_mode():
            for batch in batches([len(row) for row in tokens]):
                rows = filled([tokens[number] for number in batch], self._filling, self._network.device)
                logits = self._network(**rows).logits.float()
                found[batch] = self._as_probabilities(logits).cpu().numpy()
        return found

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
