"""Which pieces of a vocabulary begin a word, so that words can be hidden as a whole.

A word is a run of pieces that hold letters and digits of a script written with spaces. It begins
behind white space (``▁the``, ``Ġthe``), and behind a piece that ends in anything else. Punctuation
is a word for itself. In scripts written without spaces (Chinese, Japanese, Thai …) every piece is a
word: a learnt piece of them is mostly a word or a part of one with a meaning of its own. The bytes
of a character that has no piece belong together.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

Flags = npt.NDArray[np.bool_]

_BYTE = re.compile(r"<0x([0-9A-F]{2})>")
_SPACE = (" ", "▁")
_CONTINUED = "##"
"""Before the pieces of WordPiece that do not begin a word."""
_WITHOUT_SPACES = re.compile(
    "[\u0e00-\u0eff\u0f00-\u0fff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u31f0-\u31ff\u3400-\u9fff"
    "\uf900-\ufaff\uff66-\uff9d\U00020000-\U0003ffff]"
)
"""Thai, Lao, Tibetan, Burmese, Khmer, kana, Han."""


@dataclass(frozen=True)
class Words:
    """Of every piece of a vocabulary."""

    begins_V: Flags
    """Whether it begins a word wherever it stands."""
    ends_V: Flags
    """Whether a word that it belongs to ends with it."""

    @classmethod
    def of(cls, pieces: Sequence[str], special: Sequence[int]) -> Words:
        """By the pieces' names; special tokens are words of their own."""
        byte_level = any(piece.startswith("Ġ") for piece in pieces)
        continued = any(piece.startswith(_CONTINUED) and len(piece) > 2 for piece in pieces)
        begins, ends = np.ones(len(pieces), np.bool_), np.ones(len(pieces), np.bool_)
        alone = set(special)
        for number, piece in enumerate(pieces):
            if number not in alone and piece:
                begins[number], ends[number] = _bounds(piece, byte_level, continued)
        return cls(begins, ends)

    def starts(self, tokens_BT: npt.NDArray[np.int64], documents_BT: npt.NDArray[np.int64]) -> Flags:
        """Where in these rows a word begins; none reaches across documents."""
        starts_BT = self.begins_V[tokens_BT]
        starts_BT[:, 0] = True
        starts_BT[:, 1:] |= self.ends_V[tokens_BT[:, :-1]] | (documents_BT[:, 1:] != documents_BT[:, :-1])
        return starts_BT


def _bounds(piece: str, byte_level: bool, continued: bool) -> tuple[bool, bool]:
    """Whether a piece begins a word, and whether it ends one."""
    if (byte := _BYTE.fullmatch(piece)) is not None:
        return _byte_begins(int(byte[1], 16)), False
    text = piece
    if byte_level:
        raw = bytes(_bytes_by_letter()[letter] for letter in piece if letter in _bytes_by_letter())
        text = raw.decode("utf-8", "ignore")
        if not text:  # a part of a character
            return not raw or _byte_begins(raw[0]), False
        if 0x80 <= raw[0] < 0xC0:  # the end of one, and more
            return False, not _is_spaced_letter(text[-1])
    elif continued:
        inside = text.startswith(_CONTINUED)
        bare = text.removeprefix(_CONTINUED)
        return not inside or not _is_spaced_letter(bare[0]), not _is_spaced_letter(bare[-1])
    if text in _SPACE:  # it belongs to the letters behind it
        return True, False
    return not _is_spaced_letter(text[0]), not _is_spaced_letter(text[-1])


def _byte_begins(byte: int) -> bool:
    """Whether the first byte of a part of a character begins a word: not within a character, nor of a script with
    spaces, as far as it tells (the characters of two bytes but for signs, and Korean)."""
    return not (0x80 <= byte < 0xC2 or 0xC3 <= byte < 0xE0 or 0xEA <= byte < 0xEE)


def _is_spaced_letter(character: str) -> bool:
    """Whether it is of a word in a script written with spaces: a letter, digit or mark."""
    return not _WITHOUT_SPACES.match(character) and unicodedata.category(character)[0] in "LMN"


@cache
def _bytes_by_letter() -> dict[str, int]:
    """The bytes that GPT-2's vocabulary writes as letters (Radford et al. 2019, its ``bytes_to_unicode``)."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + place): byte for place, byte in enumerate(others)}
