"""Where the words of a text stand in it, and texts with passages cut out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from tasks.copies.characters import normalised
from tasks.copies.shingles import words_of

Span = tuple[int, int]
"""Beginning and end in characters, the end excluded."""

_CHUNK = re.compile(r"\S+")
_PIECE = re.compile(r"\w+|\W+")
_WORD_EDGE_CHARACTERS = 40
"""A cut is moved outwards to white space if there is some within so many characters."""


def spans_of_words(text: str) -> list[Span]:
    """A span for each of ``words_of(normalised(text))``.

    The words are those of the *normalised* text, whose characters are others than the text's
    (``ﬁ`` is ``fi``, ``①`` is ``1``), so every piece between white space is normalised by itself
    and taken apart as far as its parts give the same words; else its words share its span.
    """
    words: list[str] = []
    spans: list[Span] = []
    for chunk in _CHUNK.finditer(text):
        expected = words_of(normalised(chunk.group()))
        parts = list(_parts(chunk.group(), chunk.start()))
        if [word for word, _ in parts] != expected:
            parts = [(word, chunk.span()) for word in expected]
        words += [word for word, _ in parts]
        spans += [span for _, span in parts]
    expected = words_of(normalised(text))
    return spans if words == expected else [(0, len(text))] * len(expected)


def _parts(chunk: str, start: int) -> Iterator[tuple[str, Span]]:
    """The words of the chunk's parts, each normalised by itself, with the part's span."""
    for at, end in parts_of(chunk):
        for word in words_of(normalised(chunk[at:end])):
            yield word, (start + at, start + end)


def parts_of(text: str) -> Iterator[Span]:
    """Spans of the words of a text as it is written, and of what stands between them."""
    for piece in _PIECE.finditer(text):
        at = piece.start()
        words = words_of(piece.group())
        for part in words if "".join(words) == piece.group() else [piece.group()]:
            yield at, at + len(part)
            at += len(part)


def merged(spans: Iterable[Span]) -> list[Span]:
    """The union of the spans: sorted, none touching another."""
    union: list[Span] = []
    for start, end in sorted(spans):
        if union and start <= union[-1][1]:
            union[-1] = (union[-1][0], max(union[-1][1], end))
        else:
            union.append((start, end))
    return union


def pieces_around(text: str, passages: Sequence[Span], margin: int) -> list[str]:
    """What remains of a text without the passages and ``margin`` characters on both sides of each.

    The margin grows to the next white space, if that is near, so that no word is cut in two.
    Pieces are stripped; empty ones are left out.
    """
    cuts = merged((_space_before(text, start - margin), _space_after(text, end + margin)) for start, end in passages)
    edges = [0, *(edge for cut in cuts for edge in cut), len(text)]
    pieces = (text[edges[number] : edges[number + 1]].strip() for number in range(0, len(edges), 2))
    return [piece for piece in pieces if piece]


def _space_before(text: str, position: int) -> int:
    if position <= 0:
        return 0
    for at in range(position, max(0, position - _WORD_EDGE_CHARACTERS), -1):
        if text[at - 1].isspace():
            return at
    return position


def _space_after(text: str, position: int) -> int:
    if position >= len(text):
        return len(text)
    for at in range(position, min(len(text), position + _WORD_EDGE_CHARACTERS)):
        if text[at].isspace():
            return at
    return position


def excerpt(text: str, passage: Span, around: int = 200) -> str:
    """The passage marked by brackets, with some of what stands before and behind it."""
    start, end = passage
    before, after = text[max(0, start - around) : start], text[end : end + around]
    return f"{'…' if start > around else ''}{before}⟦{text[start:end]}⟧{after}{'…' if end + around < len(text) else ''}"
