"""Rules that say why a document is no good text, alone and in the published sets.

A rule is its settings and one function of a document's features that gives a reason, or None. A set
is a class that inherits its rules, with the published thresholds as defaults. To add a rule: a class,
and a line in :data:`RULES`.
"""

from __future__ import annotations

import re
import unicodedata
from typing import ClassVar

from pydantic import Field

from tasks.task import Settings
from tasks.text.features import (
    TERMINAL_PUNCTUATION,
    Features,
    characters_in_duplicates,
    length_in_latin_characters,
    share,
    share_of_duplicates,
    words_in,
)


class Rule(Settings):
    """One rule; ``reason`` says why a document is dropped, ``edit`` may leave out lines before that."""

    def edit(self, text: str) -> str:
        return text

    def reason(self, features: Features) -> str | None:
        raise NotImplementedError


class Length(Rule):
    """Documents of a sensible length."""

    min_words: int = Field(20, ge=0)
    """Words, at least (estimated in scripts without spaces)."""
    max_words: int = Field(500_000, ge=1)
    """Words, at most."""

    def reason(self, features: Features) -> str | None:
        return None if self.min_words <= features.words <= self.max_words else "length"


class Characters(Rule):
    """Text made of letters: no number dumps, no encoded binaries, no undecodable pages."""

    min_letters: float = Field(0.5, ge=0, le=1)
    """Share of letters among the characters that are not white space, at least."""
    max_undecodable: float = Field(0.005, ge=0, le=1)
    """Share of replacement characters (U+FFFD), at most."""
    long_word: int = Field(100, ge=1)
    """Characters from which a word is too long to be one."""
    max_in_long_words: float = Field(0.2, ge=0, le=1)
    """Share of the characters that are within such words, at most."""

    def reason(self, features: Features) -> str | None:
        printed = max(features.printed, 1)
        # Vowel signs of Indic scripts and Thai are marks to Unicode, and letters to a reader.
        letters = sum(character.isalpha() or _is_mark(character) for character in features.text)
        long_words = sum(len(word) for word in features.spaced_words if len(word) >= self.long_word)
        good = (
            letters >= self.min_letters * printed
            and features.text.count("\ufffd") <= self.max_undecodable * printed
            and long_words <= self.max_in_long_words * printed
        )
        return None if good else "characters"


class WordLength(Rule):
    """Words of a usual length (Gopher); says nothing about scripts without spaces."""

    min_mean_word_length: float = 3
    """Mean characters of a word, at least."""
    max_mean_word_length: float = 10
    """Mean characters of a word, at most."""

    def reason(self, features: Features) -> str | None:
        words = features.spaced_words
        if features.is_unspaced or not words:
            return None
        mean = sum(map(len, words)) / len(words)
        return None if self.min_mean_word_length <= mean <= self.max_mean_word_length else "word_length"


class Symbols(Rule):
    """Few hash marks and ellipses (Gopher)."""

    max_symbols_per_word: float = 0.1
    """Hash marks per word, and ellipses per word, at most."""

    def reason(self, features: Features) -> str | None:
        text = features.text
        most = max(text.count("#"), text.count("...") + text.count("…"))
        return "symbols" if most > self.max_symbols_per_word * features.words else None


class Bullets(Rule):
    """Not a mere list (Gopher)."""

    max_bullet_lines: float = 0.9
    """Share of lines that start with a bullet, at most."""

    def reason(self, features: Features) -> str | None:
        bullets = ("•", "‣", "▪", "●", "○", "■", "- ", "* ", "· ", "・", "–")
        return "bullets" if share(line.startswith(bullets) for line in features.lines) > self.max_bullet_lines else None


class Ellipses(Rule):
    """Not a page of teasers (Gopher)."""

    max_ellipsis_lines: float = 0.3
    """Share of lines that end with an ellipsis, at most."""

    def reason(self, features: Features) -> str | None:
        ends = share(line.endswith(("...", "…")) for line in features.lines)
        return "ellipses" if ends > self.max_ellipsis_lines else None


class Alphabetic(Rule):
    """Words with letters in them (Gopher)."""

    min_alphabetic_words: float = 0.8
    """Share of words with at least one letter, at least."""

    def reason(self, features: Features) -> str | None:
        alphabetic = share(any(map(str.isalpha, piece)) or _is_mark(piece[0]) for piece in features.pieces)
        return None if alphabetic >= self.min_alphabetic_words else "alphabetic"


