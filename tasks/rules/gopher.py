"""The rules of Gopher (Rae et al. 2021, section A1.1 and table A1), as datatrove 0.10.1 reads them.

In scripts without spaces words are estimated (see :mod:`tasks.rules.unspaced`), a run of n words is
as many pieces as n words have, and the length of words says nothing.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from tasks.rules.batch import Batch
from tasks.rules.lines import Lines
from tasks.rules.rule import Judged, Rule, RuleSet
from tasks.rules.runs import Runs
from tasks.rules.segments import running, shares, sums
from tasks.rules.vocabulary import ALPHABETIC


class Length(Rule):
    """Documents of a sensible length."""

    fault: ClassVar[str] = "length"

    min_words: int = Field(20, ge=0)
    """Words, at least (mere symbols not counted; estimated in scripts without spaces)."""
    max_words: int = Field(500_000, ge=1)
    """Words, at most."""

    def faulty(self, batch: Batch) -> np.ndarray:
        return batch.words_outside(self.min_words, self.max_words)


class WordLength(Rule):
    """Words of a usual length (Gopher); says nothing about scripts without spaces."""

    fault: ClassVar[str] = "word_length"

    min_mean_word_length: float = 3
    """Mean characters of a word, at least."""
    max_mean_word_length: float = 10
    """Mean characters of a word, at most."""

    def faulty(self, batch: Batch) -> np.ndarray:
        lengths = sums(batch.is_spaced_word * batch.word_lengths, batch.word_bounds)
        means = shares(lengths, batch.spaced_words)
        unusual = (means < self.min_mean_word_length) | (means > self.max_mean_word_length)
        return unusual & ~batch.is_unspaced & (batch.spaced_words > 0)


class Symbols(Rule):
    """Few hash marks and ellipses (Gopher)."""

    fault: ClassVar[str] = "symbols"

    max_symbols_per_word: float = 0.1
    """Hash marks per word, and ellipses per word, at most."""

    def faulty(self, batch: Batch) -> np.ndarray:
        hashes = shares(batch.count("#"), batch.tokens)
        ellipses = shares(batch.count("...", "…"), batch.tokens)
        return np.maximum(hashes, ellipses) > self.max_symbols_per_word


class Bullets(Rule):
    """Not a mere list (Gopher)."""

    fault: ClassVar[str] = "bullets"

    max_bullet_lines: float = 0.9
    """Share of lines that start with a bullet, at most."""
    bullets: tuple[str, ...] = ("•", "-")
    """What counts as a bullet."""

    def faulty(self, batch: Batch) -> np.ndarray:
        lines = batch.lines
        return shares(lines.sums(lines.stripped.start_with(*self.bullets)), real_lines(batch)) > self.max_bullet_lines


class Ellipses(Rule):
    """Not a page of teasers (Gopher)."""

    fault: ClassVar[str] = "ellipses"

    max_ellipsis_lines: float = 0.3
    """Share of lines that end with an ellipsis, at most."""

    def faulty(self, batch: Batch) -> np.ndarray:
        lines = batch.lines
        return shares(lines.sums(lines.stripped.end_with("...", "…")), real_lines(batch)) > self.max_ellipsis_lines


def real_lines(batch: Batch) -> np.ndarray:
    """Lines of each document, blank ones too, but not what comes after a last newline."""
    lines, last = batch.lines, batch.lines.bounds[1:] - 1
    return lines.counts - (lines.starts[last] == lines.ends[last])


class Alphabetic(Rule):
    """Words with letters in them (Gopher)."""

    fault: ClassVar[str] = "alphabetic"

    min_alphabetic_words: float = 0.8
    """Share of words with at least one letter, at least (punctuation marks are words without)."""

    def faulty(self, batch: Batch) -> np.ndarray:
        alphabetic = sums((batch.flags & ALPHABETIC) > 0, batch.word_bounds)
        return shares(alphabetic, batch.pieces) < self.min_alphabetic_words


class StopWords(Rule):
    """Sentences have function words (Gopher). Applied to English and Chinese only."""

    fault: ClassVar[str] = "stop_words"

    min_stop_words: int = 2
    """Different function words that occur, at least."""

    known: ClassVar[dict[str, tuple[str, ...]]] = {
        "en": ("the", "be", "to", "of", "and", "that", "have", "with"),
        "zh": tuple("的是了在和有不之以为而其于也"),
    }
    """English: the eight of Gopher. Chinese: as frequent ones, modern and classical."""

    def faulty(self, batch: Batch) -> np.ndarray:
        found = np.zeros(len(batch), dtype=bool)
        for language, words in self.known.items():
            concerned = batch.languages == language
            if concerned.any():
                found |= concerned & (batch.has_words(words).sum(axis=1) < self.min_stop_words)
        return found


class RepeatedLines(Rule):
    """Few lines and paragraphs twice (Gopher, table A1)."""

    fault: ClassVar[str] = "repeated_lines"

    max_duplicate_lines: float = 0.30
    """Share of lines that stood before, at most."""
    max_duplicate_paragraphs: float = 0.30
    """Share of paragraphs that stood before, at most."""
    max_characters_in_duplicate_lines: float = 0.20
    """Share of characters within such lines, at most."""
    max_characters_in_duplicate_paragraphs: float = 0.20
    """Share of characters within such paragraphs, at most."""

    def faulty(self, batch: Batch) -> np.ndarray:
        paragraphs = _paragraphs(batch)
        bounds = (
            (_runs_of_text(batch), self.max_duplicate_lines, self.max_characters_in_duplicate_lines),
            (paragraphs, self.max_duplicate_paragraphs, self.max_characters_in_duplicate_paragraphs),
        )
        faulty = np.zeros(len(batch), dtype=bool)
        for parts, most, most_characters in bounds:
            within = parts.sums(parts.repeated * parts.lengths)
            faulty |= shares(parts.sums(parts.repeated), parts.counts) > most
            faulty |= shares(within, batch.characters) > most_characters
        return faulty


def _runs_of_text(batch: Batch) -> Lines:
    """Lines without those that are empty, but for a first and a last one (``\\n+`` splits a text)."""
    lines = batch.lines
    kept = lines.lengths > 0
    edges = np.concatenate([lines.bounds[:-1], lines.bounds[1:] - 1])
    kept[edges] = True
    return lines.where(kept)


def _paragraphs(batch: Batch) -> Lines:
    """What blank lines (two newlines or more) separate; a text without any printed characters has one."""
    lines = batch.lines
    printed = np.flatnonzero(lines.printed)
    places = np.searchsorted(printed, lines.bounds)
    has_print = np.diff(places) > 0
    first, last = lines.bounds[:-1].copy(), lines.bounds[:-1].copy()
    first[has_print], last[has_print] = printed[places[:-1][has_print]], printed[places[1:][has_print] - 1]
    # The text begins at its first line with print, and ends with its last.
    inside = (np.arange(len(lines)) >= first[lines.documents]) & (np.arange(len(lines)) <= last[lines.documents])
    filled = inside & (lines.ends > lines.starts)
    begins = filled & ~np.concatenate([[False], filled[:-1]])
    ends = filled & ~np.concatenate([filled[1:], [False]])
    for edges, edge in ((begins, first), (ends, last)):
        edges[edge] = True
    starts, stops = lines.starts.copy(), lines.ends.copy()
    starts[first], stops[last] = lines.stripped.starts[first], lines.stripped.ends[last]
    bounds = running(begins)[lines.bounds]
    return Lines(lines.content, starts[begins], stops[ends], bounds)


class RepeatedWords(Rule):
    """Few runs of words again and again (Gopher, table A1)."""

    fault: ClassVar[str] = "repeated_words"

    max_top_runs: dict[int, float] = Field({2: 0.20, 3: 0.18, 4: 0.16})
    """Words in a run → share of characters within its most frequent one, at most."""
    max_repeated_runs: dict[int, float] = Field({5: 0.15, 6: 0.14, 7: 0.13, 8: 0.12, 9: 0.11, 10: 0.10})
    """Words in a run → share of characters within runs that stood before, at most."""

    def faulty(self, batch: Batch) -> np.ndarray:
        faulty = np.zeros(len(batch), dtype=bool)
        ratios, runs = np.round(batch.pieces_per_word, 1), Runs.of(batch)
        for ratio in np.unique(ratios[batch.asked]):
            documents = np.flatnonzero((ratios == ratio) & batch.asked)
            alike, characters = runs.only(documents), batch.characters[documents]
            found = self._by_top_runs(alike, characters, ratio)
            rest = np.flatnonzero(~found)
            found[rest] = self._by_repeated_runs(alike.only(rest), characters[rest], ratio)
            faulty[documents] = found
        return faulty

    def _by_top_runs(self, runs: Runs, characters: np.ndarray, pieces_per_word: float) -> np.ndarray:
        faulty = np.zeros(len(characters), dtype=bool)
        # Words in a run are joined by spaces, as in datatrove; those of scripts without spaces are not.
        lengths = [(_pieces(n, pieces_per_word), n - 1 if pieces_per_word == 1 else 0) for n in self.max_top_runs]
        limits = list(self.max_top_runs.values())
        bounds = runs.most_in_top_runs(lengths) if limits else []
        for (size, spaces), most, bound in zip(lengths, limits, bounds, strict=True):
            suspects = np.flatnonzero((shares(bound, characters) > most) & ~faulty)
            found = runs.only(suspects).in_top_run(size, spaces)
            faulty[suspects] = shares(found, characters[suspects]) > most
        return faulty

    def _by_repeated_runs(self, runs: Runs, characters: np.ndarray, pieces_per_word: float) -> np.ndarray:
        faulty = np.zeros(len(characters), dtype=bool)
        documents = np.arange(len(characters))
        limits = sorted(self.max_repeated_runs.items())
        for index, (n, most) in enumerate(limits):
            size, total = _pieces(n, pieces_per_word), characters[documents]
            bound = shares(runs.most_in_repeated_runs(size), total)
            read = np.flatnonzero(bound > most)
            found = runs.in_repeated_runs(size, read, most * total[read] + 1)
            faulty[documents[read]] = shares(found, total[read]) > most
            # A bound for these runs is one for longer ones, too.
            least = min((limit for _, limit in limits[index + 1 :]), default=1.0)
            rest = np.flatnonzero((bound > least) & ~faulty[documents])
            runs, documents = runs.only(rest), documents[rest]
        return faulty


def _pieces(words: int, pieces_per_word: float) -> int:
    return max(1, round(words * pieces_per_word))


class Gopher(
    RuleSet, Length, WordLength, Symbols, Bullets, Ellipses, Alphabetic, StopWords, RepeatedLines, RepeatedWords
):
    """The quality and repetition rules of Gopher (Rae et al. 2021, section A1.1 and table A1)."""

    min_words: int = Field(50, ge=0)
    """Words, at least (mere symbols not counted; estimated in scripts without spaces)."""
    max_words: int = Field(100_000, ge=1)
    """Words, at most."""

    def judge(self, batch: Batch, ready: Any = None) -> Judged:
        _ = batch.words  # most of these rules read them, so the first need not do without
        return super().judge(batch, ready)
