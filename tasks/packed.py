"""What packing documents into training sequences costs, for a person to choose a context by."""

from __future__ import annotations

import numpy as np

from model.data.packing import count_rows
from storage.shard_index import Index

CONTEXTS = (1_024, 4_096, 16_384)


def packing_metrics(index: Index) -> dict[str, float]:
    """For some contexts, of the training split: the share of places left empty, and of documents that are cut.

    ``padding.1024``, ``documents_cut.1024`` …; contexts for which there is no full sequence are left out.
    """
    lengths = index.only("train-").lengths
    predictions = np.maximum(lengths.astype(np.int64) - 1, 0)
    metrics: dict[str, float] = {}
    for context in CONTEXTS:
        if predictions.sum() >= context:
            metrics[f"padding.{context}"] = 1 - int(predictions.sum()) / (count_rows(lengths, context) * context)
            metrics[f"documents_cut.{context}"] = float((predictions > context).mean())
    return metrics
