"""Synonyms from a user's lexicon, put in the place of words."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from storage.errors import SourceError
from tasks.overlap.spans import parts_of

_APOSTROPHES = "'’"


@dataclass(frozen=True)
class Match:
    """A word or phrase of a text that the lexicon has."""

    start: int
    end: int
    words: int
    """Words that it is made of; characters, in scripts without spaces."""
    synonyms: tuple[str, ...]


class Lexicon:
    """Words and phrases with their synonyms; case does not count when they are looked up."""

    def __init__(self, entries: dict[str, tuple[str, ...]]) -> None:
        self.entries = {word.casefold(): synonyms for word, synonyms in entries.items()}
        self._longest: dict[str, int] = {}
        for word in self.entries:
            parts = [word[start:end] for start, end in parts_of(word)]
            self._longest[parts[0]] = max(len(parts), self._longest.get(parts[0], 0))

    @classmethod
    def read(cls, path: Path) -> Lexicon:
        """A ``.json`` file ``{"word": ["synonym", …]}``; any other: on every line a word and its synonyms, after tabs.

        Lines that are empty or begin with ``#`` do not count. Raises SourceError for a file that
        is missing, cannot be read, or holds no synonym.
        """
        try:
            text = path.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise SourceError(f"lexicon {path}: it cannot be read ({error}); name a file in UTF-8") from error
        rows = list(_json_rows(path, text) if path.suffix == ".json" else _lines(path, text))
        entries: dict[str, tuple[str, ...]] = {}
        for word, synonyms in rows:
            known = entries.get(word, ())
            entries[word] = (*known, *(s for s in dict.fromkeys(synonyms) if s and s != word and s not in known))
        entries = {word: synonyms for word, synonyms in entries.items() if word and synonyms}
        if not entries:
            raise SourceError(f"lexicon {path}: it has no word with a synonym; write one on a line, after a tab each")
        return cls(entries)

    def matches(self, text: str) -> list[Match]:
        """The words and phrases in the text, from left to right, the longest at each place; none overlaps another."""
        parts = list(parts_of(text))
        found: list[Match] = []
        at = 0
        while at < len(parts):
            match = self._match(text, parts, at)
            if match is not None:
                found.append(match)
            at += 1
            while match is not None and at < len(parts) and parts[at][0] < match.end:
                at += 1
        return found

    def _match(self, text: str, parts: list[tuple[int, int]], at: int) -> Match | None:
        start = parts[at][0]
        most = self._longest.get(text[start : parts[at][1]].casefold(), 0)
        for length in range(min(most, len(parts) - at), 0, -1):
            end = parts[at + length - 1][1]
            synonyms = self.entries.get(text[start:end].casefold())
            if synonyms and not _within_contraction(text, start, end):
                words = sum(text[first].isalnum() for first, _ in parts[at : at + length])
                return Match(start, end, words, synonyms)
        return None

    def replaced(self, text: str, share: float, chance: random.Random) -> str | None:
        """The text with so large a share of its words replaced, at places drawn by chance; None if it has none.

        At least one is replaced. The synonym takes over capitals.
        """
        matches = self.matches(text)
        if not matches:
            return None
        wanted = max(1, round(share * sum(text[start].isalnum() for start, _ in parts_of(text))))
        chance.shuffle(matches)
        chosen: dict[int, tuple[Match, str]] = {}
        for match in matches:
            if wanted <= 0:
                break
            chosen[match.start] = match, _with_case(text[match.start : match.end], chance.choice(match.synonyms))
            wanted -= match.words
        made, end = [], 0
        for start in sorted(chosen):
            match, synonym = chosen[start]
            made += [text[end:start], synonym]
            end = match.end
        return "".join([*made, text[end:]])


def _within_contraction(text: str, start: int, end: int) -> bool:
    """Whether it is a part of a word such as ``can't``."""
    before = start >= 2 and text[start - 1] in _APOSTROPHES and text[start - 2].isalpha()
    after = end + 1 < len(text) and text[end] in _APOSTROPHES and text[end + 1].isalpha()
    return before or after


def _with_case(word: str, synonym: str) -> str:
    """``House`` → ``Home``, ``HOUSE`` → ``HOME``; scripts without case stay as they are."""
    if len(word) > 1 and word.isupper():
        return synonym.upper()
    if word[0].isupper():
        return synonym[0].upper() + synonym[1:]
    return synonym


def _json_rows(path: Path, text: str) -> Iterator[tuple[str, list[str]]]:
    try:
        content = json.loads(text)
    except ValueError as error:
        raise SourceError(f"lexicon {path}: not JSON ({error}); correct it") from error
    if not isinstance(content, dict):
        raise SourceError(f'lexicon {path}: expected an object {{"word": ["synonym", …]}}')
    for word, synonyms in content.items():
        values = [synonyms] if isinstance(synonyms, str) else synonyms
        if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
            raise SourceError(f"lexicon {path}: {word!r}: expected a synonym, or a list of them")
        yield word.strip(), [value.strip() for value in values]


def _lines(path: Path, text: str) -> Iterator[tuple[str, list[str]]]:
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        word, *synonyms = (cell.strip() for cell in line.split("\t"))
        if not synonyms:
            raise SourceError(f"{path}:{number}: {line[:80]!r} has no tab; write a word, a tab, and its synonyms")
        yield word, synonyms
