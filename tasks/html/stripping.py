"""What a parser need not see: most bytes of a page are those of scripts, style sheets and drawings."""

from __future__ import annotations

import re

_RAW = ((b"<script", b"</script"), (b"<style", b"</style"), (b"<svg", b"</svg"))
"""How such elements begin and end, in the usual spelling; the parser finds those in another one."""
_AFTER_NAME = (b"", b" ", b"\n", b"\t")
LONG_TAG = 10_000
"""Bytes without a ``>`` from which a tag …"""
MANY_ATTRIBUTES = 500
"""… with so many words loses its attributes: the parser's time grows with the square of their number."""
_TAG = re.compile(rb"<[a-zA-Z][^\s/<>]{0,100}")


def without_scripts(html: bytes) -> bytes:
    """A page in UTF-8 without most of its scripts (formulas stay), style sheets and drawings. Linear time."""
    for start, end in _RAW:
        if start in html:
            html = _without(html, start, end)
    return html


def _without(html: bytes, start: bytes, end: bytes) -> bytes:
    """Without the elements that begin and end so; what begins and never ends is left to the parser."""
    first, *others = html.split(start)
    kept = [first]
    begun = 0
    for other in others:
        inside, ended, behind = other.partition(end)
        tag = inside.partition(b">")[0]
        if not begun and (tag[:1] not in _AFTER_NAME or tag.endswith(b"/") or b"math" in tag):
            kept += [start, other]
        elif ended:
            del kept[len(kept) - begun :]
            begun = 0
            kept.append(behind.partition(b">")[2])
        else:  # the next one is written by this one, or this one is in a comment
            kept += [start, other]
            begun = 0 if b"-->" in other else begun + 2
    return b"".join(kept)


def without_crowded_attributes(html: bytes) -> bytes:
    """A page whose tags with very many attributes have none. Linear time.

    A tag that hides its length behind a ``>`` in the value of an attribute is not found.
    """
    pieces = html.split(b">")
    if max(map(len, pieces)) < LONG_TAG:
        return html
    return b">".join([_bounded(piece) if len(piece) >= LONG_TAG else piece for piece in pieces])


def _bounded(piece: bytes) -> bytes:
    """Text and the tag behind it, the latter without its attributes if they are many."""
    tag = _TAG.search(piece)
    if tag is None or len(piece[tag.end() :].split(None, MANY_ATTRIBUTES)) <= MANY_ATTRIBUTES:
        return piece
    return piece[: tag.end()]
