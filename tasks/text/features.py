"""What rules look at: properties of a document's text, each worked out once and only when asked for.

*Words.* Where words are separated by spaces, a word is what stands between spaces. Chinese,
Japanese, Thai, Lao, Khmer, Burmese and Tibetan have no such spaces: there every letter is a piece
of its own, and so many pieces are taken for a word as words in that script have letters on average
(:data:`LETTERS_PER_WORD`). A run of n words, for repetition, is then a run of n × (pieces per word)
pieces. For text with spaces all this is what the published rules say.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

LETTERS_PER_WORD = {"han": 1.6, "kana": 2.5, "thai": 4.5}
"""Mean letters of a word, for scripts written without spaces."""

LATIN_CHARACTERS_PER_WORD = 6
"""An English word and its space: so many characters of a line a word of Chinese stands for."""

_SCRIPTS = {
    "han": "\u3005-\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff",
    "kana": "\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff\uff66-\uff9f",
    "thai": "\u0e00-\u0e7f\u0e80-\u0eff\u0f00-\u0fff\u1000-\u109f\u1780-\u17ff",
}
_UNSPACED = "".join(_SCRIPTS.values())
_WIDE_SIGNS = "\u3000-\u3004\u3008-\u303f\uff00-\uff65\u2018-\u201d\u2026"
_PIECE = re.compile(f"[{_UNSPACED}]|[^\\s{_UNSPACED}{_WIDE_SIGNS}]+")
_OF_SCRIPT = {name: re.compile(f"[{characters}]") for name, characters in _SCRIPTS.items()}
_PARAGRAPH_BREAK = re.compile(r"\n\s*\n")
_SENTENCE_END = re.compile(r"""[.!?]+["'”’)\]]*(?=\s|$)|[。！？]+[”’」』）]*""", re.MULTILINE)

TERMINAL_PUNCTUATION = (".", "!", "?", '"', "'", "”", "’", "。", "！", "？", "」", "』", "…", "：", "；")


