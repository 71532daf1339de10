"""Scripts without spaces between words: Chinese, Japanese, Thai, Lao, Khmer, Burmese, Tibetan.

There every letter is a piece of its own, and so many pieces are taken for a word as words in that
script have letters on average (:data:`~tasks.rules.signs.LETTERS_PER_WORD`).
"""

from __future__ import annotations

from functools import cache

import numpy as np

from tasks.rules.signs import LETTERS_PER_WORD, UNSPACED_SCRIPTS, WIDE_SIGNS

SIGNS_STAND_ALONE = 0.2
"""From this share of such letters in a text on, wide punctuation counts as theirs (quotation marks are English too)."""

_SCRIPT_NAMES = ("", *UNSPACED_SCRIPTS)
_WIDE = len(_SCRIPT_NAMES)


@cache
def _classes() -> np.ndarray:
    """Code point → 0, the number of a script, or ``_WIDE``; uint8."""
    table = np.zeros(0x110000, dtype=np.uint8)
    for number, characters in enumerate((*UNSPACED_SCRIPTS.values(), WIDE_SIGNS), 1):
        for first, last in _ranges(characters):
            table[first : last + 1] = number
    return table


def _ranges(characters: str) -> list[tuple[int, int]]:
    found, position = [], 0
    while position < len(characters):
        is_range = characters[position + 1 : position + 2] == "-"
        last = characters[position + 2] if is_range else characters[position]
        found.append((ord(characters[position]), ord(last)))
        position += 3 if is_range else 1
    return found


def script_of(character: str) -> str:
    """The script without spaces that a character belongs to, or the empty string."""
    number = int(_classes()[ord(character)])
    return _SCRIPT_NAMES[number] if number < _WIDE else ""


@cache
def wide_signs() -> frozenset[str]:
    """Punctuation that stands between such letters."""
    return frozenset(map(chr, np.flatnonzero(_classes() == _WIDE).tolist()))


def _codes(text: str) -> np.ndarray:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)


def may_be_unspaced(content: np.ndarray, bounds: np.ndarray) -> np.ndarray:
    """Which texts can hold letters of such scripts, by the first bytes of their characters in UTF-8 (uint8)."""
    # 0xE2 begins dashes, quotation marks and arrows, which are everywhere.
    places = np.flatnonzero((content >= 0xE0) & (content != 0xE2))
    # So do, with 0xF0 before them, bytes below 0xA0: emoji.
    places = places[(content[places] != 0xF0) | (content[np.minimum(places + 1, len(content) - 1)] >= 0xA0)]
    made = np.zeros(len(bounds) - 1, dtype=bool)
    made[np.searchsorted(bounds, places, side="right") - 1] = True
    return made


def isolated(text: str) -> str:
    """The text with every letter of such a script between spaces; the text itself if it has none."""
    if text.isascii():
        return text
    codes = _codes(text)
    classes = _classes()[codes]
    letters = (classes > 0) & (classes < _WIDE)
    count = int(np.count_nonzero(letters))
    if not count:
        return text
    alone = classes > 0 if count >= SIGNS_STAND_ALONE * len(codes) else letters
    spread = np.zeros((len(codes), 2), dtype=np.uint32)
    spread[:, 1] = codes
    spread[:, 0][alone] = 32
    spread[1:, 0][alone[:-1]] = 32
    flat = spread.ravel()
    # The zeros between are taken out, and with them NUL characters, which are no word.
    return str(flat[flat != 0].tobytes(), "utf-32-le", "surrogatepass")


def lengths_in_latin(lines: list[str]) -> np.ndarray:
    """Characters of each line, a word in such a script counted as an English word and its space; float64.

    Only lines that are not ASCII should be given.
    """
    made = np.zeros(len(lines))
    for index, line in enumerate(lines):
        counts = np.bincount(_classes()[_codes(line)], minlength=_WIDE + 1)
        letters = counts[1:_WIDE]
        words = sum(n / LETTERS_PER_WORD[name] for n, name in zip(letters, _SCRIPT_NAMES[1:], strict=True))
        made[index] = len(line) - int(letters.sum()) + LATIN_CHARACTERS_PER_WORD * words
    return made


LATIN_CHARACTERS_PER_WORD = 6
"""An English word and its space."""
