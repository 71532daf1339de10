"""A page's blocks of text, and what is measured of each: length, links, punctuation, names, neighbours, place.

A block is the text between two tags that start a new line. Everything that depends on other blocks
or on the elements around is computed in columns.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from tasks.html.markup import LINK, LINK_END, Tags
from tasks.html.names import names

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

_NAMES = names(
    "body div section article main header aside p h1 h2 h3 h4 h5 h6 ul ol li dl dt dd table tr td th caption "
    "blockquote pre figure figcaption address details summary center hr hgroup menu search legend nav footer"
)
KINDS = {name: number for number, name in enumerate(_NAMES)}
"""Elements that start a new line."""

_LEADING = frozenset(KINDS[name] for name in ("article", "main", "aside", "header", "nav", "footer"))

HINTS = {
    "comments": "comment|disqus|respond|reply|replies|discuss|feedback",
    "share": "share|sharing|social|facebook|twitter|whatsapp|tweet|follow|addtoany|sns",
    "navigation": "nav|menu|crumb|pagination|pager|paging|skip|jump|toc|tabs|topics?$|links?$|prev|next",
    "footer": "foot|copyright|legal|imprint|colophon|disclaimer",
    "header": "header|masthead|topbar|logo|brand|hero|site",
    "side": "side|rail|widget|panel|column|block|module",
    "related": "relat|recommend|more|similar|also|popular|trend|teaser|latest|promo|carousel|slider|card|list|grid"
    "|item",
    "advertising": "^ads?$|advert|sponsor|banner|dfp|outbrain|taboola|affiliate|shop|product|cart|price",
    "signup": "newsletter|subscri|signup|login|register|registr|paywall|donat|member|account|^cta$",
    "byline": "meta|byline|author|date|time|publish|tag|categor|info|bio|credit|source|avatar|dateline|label",
    "caption": "caption|figure|image|img|photo|picture|gallery|media|video|player|legend",
    "controls": "cookie|consent|popup|modal|overlay|dialog|tool|button|btn|print|search|form|rating|vote|hidden|alert",
    "title": "title|headline|subtitle|heading",
    "lead": "lead|intro|summary|excerpt|teaser|standfirst|dek|abstract|description|kicker",
    "article": "article|story|^post|entry|blog|news|recipe",
    "body": "content|body|text|^main|copy|paragraph|prose|rich|markdown|page|inner",
}
"""Words of classes, ids and roles, and what they speak of: a block's features, not yet a verdict."""
_HINTS = [re.compile(pattern) for pattern in HINTS.values()]
_NAMING = re.compile(r" (?:class|id|role|itemprop|data-component|data-testid)=\"([^\"]{1,300})")
_WORD = re.compile(r"[a-z]{2,24}|[A-Z][a-z]{1,24}|[A-Z]{2,24}")
_ENDS = re.compile(r"[.!?…。！？;；:：][\"'»”’)\]]?(?:\s|$)|[。！？]")


@lru_cache(maxsize=1 << 16)
def _hints_of_word(word: str) -> int:
    lower = word.lower()
    return sum(1 << bit for bit, pattern in enumerate(_HINTS) if pattern.search(lower))


@lru_cache(maxsize=1 << 14)
def _hints_of_names(names: str) -> int:
    bits = 0
    for word in _WORD.findall(names):
        bits |= _hints_of_word(word)
    return bits


@lru_cache(maxsize=1 << 14)
def hints_of(attributes: str) -> int:
    """The hints in a tag's class, id and role, as bits in the order of :data:`HINTS`."""
    bits = 0
    for value in _NAMING.findall(attributes):
        bits |= _hints_of_names(value)
    return bits


@dataclass
class Outline:
    """Elements that start a new line, and blocks of text, both in the order of the page."""

    kind: list[int] = field(default_factory=list)
    """Per element: its :data:`KINDS`."""
    parent: list[int] = field(default_factory=list)
    hints: list[int] = field(default_factory=list)
    """Of the element itself."""
    within: list[int] = field(default_factory=list)
    """Bits of the leading elements around (article, main, aside, header …)."""
    depth: list[int] = field(default_factory=list)
    first: list[int] = field(default_factory=list)
    """Number of blocks before the element."""
    end: list[int] = field(default_factory=list)
    """Number of blocks before the element's end."""

    element: list[int] = field(default_factory=list)
    """Per block: the innermost element."""
    start: list[int] = field(default_factory=list)
    """The tag whose text begins the block …"""
    stop: list[int] = field(default_factory=list)
    """… and the one after the last."""
    texts: list[str] = field(default_factory=list)
    """White space collapsed; entities as in the source."""
    linked: list[int] = field(default_factory=list)
    """Characters within links."""


_LINKED = re.compile(f"{LINK}([^{LINK_END}]*+)")


def outline_of(tags: Tags) -> Outline:
    """Find elements and blocks in one pass."""
    out = Outline()
    add_kind, add_parent, add_hints = out.kind.append, out.parent.append, out.hints.append
    add_within, add_depth, add_first, ends = out.within.append, out.depth.append, out.first.append, out.end
    blocks, kinds = out.element, KINDS
    stack: list[int] = []
    pieces: list[str] = []
    begun = breaks = current = within = 0
    linking = False

    def flush(stop: int) -> None:
        nonlocal linking
        text = "".join(pieces)
        pieces.clear()
        linked = 0
        if linking or LINK in text:
            if linking:
                text = LINK + text
            linking = text.rfind(LINK) > text.rfind(LINK_END)
            linked = sum(map(len, _LINKED.findall(text)))
            text = text.replace(LINK, "")
        text = " ".join(text.replace(LINK_END, "").split())
        if text:
            blocks.append(current)
            out.start.append(begun)
            out.stop.append(stop)
            out.texts.append(text)
            out.linked.append(min(linked, len(text)))

    for number, (slash, name, attributes, text) in enumerate(tags):
        kind = kinds.get(name)
        if kind is None:
            if name == "br" and pieces:
                breaks += 1
                if breaks > 1:
                    flush(number)
                    begun = number
                else:
                    pieces.append("\n")
        else:
            if pieces:
                flush(number)
            begun = number
            breaks = 0
            if slash:
                if len(stack) > 1:
                    ends[stack.pop()] = len(blocks)
                    current = stack[-1]
                    within = out.within[current]
            elif name != "hr":
                if kind in _LEADING:
                    within |= 1 << kind
                add_kind(kind)
                add_parent(current)
                add_hints(hints_of(attributes) if attributes else 0)
                add_within(within)
                add_depth(len(stack))
                add_first(len(blocks))
                current = len(ends)
                ends.append(0)
                stack.append(current)
        if text:
            if not text.isspace():
                pieces.append(text)
                breaks = 0
            elif pieces:
                pieces.append(text)
    if pieces:
        flush(len(tags))
    for element in stack:
        ends[element] = len(blocks)
    return out
