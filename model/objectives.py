"""What is learnt: an objective turns a batch into losses, and knows neither the loop nor the engine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor, nn

from model.batches import Batch


@dataclass(frozen=True)
class Loss:
    """One term: ``weight`` x summed loss / how many predictions the whole global batch has of it."""

    name: str
    weight: float
    summed: Tensor
    """float32 scalar, summed over the micro-batch."""


class Objective(Protocol):
    """A way to learn from batches."""

    def prepare(self, batch: Batch) -> Batch:
        """The batch with what is hidden or changed of it; anything drawn at random is so by ``batch.rows_B``."""

    def counts(self, batch: Batch) -> dict[str, int]:
        """Per term, how many predictions the batch has of it; known without the network."""

    def losses(self, network: nn.Module, batch: Batch) -> list[Loss]:
        """The terms, differentiable; as many as ``counts`` has, in its order."""


class NextToken:
    """Cross-entropy of the next token, in nats, where the batch has a target.

    Serves pretraining and supervised tuning alike: what does not count is masked in the targets.
    """

    def prepare(self, batch: Batch) -> Batch:
        return batch

    def counts(self, batch: Batch) -> dict[str, int]:
        return {"loss": batch.predicted}

    def losses(self, network: nn.Module, batch: Batch) -> list[Loss]:
        summed = network(batch.tokens_BT, batch.positions_BT, batch.documents_BT, batch.targets_BT)
        return [Loss("loss", 1.0, summed)]


OBJECTIVES: dict[str, Callable[[], Objective]] = {"next_token": NextToken}
"""By the name in a request."""
