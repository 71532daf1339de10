"""What a training's first steps depend on, where a longer one shares them (see ``model.checkpoints.stem``)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from storage.artifact import JsonValue

PLUMBING = "it says what could be continued; the training itself is the same"


@dataclass(frozen=True)
class Stem:
    """The first steps of a training, after which its state serves a longer one."""

    steps: int
    """0: none; the result depends on the length from the beginning."""
    batch_tokens: int
    settings: JsonValue
    """Those that shape these steps."""
    inputs: Mapping[str, str]
    """Digests of the artifacts that they are trained on, by slot."""
    why_none: str = ""
    """With no steps: why."""

    @property
    def tokens(self) -> int:
        return self.steps * self.batch_tokens
