"""The network with a second output: which class the whole sequence is of.

B sequences   T positions   D width   C classes
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from model.config import ModelConfig
from model.network.cache import Cache
from model.network.cross_entropy import Softening
from model.network.transformer import IGNORED, Transformer

CLASSES = 2
"""Of a pair of segments (see ``model.data.pairs``)."""
HEAD = ("dense.", "classifier.")
"""What the names of the second output's weights begin with."""


class PairEncoder(Transformer):
    """A network that also classifies sequences, by the features of their first position.

    classifier(GELU(dense(x[0]))): the head of ``transformers``' EuroBertForSequenceClassification
    with pooling ``bos``, which has these names for its weights.
    """

    def __init__(self, config: ModelConfig, vocabulary: int) -> None:
        super().__init__(config, vocabulary)
        self.dense = nn.Linear(config.width, config.width)
        self.classifier = nn.Linear(config.width, CLASSES)

    def forward(
        self,
        tokens_BT: Tensor,
        positions_BT: Tensor | None = None,
        documents_BT: Tensor | None = None,
        targets_BT: Tensor | None = None,
        cache: Cache | None = None,
        rows_B: Tensor | None = None,
        softening: Softening | None = None,
        balance: bool = False,
        labels_B: Tensor | None = None,
    ) -> Tensor:
        """What the network alone gives; with ``labels_B`` (int64, or IGNORED) also the summed loss of the classes.

        With labels, a vector of float32: the loss of the tokens (and with ``softening`` the plain one), then that of
        the classes.
        """
        x_BTD = self.model(tokens_BT, positions_BT, documents_BT, cache, rows_B)
        of_tokens: Tensor = self.lm_head(x_BTD, targets_BT, softening)
        if labels_B is None:
            return of_tokens
        logits_BC = self.classifier(F.gelu(self.dense(x_BTD[:, 0])))
        of_classes = F.cross_entropy(logits_BC.float(), labels_B, ignore_index=IGNORED, reduction="sum")
        return torch.cat((of_tokens.reshape(-1), of_classes[None]))


def with_head(network: Transformer, wanted: bool, seed: int) -> Transformer:
    """The same network with the second output (of new weights, drawn by the seed) or without it."""
    if wanted == isinstance(network, PairEncoder):
        return network
    made = (PairEncoder if wanted else Transformer)(network.shape, network.vocabulary)
    made.initialise(seed)
    known = {name: weight for name, weight in network.state_dict().items() if not name.startswith(HEAD)}
    made.load_state_dict(known, strict=False)
    return made
