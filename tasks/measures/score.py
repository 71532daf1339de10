"""What a measured text gives: the figures of a report, from a sum of nats."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Score:
    """How well some model predicts some texts."""

    nats: float
    """Sum of the predicted tokens' negative log-likelihoods, natural logarithm."""
    tokens: int
    """Predicted tokens, above 0."""
    utf8_bytes: int
    """Size of the texts whose tokens were predicted."""

    @property
    def loss(self) -> float:
        """Nats per predicted token."""
        return self.nats / self.tokens

    @property
    def perplexity(self) -> float:
        """exp(loss); infinite beyond what a float holds."""
        return math.exp(self.loss) if self.loss < 700 else math.inf

    @property
    def bits_per_byte(self) -> float:
        """Comparable between tokenizers, as perplexity is not."""
        return self.nats / math.log(2) / self.utf8_bytes

    def figures(self) -> dict[str, float]:
        """The metrics of a report, by their names there."""
        return {
            "loss": self.loss,
            "perplexity": self.perplexity,
            "bits_per_byte": self.bits_per_byte,
            "tokens": self.tokens,
        }
