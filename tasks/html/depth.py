"""Pages nested too deep for a parser: elements beyond a limit become siblings."""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

MAX_DEPTH = 200
"""Deeper elements are taken as siblings, as Chromium does beyond 512; libxml2 drops what is deeper than 256, and an
HTML5 parser's time grows with the depth."""

# Every pattern here is linear on any input: possessive quantifiers, or bounded ones.
_RAW_START = re.compile(r"<(script|style|!--)", re.IGNORECASE)
_RAW_END = {
    "script": re.compile(r"</script[^<>]*+>?", re.IGNORECASE),
    "style": re.compile(r"</style[^<>]*+>?", re.IGNORECASE),
    "!--": re.compile("-->"),
}
_TAG = re.compile(r"<(/?)([a-zA-Z][a-zA-Z0-9-]*+)[^<>]*+>")

# Elements that cannot nest (void), or whose end tag may be left out, so that counting them says nothing about depth.
_DEPTHLESS_NAMES = (
    "area base br col embed hr img input link meta param source track wbr frame "
    "p li dt dd tr td th thead tbody tfoot option optgroup colgroup rt rp html head body"
)
_DEPTHLESS = frozenset(_DEPTHLESS_NAMES.split())
_LESS, _SLASH = ord("<"), ord("/")


def _pairs(*starts: str) -> NDArray[np.bool_]:
    """Which pairs of bytes begin such names, in either case, by ``256 × first + second``."""
    table = np.zeros(1 << 16, np.bool_)
    for start in starts:
        for first in (start[0], start[0].upper()):
            for second in (start[1], start[1].upper()):
                table[ord(first) * 256 + ord(second)] = True
    return table


_UNCOUNTED = _pairs("br", "hr", "im", "in", "li", "p>", "p ", "td", "tr", "dt", "dd", "op")
_LETTER = np.zeros(256, np.bool_)
_LETTER[[*range(ord("a"), ord("z") + 1), *range(ord("A"), ord("Z") + 1)]] = True


def limit_depth(html: str) -> str:
    """Leave out the tags of elements nested deeper than :data:`MAX_DEPTH`, and keep what is in them. Linear time."""
    if not may_be_deep(html.encode("utf-8", "surrogatepass")):
        return html
    depth = deepest = 0
    for match in _TAG.finditer(html):
        if match[2].lower() not in _DEPTHLESS:
            depth = max(depth - 1, 0) if match[1] else depth + 1
            deepest = max(deepest, depth)
    return html if deepest <= MAX_DEPTH else _flattened(html)


def may_be_deep(html: bytes) -> bool:
    """Whether counting tags might find a page in UTF-8 deeper than :data:`MAX_DEPTH`, by what follows each ``<``."""
    page = np.frombuffer(html + b"   ", np.uint8)
    places = np.flatnonzero(page[:-3] == _LESS)
    if len(places) <= MAX_DEPTH:
        return False
    following = page[places + 1]
    ends = following == _SLASH
    first = np.where(ends, page[places + 2], following).astype(np.int64)
    second = np.where(ends, page[places + 3], page[places + 2])
    counted = _LETTER[first] & ~_UNCOUNTED[first * 256 + second]
    level = np.cumsum(np.where(ends, -1, 1) * counted)
    return int((level - np.minimum(np.minimum.accumulate(level), 0)).max()) > MAX_DEPTH


def _flattened(html: str) -> str:
    depth = 0

    def keep(match: re.Match[str]) -> str:
        nonlocal depth
        if match[2].lower() in _DEPTHLESS:
            return match[0]
        if match[1]:
            depth = max(depth - 1, 0)
            return match[0] if depth < MAX_DEPTH else " "
        depth += 1
        return match[0] if depth <= MAX_DEPTH else " "

    return _TAG.sub(keep, " ".join(pieces_of(html, _RAW_START, _RAW_END)[::2]))


def pieces_of(html: str, start: re.Pattern[str], ends: dict[str, re.Pattern[str]]) -> list[str]:
    """Pieces outside and inside such elements, in turn; an element without an end takes the rest."""
    pieces, position = [], 0
    while opening := start.search(html, position):
        closing = ends[opening[1].lower()].search(html, opening.end())
        end = closing.end() if closing else len(html)
        pieces += [html[position : opening.start()], html[opening.start() : end]]
        position = end
    return [*pieces, html[position:]]
