"""Rules that say why a document is no good text, alone and in the published sets."""

from __future__ import annotations

from tasks.rules.c4 import C4, CurlyBrackets, Lines, Placeholders, Sentences
from tasks.rules.classifier import Classified
from tasks.rules.fineweb import DuplicateLines, FineWeb, Lists, Punctuation, ShortLines
from tasks.rules.gopher import (
    Alphabetic,
    Bullets,
    Ellipses,
    Gopher,
    Length,
    RepeatedLines,
    RepeatedWords,
    StopWords,
    Symbols,
    WordLength,
)
from tasks.rules.plain import Characters
from tasks.rules.rule import Rule
from tasks.rules.word_lists import Words

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
    "lists": Lists,
    "words": Words,
    "classifier": Classified,
    "gopher": Gopher,
    "c4": C4,
    "fineweb": FineWeb,
}
"""Name in a recipe → rule or set of rules."""