class StopWords(Rule):
    """Sentences have function words (Gopher). Applied to English and Chinese only."""

    min_stop_words: int = 2
    """Different function words that occur, at least."""

    known: ClassVar[dict[str, frozenset[str]]] = {
        "en": frozenset({"the", "be", "to", "of", "and", "that", "have", "with"}),
        "zh": frozenset("的是了在和有不之以为而其于也"),
    }
    """English: the eight of Gopher. Chinese: as frequent ones, modern and classical."""

    def reason(self, features: Features) -> str | None:
        stop_words = self.known.get(features.language)
        if stop_words is None:
            return None
        found = stop_words.intersection(piece.lower().strip(".,;:!?\"'()") for piece in features.pieces)
        return None if len(found) >= self.min_stop_words else "stop_words"


class RepeatedLines(Rule):
    """Few lines and paragraphs twice (Gopher, table A1)."""

    max_duplicate_lines: float = 0.30
    """Share of lines that stood before, at most."""
    max_duplicate_paragraphs: float = 0.30
    """Share of paragraphs that stood before, at most."""
    max_characters_in_duplicate_lines: float = 0.20
    """Share of characters within such lines, at most."""
    max_characters_in_duplicate_paragraphs: float = 0.20
    """Share of characters within such paragraphs, at most."""

    def reason(self, features: Features) -> str | None:
        total = max(len(features.text), 1)
        bounds = (
            (features.lines, self.max_duplicate_lines, self.max_characters_in_duplicate_lines),
            (features.paragraphs, self.max_duplicate_paragraphs, self.max_characters_in_duplicate_paragraphs),
        )
        for parts, most, most_characters in bounds:
            if share_of_duplicates(parts) > most or characters_in_duplicates(parts) / total > most_characters:
                return "repeated_lines"
        return None


class RepeatedWords(Rule):
    """Few runs of words again and again (Gopher, table A1)."""

    max_top_runs: dict[int, float] = Field({2: 0.20, 3: 0.18, 4: 0.16})
    """Words in a run → share of characters within its most frequent one, at most."""
    max_repeated_runs: dict[int, float] = Field({5: 0.15, 6: 0.14, 7: 0.13, 8: 0.12, 9: 0.11, 10: 0.10})
    """Words in a run → share of characters within runs that stood before, at most."""

    def reason(self, features: Features) -> str | None:
        for words, most in self.max_top_runs.items():
            if features.share_of_top_run(words) > most:
                return "repeated_words"
        for words, most in self.max_repeated_runs.items():
            if features.share_of_repeated_runs(words) > most:
                return "repeated_words"
        return None


class Lines(Rule):
    """Leave out lines that are no sentences, and notices (C4); a document with none left is dropped."""

    min_words_in_line: int = 5
    """Lines with fewer words are left out."""
    terminal_punctuation: bool = True
    """Whether lines that end without a full stop, question or exclamation mark, or quotation mark are left out."""
    notices: tuple[str, ...] = (
        "javascript",
        "terms of use",
        "privacy policy",
        "cookie policy",
        "uses cookies",
        "use of cookies",
        "use cookies",
    )
    """Lines that contain one of these (in any case) are left out."""

    citations: ClassVar[re.Pattern[str]] = re.compile(r"\[(?:\d{1,4}|edit|citation needed)\]")

    def edit(self, text: str) -> str:
        kept = (self.citations.sub("", line) for line in text.split("\n"))
        lines = [line for line in kept if not line.strip() or self._keeps(line.strip())]
        return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip("\n")

    def reason(self, features: Features) -> str | None:
        return None if features.text.strip() else "lines"

    def _keeps(self, line: str) -> bool:
        if self.terminal_punctuation and (not line.endswith(TERMINAL_PUNCTUATION) or line.endswith(("...", "…"))):
            return False
        lowered = line.lower()
        return words_in(line) >= self.min_words_in_line and not any(notice in lowered for notice in self.notices)


class Sentences(Rule):
    """A few sentences at least (C4)."""

    min_sentences: int = 3
    """Sentences, at least."""

    def reason(self, features: Features) -> str | None:
        return None if features.sentences >= self.min_sentences else "sentences"


class Placeholders(Rule):
    """No filler text (C4)."""

    fillers: tuple[str, ...] = ("lorem ipsum",)
    """A document that contains one of these (in any case) is dropped."""

    def reason(self, features: Features) -> str | None:
        lowered = features.text.lower()
        return "placeholders" if any(filler in lowered for filler in self.fillers) else None


