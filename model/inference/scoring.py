"""How well a network predicts texts, packed and masked as in training."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from model.data.batches import Text, TextRows, collate
from model.formats.foreign import Foreign
from model.network.transformer import Transformer

POSITIONS_AT_A_TIME = 4096
"""Size of a batch: enough to keep a small machine busy, little enough for its memory."""


@torch.inference_mode()
def summed_loss(
    network: Transformer | Foreign, texts: Sequence[Text], progress: Callable[[int, int], None] | None = None
) -> float:
    """Sum of the predicted tokens' negative log-likelihoods, in nats.

    A text longer than the network's context is cut, from its start, into pieces of that many
    predictions, as in training. ``progress`` is told sequences done, and in all.
    """
    # Sequences no longer than the longest text needs: where none is cut, the predictions are the same.
    context = max(2, min(network.shape.context, max((len(text.tokens) for text in texts), default=0)))
    rows = TextRows(texts, context)
    device = next(network.parameters()).device
    batch_sequences = max(1, POSITIONS_AT_A_TIME // context)
    total = 0.0
    for start in range(0, len(rows), batch_sequences):
        stop = min(start + batch_sequences, len(rows))
        batch = collate(rows.read(np.arange(start, stop)), context).to(device)
        total += float(network(batch.tokens_BT, batch.positions_BT, batch.documents_BT, batch.targets_BT))
        if progress is not None:
            progress(stop, len(rows))
    return total


def predicted_tokens(texts: Sequence[Text]) -> int:
    """How many tokens of the texts are predicted."""
    return sum(max(len(text.tokens) - max(text.first, 1), 0) for text in texts)
