"""Classes of characters that rules ask for."""

from __future__ import annotations

import string
import unicodedata
from collections.abc import Callable
from functools import cache, cached_property

import numpy as np

SENTENCE_ENDS = frozenset(
    "!.?\u0589\u061d\u061e\u061f\u06d4\u0700\u0701\u0702\u07f9\u0837\u0839\u083d\u083e\u0964\u0965\u104a\u104b\u1362"
    "\u1367\u1368\u166e\u1735\u1736\u17d4\u17d5\u17d6\u17d9\u17da\u1803\u1809\u1944\u1945\u1aa8\u1aa9\u1aaa\u1aab"
    "\u1b5a\u1b5b\u1b5e\u1b5f\u1b7d\u1b7e\u1c3b\u1c3c\u1c7e\u1c7f\u203c\u203d\u2047\u2048\u2049\u2e2e\u2e3c\u2e53"
    "\u2e54\u3002\ua4ff\ua60e\ua60f\ua6f3\ua6f7\ua876\ua877\ua8ce\ua8cf\ua92f\ua9c8\ua9c9\uaa5d\uaa5e\uaa5f\uaaf0"
    "\uaaf1\uabeb\ufe52\ufe56\ufe57\uff01\uff0e\uff1f\uff61\U00010a56\U00010a57\U00010f55\U00010f56\U00010f57"
    "\U00010f58\U00010f59\U00010f86\U00010f87\U00010f88\U00010f89\U00011047\U00011048\U000110be\U000110bf\U000110c0"
    "\U000110c1\U00011141\U00011142\U00011143\U000111c5\U000111c6\U000111cd\U000111de\U000111df\U00011238\U00011239"
    "\U0001123b\U0001123c\U000112a9\U0001144b\U0001144c\U000115c2\U000115c3\U000115c9\U000115ca\U000115cb\U000115cc"
    "\U000115cd\U000115ce\U000115cf\U000115d0\U000115d1\U000115d2\U000115d3\U000115d4\U000115d5\U000115d6\U000115d7"
    "\U00011641\U00011642\U0001173c\U0001173d\U0001173e\U00011944\U00011946\U00011a42\U00011a43\U00011a9b\U00011a9c"
    "\U00011c41\U00011c42\U00011ef7\U00011ef8\U00011f43\U00011f44\U00016a6e\U00016a6f\U00016af5\U00016b37\U00016b38"
    "\U00016b44\U00016e98\U0001bc9f\U0001da88"
)
"""What ends a sentence in the scripts of the world (Unicode's Sentence_Terminal, and a few more; FineWeb's list)."""

SYMBOLS = SENTENCE_ENDS.union(
    string.punctuation,
    "«´»–—’“”„…∶━►、〈〉《》「」【】％（），１：；～",
    map(chr, [*range(0x00, 0x0A), *range(0x0B, 0x20), *range(0x7F, 0xA0)]),
)
"""Characters of which a word that is none is made (datatrove's list, its ``１`` included)."""

WIDE_ENDS = ("。", "！", "？", "」", "』", "”", "’", "…", "：", "；", *".!?\"'")
"""What a line of Chinese or Japanese may end with, as a line of English ends with a full stop."""

UNSPACED_SCRIPTS = {
    "han": "\u3005-\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff",
    "kana": "\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff\uff66-\uff9f",
    "thai": "\u0e00-\u0e7f\u0e80-\u0eff\u0f00-\u0fff\u1000-\u109f\u1780-\u17ff",
}
"""Letters of scripts that put no spaces between words, as in a regular expression's class."""

LETTERS_PER_WORD = {"han": 1.6, "kana": 2.5, "thai": 4.5}
"""Mean letters of a word in them."""

WIDE_SIGNS = "\u3000-\u3004\u3008-\u303f\uff00-\uff65\u2018-\u201d\u2026"
"""Punctuation that stands between such letters."""


def is_letter(character: str) -> bool:
    """Letters, and the vowel signs of Indic scripts and Thai, which are marks to Unicode and letters to a reader."""
    return character.isalpha() or (character > "\u02ff" and unicodedata.category(character).startswith("M"))


class CodeTable:
    """Code point → small number, as a function says; filled as characters come: there are a million."""

    def __init__(self, function: Callable[[int], int]) -> None:
        self._function = function

    @cached_property
    def _seen(self) -> np.ndarray:
        """0 of a code point that has not come yet, else one more than its number; uint8."""
        return np.zeros(0x110000, dtype=np.uint8)

    def of(self, codes: np.ndarray) -> np.ndarray:
        """The number of each code point, below 255; uint8."""
        found = self._seen.take(codes)
        if not found.all():
            for code in np.unique(codes[found == 0]).tolist():
                self._seen[code] = 1 + self._function(code)
            found = self._seen.take(codes)
        found -= 1
        return found


_letters = CodeTable(lambda code: is_letter(chr(code)))


def are_letters(codes: np.ndarray) -> np.ndarray:
    """Which code points are letters (see :func:`is_letter`); bool."""
    return _letters.of(codes).view(np.bool_)


@cache
def lower_case() -> str:
    """Letters that are not upper case (those without case among them), as a regular expression's class."""
    return _class_of(lambda character: character.isalpha() and not character.isupper())


@cache
def upper_case() -> str:
    """Letters that are not lower case, likewise."""
    return _class_of(lambda character: character.isalpha() and not character.islower())


@cache
def pictures() -> str:
    """Arrows, dingbats, emoji (Unicode's So), likewise."""
    return _class_of(lambda character: unicodedata.category(character) == "So")


def _class_of(belongs) -> str:  # type: ignore[no-untyped-def]
    ranges: list[list[int]] = []
    for code in (*range(0x80), *range(0x80, 0xD800), *range(0xF900, 0x10000), *range(0x1F000, 0x1FB00)):
        if belongs(chr(code)):
            if ranges and ranges[-1][1] == code - 1:
                ranges[-1][1] = code
            else:
                ranges.append([code, code])
    return "".join(f"{chr(first)}-{chr(last)}" for first, last in ranges)
