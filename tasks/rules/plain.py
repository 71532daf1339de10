"""Rules for any text, the web's or not."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import Field

from tasks.rules.batch import Batch
from tasks.rules.rule import Rule
from tasks.rules.segments import sums


class Characters(Rule):
    """Text made of letters: no number dumps, no encoded binaries, no undecodable pages."""

    fault: ClassVar[str] = "characters"

    min_letters: float = Field(0.5, ge=0, le=1)
    """Share of letters among the characters that are not white space, at least."""
    max_undecodable: float = Field(0.005, ge=0, le=1)
    """Share of replacement characters (U+FFFD), at most."""
    long_word: int = Field(100, ge=1)
    """Characters from which a word is too long to be one."""
    max_in_long_words: float = Field(0.2, ge=0, le=1)
    """Share of the characters that are within such words, at most."""

    def faulty(self, batch: Batch) -> np.ndarray:
        printed = np.maximum(batch.printed, 1)
        lengths = batch.chunk_lengths
        in_long_words = sums(np.where(lengths >= self.long_word, lengths, 0), batch.chunk_bounds)
        return (
            (batch.letters < self.min_letters * printed)
            | (batch.count("\ufffd") > self.max_undecodable * printed)
            | (in_long_words > self.max_in_long_words * printed)
        )