class CurlyBrackets(Rule):
    """No program code (C4)."""

    max_curly_brackets: int = 0
    """Opening curly brackets, at most."""

    def reason(self, features: Features) -> str | None:
        return "curly_brackets" if features.text.count("{") > self.max_curly_brackets else None


class Punctuation(Rule):
    """Lines that end as sentences do (FineWeb)."""

    min_punctuated_lines: float = 0.12
    """A document is dropped if at most this share of its lines ends with terminal punctuation."""

    def reason(self, features: Features) -> str | None:
        ends = share(line.endswith(TERMINAL_PUNCTUATION) for line in features.lines)
        return None if ends > self.min_punctuated_lines else "punctuation"


class ShortLines(Rule):
    """Not a page of menus (FineWeb)."""

    short_line: int = 30
    """Characters below which a line is short (a word of Chinese counts as an English one)."""
    max_short_lines: float = 0.67
    """A document is dropped if at least this share of its lines is short."""

    def reason(self, features: Features) -> str | None:
        short = share(length_in_latin_characters(line) < self.short_line for line in features.lines)
        return "short_lines" if short >= self.max_short_lines else None


class DuplicateLines(Rule):
    """Few characters in duplicate lines (FineWeb)."""

    max_characters_in_duplicates: float = 0.1
    """A document is dropped if at least this share of its characters is within lines that stood before."""

    def reason(self, features: Features) -> str | None:
        total = max(len(features.text), 1)
        share_within = characters_in_duplicates(features.lines) / total
        return "duplicate_lines" if share_within >= self.max_characters_in_duplicates else None


class RuleSet(Rule):
    """Rules together: those that a subclass inherits, in their order; the reason is the first one's."""

    def _rules(self) -> list[type[Rule]]:
        return [base for base in type(self).__bases__ if base is not RuleSet and issubclass(base, Rule)]

    def edit(self, text: str) -> str:
        for rule in self._rules():
            text = rule.edit(self, text)
        return text

    def reason(self, features: Features) -> str | None:
        for rule in self._rules():
            reason = rule.reason(self, features)
            if reason is not None:
                return reason
        return None


class Gopher(
    RuleSet, Length, WordLength, Symbols, Bullets, Ellipses, Alphabetic, StopWords, RepeatedLines, RepeatedWords
):
    """The quality and repetition rules of Gopher (Rae et al. 2021, section A1.1 and table A1)."""

    min_words: int = Field(50, ge=0)
    """Words, at least."""
    max_words: int = Field(100_000, ge=1)
    """Words, at most."""


class C4(RuleSet, Lines, Placeholders, CurlyBrackets, Sentences):
    """The rules of C4 (Raffel et al. 2020, section 2.2), without its list of bad words."""


class FineWeb(RuleSet, Punctuation, DuplicateLines, ShortLines):
    """The rules that FineWeb adds to Gopher's and C4's (Penedo et al. 2024, section 3.6)."""


RULES: dict[str, type[Rule]] = {
    "length": Length,
    "characters": Characters,
    "word_length": WordLength,
    "symbols": Symbols,
    "bullets": Bullets,
    "ellipses": Ellipses,
    "alphabetic": Alphabetic,
    "stop_words": StopWords,
    "repeated_lines": RepeatedLines,
    "repeated_words": RepeatedWords,
    "lines": Lines,
    "sentences": Sentences,
    "placeholders": Placeholders,
    "curly_brackets": CurlyBrackets,
    "punctuation": Punctuation,
    "short_lines": ShortLines,
    "duplicate_lines": DuplicateLines,
    "gopher": Gopher,
    "c4": C4,
    "fineweb": FineWeb,
}
"""Name in a recipe → rule or set of rules."""


def _is_mark(character: str) -> bool:
    return character > "\u02ff" and unicodedata.category(character).startswith("M")


def judge(name: str, rule: Rule, features: Features) -> tuple[Features, str | None]:
    """Apply one rule: the features of what it leaves of the text, and why the document is dropped, if it is.

    The reason of a set's rule carries the set's name: ``gopher.length``.
    """
    edited = rule.edit(features.text)
    if edited != features.text:
        features = Features(edited, features.language)
    reason = rule.reason(features)
    return features, f"{name}.{reason}" if reason is not None and reason != name else reason
