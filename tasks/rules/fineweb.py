"""The rules that FineWeb adds to Gopher's and C4's (Penedo et al. 2024, section 3.6), as datatrove reads them."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from tasks.rules.batch import Batch
from tasks.rules.rule import Rule, RuleSet
from tasks.rules.segments import shares
from tasks.rules.signs import SENTENCE_ENDS, WIDE_ENDS
from tasks.rules.unspaced import lengths_in_latin


class Punctuation(Rule):
    """Lines that end as sentences do (FineWeb)."""

    fault: ClassVar[str] = "punctuation"

    min_punctuated_lines: float = 0.12
    """Share of lines that end with terminal punctuation, at least; in Chinese and Japanese also with a
    closing quotation mark, an ellipsis, a colon or a semicolon."""

    def faulty(self, batch: Batch) -> np.ndarray:
        lines = batch.printed_lines
        punctuated = lines.end_with(*SENTENCE_ENDS)
        if batch.is_unspaced.any():
            punctuated |= lines.stripped.end_with(*WIDE_ENDS) & batch.is_unspaced[lines.documents]
        return shares(lines.sums(punctuated), lines.counts) < self.min_punctuated_lines


class ShortLines(Rule):
    """Not a page of menus (FineWeb)."""

    fault: ClassVar[str] = "short_lines"

    short_line: int = 30
    """Characters up to which a line is short (a word of Chinese counts as an English one)."""
    max_short_lines: float = 0.67
    """Share of lines that are short, at most."""

    def faulty(self, batch: Batch) -> np.ndarray:
        lines = batch.printed_lines
        lengths = lines.lengths
        if batch.is_unspaced.any():
            places = np.flatnonzero(batch.is_unspaced[lines.documents])
            lengths = lengths.astype(np.float64)
            lengths[places] = lengths_in_latin(lines.strings(places))
        return shares(lines.sums(lengths <= self.short_line), lines.counts) > self.max_short_lines


class DuplicateLines(Rule):
    """Few characters in duplicate lines (FineWeb)."""

    fault: ClassVar[str] = "duplicate_lines"

    max_characters_in_duplicates: float = 0.1
    """Share of characters within lines that stood before, at most (datatrove's default is 0.01, the paper's 0.1)."""

    def faulty(self, batch: Batch) -> np.ndarray:
        lines = batch.printed_lines
        within = lines.sums(lines.repeated * lines.lengths)
        newlines = batch.lines.counts - 1
        return shares(within, batch.characters - newlines) > self.max_characters_in_duplicates


class Lists(Rule):
    """Not one word a line (FineWeb's code)."""

    fault: ClassVar[str] = "lists"

    max_newlines_per_word: float = 0.3
    """Newlines per word, at most."""

    def faulty(self, batch: Batch) -> np.ndarray:
        newlines = batch.lines.counts - 1
        return shares(newlines, batch.tokens) > self.max_newlines_per_word


class FineWeb(RuleSet, Punctuation, ShortLines, DuplicateLines, Lists):
    """The rules that FineWeb adds to Gopher's and C4's (Penedo et al. 2024, section 3.6)."""
