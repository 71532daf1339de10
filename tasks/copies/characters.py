"""Many texts as one column of characters, folded for comparison.

Compatibility forms (full-width letters), case and white space do not count. The column holds code
points, so that one table answers for every script; what a character is, is asked of ``unicodedata``
once in a process and remembered in the table.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import numpy.typing as npt

Positions = npt.NDArray[np.int64]

SPACE, OTHER, LETTER, ALONE = 0, 1, 2, 3
"""What a character is: white space; no part of a word; part of a word; a word of its own."""
_ODD = 4
"""Added to it where a character does not stand for itself: it folds to several, or may combine with another."""
_UNKNOWN = 255
LONE = (
    (0x0E00, 0x0FFF),  # Thai, Lao, Tibetan
    (0x1000, 0x109F),  # Burmese
    (0x1780, 0x17FF),  # Khmer
    (0x3005, 0x3005),  # the mark of repetition
    (0x3007, 0x3007),  # zero
    (0x3040, 0x30FF),  # kana
    (0x31F0, 0x31FF),
    (0x3400, 0x4DBF),  # Chinese characters
    (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF),
    (0x20000, 0x3FFFF),
)
"""Code points of scripts written without spaces, first and last."""

_CODE_POINTS = 0x110000
_CLASS_SHIFT = 24
_known = np.full(_CODE_POINTS, _UNKNOWN << _CLASS_SHIFT, np.uint32)
"""Of every code point seen so far: the class, and in the lower bits the code point that it folds to."""

BATCH_CHARACTERS = 1 << 16
"""Texts are worked on together up to this size: the columns stay in the processor's cache."""


def normalised(text: str) -> str:
    """The text as far as it counts for exact copies: compatibility forms, case and white space made one."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


@dataclass(frozen=True)
class Characters:
    """Texts one behind the other, each followed by one separator of class ``SPACE``."""

    folded: npt.NDArray[np.uint32]
    """Code points after folding."""
    classes: npt.NDArray[np.uint8]
    starts: Positions
    """(texts + 1) where each text begins."""

    @classmethod
    def of(cls, texts: Sequence[str]) -> Characters:
        """The texts as they are: a character that does not fold to exactly one is left as it is."""
        return cls._of(texts)[0]

    @classmethod
    def normalised(cls, texts: Sequence[str]) -> Characters:
        """The texts after ``normalised`` (white space apart): those that need more than the table one by one."""
        characters, odd = cls._of(texts)
        if odd.size == 0:
            return characters
        wanted = set((np.searchsorted(characters.starts, odd, side="right") - 1).tolist())
        return cls._of([normalised(text) if number in wanted else text for number, text in enumerate(texts)])[0]

    @classmethod
    def _of(cls, texts: Sequence[str]) -> tuple[Characters, Positions]:
        """Also returns where odd characters stand."""
        joined = "\n".join([*texts, ""])
        points = np.frombuffer(joined.encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.intp)
        known = _known[points]
        highest = known.max(initial=0) >> _CLASS_SHIFT
        if highest == _UNKNOWN:
            _learn(points[known >> _CLASS_SHIFT == _UNKNOWN])
            known = _known[points]
            highest = known.max() >> _CLASS_SHIFT
        classes = (known >> _CLASS_SHIFT).astype(np.uint8)
        known &= (1 << _CLASS_SHIFT) - 1
        odd = np.flatnonzero(classes >= _ODD) if highest >= _ODD else np.empty(0, np.int64)
        if odd.size:
            classes &= _ODD - 1
        starts = np.zeros(len(texts) + 1, np.int64)
        np.cumsum([len(text) + 1 for text in texts], out=starts[1:])
        return cls(known, classes, starts), odd

    def plain(self) -> tuple[npt.NDArray[np.uint32], Positions, Positions]:
        """The folded texts, runs of white space made one space and none at the ends: a column, begins and ends."""
        space = self.classes == SPACE
        doubled = space.copy()
        doubled[1:] &= space[:-1]
        bounds = self.starts - np.searchsorted(np.flatnonzero(doubled), self.starts)
        # Of every text that is not empty one white space is left, at its end.
        return self.folded[~doubled], bounds[:-1], np.maximum(bounds[1:] - 1, bounds[:-1])

    def plain_texts(self) -> list[str]:
        """The same as strings."""
        column, begins, ends = self.plain()
        whole = column.tobytes().decode("utf-32-le", "surrogatepass")
        return [whole[begin:end] for begin, end in zip(begins.tolist(), ends.tolist(), strict=True)]


def _learn(points: npt.NDArray[np.intp]) -> None:
    for point in np.unique(points).tolist():
        character = chr(point)
        plain = unicodedata.normalize("NFKC", character).casefold()
        odd = len(plain) != 1 or any(map(_may_combine, chain(character, plain)))
        shown = character if odd else plain
        if shown.isspace():
            kind, shown = SPACE, " "
        elif any(first <= ord(shown) <= last for first, last in LONE):
            kind = ALONE
        else:
            kind = LETTER if shown.isalnum() or shown == "_" else OTHER
        _known[point] = (kind + (_ODD if odd else 0) << _CLASS_SHIFT) + ord(shown)


def _may_combine(character: str) -> bool:
    """Whether normalisation may join it with the character before it, or move it: marks, and vowels of Hangul."""
    point = ord(character)
    return unicodedata.category(character)[0] == "M" or 0x1160 <= point <= 0x11FF or 0x16D63 <= point <= 0x16D6A
