"""The rules of C4 (Raffel et al. 2020, section 2.2), as its code and datatrove 0.10.1 read them.

C4 judges lines first: those that end as no sentence does, have too few words, or hold a notice are
left out; what remains must be a few sentences without filler text or program code. The thresholds
are those of C4's code (tensorflow_datasets, c4_utils.py): three words a line and five sentences.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import compress
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from tasks.rules.batch import Batch
from tasks.rules.rule import Judged, Rule, RuleSet
from tasks.rules.signs import WIDE_ENDS

_ENDS = (".", "?", "!", '"', "'")
_BLANK_LINES = re.compile(r"\n(?:[^\S\n]*\n){2,}")
_CITATIONS = re.compile(r"\[(?:\d*|edit|citation needed)\]")
_MAY_BE_CITATION = re.compile(rb"\[(?:[0-9\x80-\xff]*|edit|citation needed)\]")
"""The same in UTF-8: finds all of them, and other signs than digits between brackets."""


class Sentences(Rule):
    """A few sentences at least (C4)."""

    fault: ClassVar[str] = "sentences"

    min_sentences: int = 5
    """Sentences, at least; every line begins a new one."""

    def faulty(self, batch: Batch) -> np.ndarray:
        return batch.lines.sums(batch.sentences_of_lines) < self.min_sentences


class Placeholders(Rule):
    """No filler text (C4)."""

    fault: ClassVar[str] = "placeholders"

    fillers: tuple[str, ...] = ("lorem ipsum",)
    """A document that contains one of these (in any case) is dropped."""

    def faulty(self, batch: Batch) -> np.ndarray:
        return batch.contain(self.fillers)


class CurlyBrackets(Rule):
    """No program code (C4)."""

    fault: ClassVar[str] = "curly_brackets"

    max_curly_brackets: int = 0
    """Opening curly brackets, at most."""

    def faulty(self, batch: Batch) -> np.ndarray:
        return batch.count("{") > self.max_curly_brackets


class Lines(Rule):
    """Leave out lines that are no sentences, and notices (C4); a document with none left is dropped.

    Blank lines between the lines that stay are kept (C4 and datatrove drop them, and with them the
    paragraphs). In Chinese and Japanese a line may end with their own marks and closing quotation marks.
    """

    fault: ClassVar[str] = "lines"

    min_words_in_line: int = 3
    """Lines with fewer words are left out."""
    max_word_length: int = Field(1_000, ge=1)
    """Lines with a longer word are left out (characters)."""
    terminal_punctuation: bool = True
    """Whether lines that end without a full stop, question or exclamation mark, or quotation mark are left out
    (FineWeb was filtered without this rule)."""
    scripts: tuple[str, ...] = ("javascript",)
    """Lines that contain one of these (in any case) are left out."""
    notices: tuple[str, ...] = (
        "terms of use",
        "privacy policy",
        "cookie policy",
        "uses cookies",
        "use of cookies",
        "use cookies",
    )
    """So are those with one of these; brackets in them count, though (as in C4's code)."""

    def judge(self, batch: Batch, ready: Any = None) -> Judged:
        lines = JudgedLines(self, batch)
        return Judged({"lines": lines.none_left}, lines.texts(~lines.none_left))


class C4(RuleSet, Lines, Placeholders, CurlyBrackets, Sentences):
    """The rules of C4 (Raffel et al. 2020, section 2.2), without its list of bad words (see ``words``)."""

    def judge(self, batch: Batch, ready: Any = None) -> Judged:
        lines = JudgedLines(self, batch)
        sentences = lines.per_document(lines.kept * lines.sentences)
        faults = {
            "lines": lines.none_left,
            "placeholders": lines.per_document(lines.complete & lines.contains(self.fillers)) > 0,
            "curly_brackets": lines.brackets() > self.max_curly_brackets,
            "sentences": sentences < self.min_sentences,
        }
        return Judged(faults, lines.texts(~np.logical_or.reduce(list(faults.values()))))


@dataclass
class JudgedLines:
    """The lines of a batch as C4 sees them: without citations, kept or left out."""

    rule: Lines
    batch: Batch

    @cached_property
    def rewritten(self) -> Mapping[int, str]:
        """Lines that lose a citation: index → the stripped line without it."""
        lines, made = self.batch.lines, {}
        for place in np.unique(lines.at(self.batch.content.places_of(_MAY_BE_CITATION))).tolist():
            if self.batch.asked[lines.documents[place]]:
                (line,) = lines.stripped.strings(np.array([place]))
                if (without := _CITATIONS.sub("", line)) != line:
                    made[place] = without
        return made

    @cached_property
    def complete(self) -> np.ndarray:
        """Lines that are no fragments."""
        batch, lines = self.batch, self.batch.lines
        complete = (batch.words_of_lines >= self.rule.min_words_in_line) & lines.printed
        if batch.has_chunks_longer_than(self.rule.max_word_length):
            complete &= batch.per_line(batch.chunk_lengths > self.rule.max_word_length) == 0
        if not self.rule.terminal_punctuation:
            return complete
        unspaced = batch.is_unspaced[lines.documents]
        ends = lines.stripped.end_with(*_ENDS) & ~lines.stripped.end_with("...")
        if unspaced.any():
            ends |= unspaced & lines.stripped.end_with(*WIDE_ENDS) & ~lines.stripped.end_with("...", "…")
        for place, text in self.rewritten.items():
            marks = WIDE_ENDS if unspaced[place] else _ENDS
            ends[place] = text.endswith(marks) and not text.endswith(("...", "…") if unspaced[place] else "...")
        return complete & ends

    @cached_property
    def before_brackets(self) -> np.ndarray:
        return self.complete & ~self.contains(self.rule.scripts)

    @cached_property
    def kept(self) -> np.ndarray:
        """The lines that stay."""
        return self.before_brackets & ~self.contains(self.rule.notices)

    @cached_property
    def none_left(self) -> np.ndarray:
        return self.per_document(self.kept) == 0

    @cached_property
    def sentences(self) -> np.ndarray:
        """Sentences in each line."""
        sentences = self.batch.sentences_of_lines
        if self.rewritten:
            sentences = sentences.copy()
            sentences[list(self.rewritten)] = Batch(list(self.rewritten.values())).sentences_of_lines
        return sentences

    def contains(self, phrases: tuple[str, ...]) -> np.ndarray:
        """Lines with one of the phrases, in any case."""
        lowered = [phrase.lower() for phrase in phrases]
        found = np.zeros(len(self.batch.lines), dtype=bool)
        for document in np.flatnonzero(self.batch.contain(phrases) & self.batch.asked).tolist():
            start = self.batch.lines.bounds[document]
            for place, line in enumerate(self.batch.texts[document].split("\n"), start):
                found[place] = any(phrase in line.lower() for phrase in lowered)
        return found

    def brackets(self) -> np.ndarray:
        """Opening curly brackets in the lines of each document that are looked at for them."""
        lines = self.batch.lines
        places = lines.at((self.batch.content.bytes == ord("{")).nonzero()[0])
        looked_at = places[self.before_brackets[places]]
        return np.bincount(lines.documents[looked_at], minlength=len(self.batch))

    def per_document(self, values: np.ndarray) -> np.ndarray:
        return self.batch.lines.sums(values)

    def texts(self, documents: np.ndarray) -> dict[int, str]:
        """What remains of those of the documents that lose something."""
        lines = self.batch.lines
        losing = lines.printed & ~self.kept
        losing[list(self.rewritten)] = True
        changed = documents & self.batch.asked & (lines.sums(losing) > 0)
        stays = (self.kept | ~lines.printed).tolist()
        has_blanks = (lines.sums(~lines.printed) > 0).tolist()
        rewritten = np.zeros(len(changed), dtype=bool)
        rewritten[lines.documents[list(self.rewritten)]] = True
        made = {}
        for document in changed.nonzero()[0].tolist():
            first, last = lines.bounds[document : document + 2].tolist()
            parts = self.batch.texts[document].split("\n")
            for place in range(first, last) if rewritten[document] else ():
                if place in self.rewritten:
                    parts[place - first] = _CITATIONS.sub("", parts[place - first])
            text = "\n".join(compress(parts, stays[first:last]))
            made[document] = _BLANK_LINES.sub("\n\n", text).strip("\n") if has_blanks[document] else text
        return made
