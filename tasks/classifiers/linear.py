"""A linear classifier over hashed n-grams: small, fast, and read without any library's own format.

A document's features are (1 + ln count) × idf, scaled to length 1, as in TF-IDF with sublinear
counts (Manning, Raghavan and Schütze, "Introduction to Information Retrieval", section 6.4); the
probabilities are the softmax of a linear function of them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from storage.errors import SourceError
from tasks.classifiers.ngrams import Counts, Ngrams, counts_of

FORMAT = "athanor-linear-ngrams"
VERSION = 1
DESCRIPTION, WEIGHTS = "classifier.json", "weights.safetensors"

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class LinearClassifier:
    """Labels, what is counted, and a weight for each label and bucket."""

    labels: tuple[str, ...]
    ngrams: Ngrams
    weights: Floats
    """(labels × buckets)"""
    bias: Floats
    """(labels)"""
    idf: Floats
    """(buckets): ln((1 + documents) ÷ (1 + documents with the bucket)) + 1."""

    def probabilities(self, texts: Sequence[str]) -> Floats:
        """Probability of each label for each text, (texts × labels); rows sum to 1.

        A text's row does not depend on the texts around it.
        """
        found = [self.of_counts(counts) for counts in counts_of(texts, self.ngrams)]
        return np.concatenate(found) if found else np.zeros((0, len(self.labels)), np.float32)

    def of_counts(self, counts: Counts) -> Floats:
        """The same for texts whose n-grams are counted already."""
        texts = len(counts.starts) - 1
        row = np.repeat(np.arange(texts), np.diff(counts.starts))
        values = features(counts, self.idf)
        scores = np.empty((texts, len(self.labels)))
        for label, weights in enumerate(self.weights):
            scores[:, label] = np.bincount(row, weights=values * weights[counts.buckets], minlength=texts)
        scores += self.bias
        scores -= scores.max(axis=1, keepdims=True)
        likelihoods = np.exp(scores)
        found: Floats = (likelihoods / likelihoods.sum(axis=1, keepdims=True)).astype(np.float32)
        return found

    def save(self, folder: Path) -> None:
        """Write ``classifier.json`` and ``weights.safetensors``: the same classifier gives the same bytes."""
        from safetensors.numpy import save_file

        description = {
            "format": FORMAT,
            "version": VERSION,
            "labels": list(self.labels),
            "ngrams": self.ngrams.model_dump(mode="json"),
        }
        text = json.dumps(description, indent=2, ensure_ascii=False)
        (folder / DESCRIPTION).write_text(text + "\n", encoding="utf-8")
        save_file({"weights": self.weights, "bias": self.bias, "idf": self.idf}, folder / WEIGHTS)

    @classmethod
    def load(cls, folder: Path) -> LinearClassifier:
        """Read what ``save`` wrote. Raises SourceError for a folder that holds something else."""
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        labels, ngrams = read_description(folder)
        try:
            tensors = load_file(folder / WEIGHTS)
        except (OSError, SafetensorError) as error:
            raise SourceError(f"{folder / WEIGHTS}: no weights can be read from it ({error})") from error
        shapes = {"weights": (len(labels), ngrams.buckets), "bias": (len(labels),), "idf": (ngrams.buckets,)}
        for name, shape in shapes.items():
            if name not in tensors or tensors[name].shape != shape or tensors[name].dtype != np.float32:
                raise SourceError(
                    f"{folder / WEIGHTS}: {name} is not float32 of shape {shape}, as {DESCRIPTION} promises"
                )
        return cls(labels, ngrams, **{name: tensors[name] for name in shapes})


def read_description(folder: Path) -> tuple[tuple[str, ...], Ngrams]:
    """Labels and settings from ``classifier.json``; SourceError if it is no such file."""
    path = folder / DESCRIPTION
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if (found["format"], found["version"]) != (FORMAT, VERSION):
            raise ValueError(f"it is of format {found['format']!r}, version {found['version']}; known is {VERSION}")
        labels = tuple(found["labels"])
        if len(labels) < 2 or len(set(labels)) < len(labels) or not all(isinstance(label, str) for label in labels):
            raise ValueError("its labels are not two or more different names")
        return labels, Ngrams.model_validate(found["ngrams"])
    except (OSError, ValueError, KeyError, TypeError, ValidationError) as error:
        reason = " ".join(str(error).split())
        raise SourceError(f"{path}: no description of a classifier ({reason}); train it again") from error


def features(counts: Counts, idf: NDArray[np.floating]) -> NDArray[np.float64]:
    """Weighted counts, each text's scaled to length 1; one value for each of ``counts.buckets``."""
    sizes = np.diff(counts.starts)
    values = (1 + np.log(counts.counts)) * idf[counts.buckets]
    row = np.repeat(np.arange(len(sizes)), sizes)
    norms = np.sqrt(np.bincount(row, weights=values * values, minlength=len(sizes)))
    return np.asarray(values / norms[row], dtype=np.float64)