class Features:
    """A text seen as words, lines, paragraphs and sentences."""

    def __init__(self, text: str, language: str = "und") -> None:
        self.text = text
        self.language = language

    @cached_property
    def pieces(self) -> list[str]:
        """Words, and single letters of scripts without spaces."""
        return _PIECE.findall(self.text)

    @cached_property
    def unspaced_words(self) -> float:
        """Estimated words in scripts without spaces."""
        return unspaced_words(self.text)

    @cached_property
    def spaced_words(self) -> list[str]:
        """Words that spaces separate."""
        if not self.unspaced_words:
            return self.pieces
        return [piece for piece in self.pieces if not _is_letter(piece)]

    @cached_property
    def words(self) -> int:
        """Words, estimated where the script has no spaces."""
        return round(len(self.spaced_words) + self.unspaced_words)

    @cached_property
    def is_unspaced(self) -> bool:
        """Whether most words are in scripts without spaces."""
        return self.unspaced_words > len(self.spaced_words)

    @cached_property
    def lines(self) -> list[str]:
        """Lines that are not blank, stripped."""
        return [line for raw in self.text.split("\n") if (line := raw.strip())]

    @cached_property
    def paragraphs(self) -> list[str]:
        """What blank lines separate, stripped."""
        return [paragraph for raw in _PARAGRAPH_BREAK.split(self.text) if (paragraph := raw.strip())]

    @cached_property
    def sentences(self) -> int:
        """Ends of sentences."""
        return len(_SENTENCE_END.findall(self.text))

    @cached_property
    def printed(self) -> int:
        """Characters that are not white space."""
        return len("".join(self.text.split()))

    @cached_property
    def characters_in_pieces(self) -> int:
        return sum(map(len, self.pieces))

    @cached_property
    def _codes(self) -> np.ndarray:
        """The pieces as numbers, int64."""
        import numpy as np

        numbers: dict[str, int] = {}
        return np.array([numbers.setdefault(piece.lower(), len(numbers)) for piece in self.pieces], dtype=np.int64)

    @cached_property
    def _lengths(self) -> np.ndarray:
        """Characters of each piece, int64."""
        import numpy as np

        return np.array([len(piece) for piece in self.pieces], dtype=np.int64)

    @cached_property
    def _runs(self) -> dict[int, np.ndarray]:
        """Number of pieces → for each run of so many, a number that equal runs share."""
        return {1: self._codes}

    def _run_codes(self, pieces: int) -> np.ndarray:
        import numpy as np

        known = max(n for n in self._runs if n <= pieces)
        while known < pieces:
            codes = self._runs[known]
            following = self._codes[known:]
            both = codes[: len(following)] * (int(self._codes.max(initial=0)) + 1) + following
            self._runs[known + 1] = np.unique(both, return_inverse=True)[1].reshape(-1)
            known += 1
        return self._runs[pieces]

    def _pieces_in(self, words: int) -> int:
        """Pieces that ``words`` words are made of, on average in this text."""
        return max(1, round(words * len(self.pieces) / max(self.words, 1)))

    def share_of_top_run(self, words: int) -> float:
        """Share of the characters that the most frequent run of so many words takes up (0 if none is repeated)."""
        import numpy as np

        length = self._pieces_in(words)
        codes = self._run_codes(length)
        if not len(codes):
            return 0.0
        _, first, counts = np.unique(codes, return_index=True, return_counts=True)
        top = int(counts.argmax())
        if counts[top] < 2:
            return 0.0
        characters = int(self._lengths[first[top] : first[top] + length].sum())
        return min(1.0, characters * int(counts[top]) / self.characters_in_pieces)

    def share_of_repeated_runs(self, words: int) -> float:
        """Share of the characters within runs of so many words that stood in the text before, each counted once."""
        import numpy as np

        length = self._pieces_in(words)
        codes = self._run_codes(length)
        if not len(codes):
            return 0.0
        _, first, inverse = np.unique(codes, return_index=True, return_inverse=True)
        repeated = np.flatnonzero(first[inverse.reshape(-1)] != np.arange(len(codes)))
        edges = np.zeros(len(self.pieces) + 1, dtype=np.int64)
        np.add.at(edges, repeated, 1)
        np.add.at(edges, repeated + length, -1)
        covered = np.cumsum(edges[:-1]) > 0
        return float(self._lengths[covered].sum()) / self.characters_in_pieces


def _is_letter(piece: str) -> bool:
    return len(piece) == 1 and any(script.match(piece) for script in _OF_SCRIPT.values())


def unspaced_words(text: str) -> float:
    """Estimated words of a text in scripts without spaces; what is in other scripts does not count."""
    if text.isascii():
        return 0.0
    return sum(len(script.findall(text)) / LETTERS_PER_WORD[name] for name, script in _OF_SCRIPT.items())


def words_in(text: str) -> int:
    """Words of a short text such as a line."""
    return Features(text).words


def length_in_latin_characters(line: str) -> float:
    """Characters of a line, a word in a script without spaces counted as an English word with its space."""
    letters = sum(len(script.findall(line)) for script in _OF_SCRIPT.values()) if not line.isascii() else 0
    return len(line) - letters + LATIN_CHARACTERS_PER_WORD * unspaced_words(line)


def share_of_duplicates(parts: list[str]) -> float:
    """Share of the parts (lines, paragraphs) that stood before."""
    return 1 - len(set(parts)) / len(parts) if parts else 0.0


def characters_in_duplicates(parts: list[str]) -> int:
    """Characters of the parts that stood before."""
    return sum((count - 1) * len(part) for part, count in Counter(parts).items())


def share(parts: Iterable[bool]) -> float:
    """Share of true values; 0 of none."""
    known = list(parts)
    return sum(known) / len(known) if known else 0.0
