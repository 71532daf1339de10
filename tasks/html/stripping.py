"""What a parser need not see: most bytes of a page are those of scripts, style sheets and drawings."""

from __future__ import annotations

import re

import numpy as np

_START = re.compile(rb"(cript|tyle|vg)(?:\s[^>]*+)?>")
_ENDS = {b"cript": b"</script", b"tyle": b"</style", b"vg": b"</svg"}
"""How such elements begin, behind ``<s``, and end, in the usual spelling; the parser finds those in another one."""
LONG_TAG = 10_000
"""Bytes without a ``>`` from which a tag …"""
MANY_ATTRIBUTES = 500
"""… with so many words loses its attributes: the parser's time grows with the square of their number."""
_TAG = re.compile(rb"<[a-zA-Z][^\s/<>]{0,100}")


def without_scripts(html: bytes) -> bytes:
    """A page in UTF-8 without most of its scripts (formulas stay), style sheets and drawings. Linear time.

    What begins and never ends is left to the parser.
    """
    first, *others = html.split(b"<s")
    kept = [first]
    begun, end = 0, b""
    for other in others:
        if not begun:
            tag = _START.match(other)
            if tag is None or tag[0].endswith(b"/>") or b"math" in tag[0]:
                kept += (b"<s", other)
                continue
            end = _ENDS[tag[1]]
        _, ended, behind = other.partition(end)
        if ended:
            del kept[len(kept) - begun :]
            begun = 0
            kept.append(behind.partition(b">")[2])
        else:  # what follows is written by a script, or part of a drawing, unless this one is in a comment
            begun = begun + 2 if begun or not _in_comment(kept) else 0
            kept += (b"<s", other)
    return b"".join(kept)


def _in_comment(pieces: list[bytes]) -> bool:
    """Whether a comment is open behind these pieces; long ones are not looked for."""
    before = b"".join(pieces[-20:])
    return before.rfind(b"<!--") > before.rfind(b"-->")


def without_crowded_attributes(html: bytes) -> bytes:
    """A page whose tags with very many attributes have none. Linear time.

    A tag that hides its length behind a ``>`` in the value of an attribute is not found.
    """
    ends = np.flatnonzero(np.frombuffer(html, np.uint8) == ord(">"))
    if np.diff(ends, prepend=0, append=len(html)).max() < LONG_TAG:
        return html
    return b">".join([_bounded(piece) if len(piece) >= LONG_TAG else piece for piece in html.split(b">")])


def _bounded(piece: bytes) -> bytes:
    """Text and the tag behind it, the latter without its attributes if they are many."""
    tag = _TAG.search(piece)
    if tag is None or len(piece[tag.end() :].split(None, MANY_ATTRIBUTES)) <= MANY_ATTRIBUTES:
        return piece
    return piece[: tag.end()]
