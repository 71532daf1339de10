"""Clean Unicode: no control characters, composed, mojibake undone."""

from __future__ import annotations

import re
import unicodedata
from functools import cache

import numpy as np

_CONTROLS = re.compile("[\x00-\x08\x0b\x0e-\x1f\x7f\ufeff\ufff9-\ufffb\ufffe\uffff]")
_C1_CONTROLS = re.compile("[\x80-\x84\x86-\x9f]")
_LINE_BREAKS = re.compile("[\x0c\u2028\u2029]")
_SURROGATES = re.compile("[\ud800-\udfff]")


def _table(*patterns: re.Pattern[str]) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """By UTF-16 code unit: whether one of the patterns wants to see it."""
    return np.array([any(pattern.match(chr(code)) for pattern in patterns) for code in range(1 << 16)])


_UNWANTED = _table(_CONTROLS, _LINE_BREAKS)
_UNWANTED_IN_TEXT = _table(_CONTROLS, _LINE_BREAKS, _C1_CONTROLS, re.compile("\x85"))


def without_controls(text: str) -> str:
    """Markup or text with newlines as ``\\n``, no control characters of ASCII but tab, no lone surrogates.

    C1 controls (U+0080 to U+009F) stay: they are what mojibake is made of, and :func:`repair` needs them.
    """
    return _without(text, _UNWANTED)


def _without(text: str, unwanted: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> str:
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    try:
        units = np.frombuffer(text.encode("utf-16-le"), np.uint16)
    except UnicodeEncodeError:
        text = _SURROGATES.sub("\ufffd", text)
        units = np.frombuffer(text.encode("utf-16-le"), np.uint16)
    if unwanted[units].any():  # most texts have none, and patterns take 20 times as long to find that out
        text = _CONTROLS.sub("", _LINE_BREAKS.sub("\n", text))
    return text


def normalise(text: str) -> str:
    """Newlines as ``\\n``, no other control characters than tab, no lone surrogates; composed Unicode (NFC).

    Full-width forms, ligatures and quotation marks stay as they are: NFC, not NFKC. Not for markup,
    where ``>`` and a combining stroke would become one character.
    """
    cleaned = _without(text, _UNWANTED_IN_TEXT)
    if not cleaned.isascii():
        cleaned = _C1_CONTROLS.sub("", cleaned.replace("\x85", "\n"))
    return unicodedata.normalize("NFC", cleaned)


def repair(text: str) -> str:
    """Undo mojibake (text decoded with the wrong encoding somewhere upstream), then :func:`normalise`.

    ftfy's encoding repair alone, line by line; its rewriting of widths, ligatures, quotation marks
    and HTML entities is off, since these are what the author wrote.
    """
    if text.isascii():
        return normalise(text)
    text = without_controls(text)
    if _possible_mojibake().search(text):
        text = "\n".join(_repaired(line) for line in text.split("\n"))
    return normalise(text)


def _repaired(line: str) -> str:
    if line.isascii() or not _possible_mojibake().search(line):
        return line
    from ftfy import TextFixerConfig, fix_encoding

    # The inconsistent repair rewrites parts of lines, hence also the examples in texts about encodings.
    config = TextFixerConfig(decode_inconsistent_utf8=False, replace_lossy_sequences=False)
    fixed: str = fix_encoding(line, config)
    return fixed


@cache
def _possible_mojibake() -> re.Pattern[str]:
    """What a line must hold to be repaired: ftfy's own test takes 0.4 µs a character.

    Two characters that one of ftfy's single-byte encodings writes as the first two bytes of a
    UTF-8 sequence (the second may be a space that was a no-break space, U+00A0), or a C1 control.
    """
    from ftfy.chardata import CHARMAP_ENCODINGS

    leading, spaced, continuing = set[str](), set[str](), set[str]()
    for encoding in CHARMAP_ENCODINGS:
        leading |= _characters(encoding, range(0xC0, 0xF5))
        spaced |= _characters(encoding, [0xC2, 0xC3, 0xC5, 0xCE, 0xD0, 0xD9, 0xE2, 0xE3, 0xF0])
        continuing |= _characters(encoding, range(0x80, 0xC0))
    classes = ("".join(map(re.escape, sorted(found))) for found in (leading, continuing, spaced))
    return re.compile("[{}][{}]|[{}] |[\x80-\x9f]".format(*classes))


def _characters(encoding: str, codes: range | list[int]) -> set[str]:
    return set(bytes(codes).decode(encoding, "ignore"))
