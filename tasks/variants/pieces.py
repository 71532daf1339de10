"""Texts in pieces that a network has room for, and put together again."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

_SENTENCE = re.compile(
    r"""
    [^\n]*? (?:                                                   # up to the end of a sentence
        (?<![.!?…]) [.!?…]++ ["'”’»)\]]*+ (?=\s)
        | (?<![。！？；…]) [。！？；…]++ ["'”’」』）]*+
    ) [^\S\n]*+
    | [^\n]++                                                     # or what is left of the line
    | \n++
    """,
    re.VERBOSE,
)
"""Runs of signs are looked at once, from their beginning: a text of nothing but dots takes linear time."""


@dataclass(frozen=True)
class Piece:
    """A piece of a text, and the white space around it, which is no part of it."""

    before: str
    text: str
    after: str

    def with_text(self, text: str) -> str:
        return f"{self.before}{text}{self.after}"


def pieces_of(text: str, fits: Callable[[str], bool]) -> list[Piece]:
    """Sentences, none reaching across a line's end; those that do not fit are halved, at white space if there is any.

    Put together, the pieces are the text. A piece of one character is taken as it is.
    """
    found: list[Piece] = []
    for sentence in _SENTENCE.findall(text):
        for part in _fitting(sentence, fits):
            inner = part.strip()
            at = part.index(inner) if inner else len(part)
            found.append(Piece(part[:at], inner, part[at + len(inner) :]))
    return found


def _fitting(part: str, fits: Callable[[str], bool]) -> Iterator[str]:
    if len(part) <= 1 or fits(part.strip()):
        yield part
        return
    middle = len(part) // 2
    spaces = [at for at in (part.rfind(" ", 0, middle), part.find(" ", middle)) if 0 < at < len(part) - 1]
    cut = min(spaces, key=lambda at: abs(at - middle)) + 1 if spaces else middle
    yield from _fitting(part[:cut], fits)
    yield from _fitting(part[cut:], fits)
