"""Clean Unicode: no control characters, composed, mojibake undone."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from functools import cache

import numpy as np
import numpy.typing as npt

_CONTROLS = re.compile("[\x00-\x08\x0b\x0e-\x1f\x7f\ufeff\ufff9-\ufffb\ufffe\uffff]")
_ALL_CONTROLS = re.compile("[\x00-\x08\x0b\x0e-\x1f\x7f-\x9f\ufeff\ufff9-\ufffb\ufffe\uffff]")
_LINE_BREAKS = re.compile("[\x0c\u2028\u2029]")
_SURROGATES = re.compile("[\ud800-\udfff]")


Units = npt.NDArray[np.uint16]
"""A text's UTF-16 code units."""


def without_controls(text: str) -> str:
    """Markup or text with newlines as ``\\n``, no control characters of ASCII but tab, no lone surrogates.

    C1 controls (U+0080 to U+009F) stay: they are what mojibake is made of, and :func:`repair` needs them.
    """
    return _without(text, _CONTROLS)


def _without(text: str, controls: re.Pattern[str]) -> str:
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    try:
        units = _units(text)
    except UnicodeEncodeError:
        text = _SURROGATES.sub("\ufffd", text)
        units = _units(text)
    if _hold_controls(units):
        text = controls.sub("", _LINE_BREAKS.sub("\n", text))
    return text


def _units(text: str) -> Units:
    return np.frombuffer(text.encode("utf-16-le"), np.uint16)


def _hold_controls(units: Units) -> bool:
    """Whether patterns have something to replace; in most texts there is nothing, and patterns are slow to see it.

    True also for a few characters that stay: U+0085 and C1 controls in markup, U+FFFC and U+FFFD.
    """
    return bool(
        np.count_nonzero(units < 0x20) > np.count_nonzero(units == 0x0A) + np.count_nonzero(units == 0x09)
        or (units - np.uint16(0x7F) <= 0x20).any()
        or ((units ^ np.uint16(0x2028)) <= 1).any()
        or (units == 0xFEFF).any()
        or (units >= 0xFFF9).any()
    )


def normalise(text: str) -> str:
    """Newlines as ``\\n``, no other control characters than tab, no lone surrogates; composed Unicode (NFC).

    Full-width forms, ligatures and quotation marks stay as they are: NFC, not NFKC. Not for markup,
    where ``>`` and a combining stroke would become one character.
    """
    cleaned = _without(text.replace("\x85", "\n"), _ALL_CONTROLS)
    return unicodedata.normalize("NFC", cleaned)


def repair(text: str) -> str:
    """Undo mojibake (text decoded with the wrong encoding somewhere upstream), then :func:`normalise`.

    ftfy's encoding repair alone, line by line; its rewriting of widths, ligatures, quotation marks
    and HTML entities is off, since these are what the author wrote.
    """
    if text.isascii():
        return normalise(text)
    text = without_controls(text)
    units = _units(text)
    suspicious = _starts_of_mojibake(units)
    if len(suspicious):
        lines = text.split("\n")
        ends = np.flatnonzero(units == 0x0A)
        for number in np.unique(np.searchsorted(ends, suspicious)):
            lines[number] = _repaired(lines[number])
        text = "\n".join(lines)
    return normalise(text)


def _repaired(line: str) -> str:
    from ftfy import TextFixerConfig, fix_encoding

    # The inconsistent repair rewrites parts of lines, hence also the examples in texts about encodings.
    config = TextFixerConfig(decode_inconsistent_utf8=False, replace_lossy_sequences=False)
    fixed: str = fix_encoding(line, config)
    return fixed


def _starts_of_mojibake(units: Units) -> npt.NDArray[np.intp]:
    """Where a line holds what it must hold to be repaired (ftfy's own test takes 0.4 µs a character).

    That is, two characters that one of ftfy's single-byte encodings writes as the first two bytes
    of a UTF-8 sequence (the second may be a space that was a no-break space, U+00A0), or a C1 control.
    """
    leads, continues, leads_space = _roles()
    pairs = (leads[units[:-1]] & continues[units[1:]]) != 0
    pairs |= leads_space[units[:-1]] & (units[1:] == 0x20)
    return np.flatnonzero(np.append(pairs, False) | (units - np.uint16(0x80) < 0x20))


@cache
def _roles() -> tuple[npt.NDArray[np.uint16], npt.NDArray[np.uint16], npt.NDArray[np.bool_]]:
    """By code unit: in which encodings (as bits) it is a leading byte, a continuing one; whether it leads a space."""
    from ftfy.chardata import CHARMAP_ENCODINGS

    leads, continues = np.zeros(1 << 16, np.uint16), np.zeros(1 << 16, np.uint16)
    leads_space = np.zeros(1 << 16, np.bool_)
    for bit, encoding in enumerate(CHARMAP_ENCODINGS):
        leads[_code_units(encoding, range(0xC0, 0xF5))] |= 1 << bit
        continues[_code_units(encoding, range(0x80, 0xC0))] |= 1 << bit
        if encoding != "macroman":  # there the en dash would lead
            leads_space[_code_units(encoding, (0xC2, 0xC3, 0xC5, 0xCE, 0xD0, 0xD9, 0xE2, 0xE3, 0xF0))] = True
    return leads, continues, leads_space


def _code_units(encoding: str, codes: Iterable[int]) -> list[int]:
    return [ord(character) for character in bytes(codes).decode(encoding, "ignore")]
