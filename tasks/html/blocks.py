"""Pages' blocks of text: what stands between two tags that start a new line, without what no reader sees.

Pages are bytes here, one behind the other, and tags are columns: text is gathered from all over them in one step.
P pages, T tags, E elements, I items (pieces of text, each begun by a tag), B blocks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import unescape

import numpy as np
from numpy.typing import NDArray

from tasks.html.gather import gathered
from tasks.html.hints import hints_of
from tasks.html.tokens import BLOCKS, BREAK, FIRST_RAW, KINDS, LINK, NAME_LENGTH, Tokens, tokens_of
from tasks.html.tree import CLOSING, Elements, elements_of, nesting_of
from tasks.html.visible import left_out, without_comments
from tasks.text.unicode import without_controls

Bytes = NDArray[np.uint8]
Integers = NDArray[np.int64]

_INLINE, _LINK, _LINK_END, _BREAK, _BLOCK = 1, 2, 3, 4, 5
"""Bytes that begin an item, by its tag. Pages do not hold them (``without_controls``)."""
LINE_BREAK = "\x04"
"""Stands for a ``br`` in a block's text."""
NO_BREAK = "\x1d"
"""Stands for a no-break space in a block's text."""
STRONG, STRONG_END, SLANTED, SLANTED_END, CODE, CODE_END = "\x0e\x0f\x10\x11\x12\x13"
"""Stand in a block's text, where emphasis is asked for."""
_EMPHASIS = {
    "b": STRONG, "strong": STRONG, "i": SLANTED, "em": SLANTED,
    "code": CODE, "kbd": CODE, "samp": CODE, "tt": CODE,
}  # fmt: skip

_MARK = np.full(256, _INLINE, np.uint8)
_MARK[[KINDS[name] for name in BLOCKS]] = _BLOCK
_MARK[[128 + KINDS[name] for name in BLOCKS]] = _BLOCK
_MARK[[BREAK, 128 + BREAK]] = _BREAK
_MARK[LINK], _MARK[128 + LINK] = _LINK, _LINK_END
_MARK_EMPHASIS = _MARK.copy()
for _name, _mark in _EMPHASIS.items():
    _MARK_EMPHASIS[KINDS[_name]], _MARK_EMPHASIS[128 + KINDS[_name]] = ord(_mark), ord(_mark) + 1
_IS_MARK, _IS_INLINE = np.zeros(256, np.bool_), np.zeros(256, np.bool_)
_IS_MARK[[*range(1, 6), *range(0x0E, 0x14)]] = True
_IS_INLINE[[*range(1, 4), *range(0x0E, 0x14)]] = True
_DROPPED_MARKS = b"\1\2\3"


@dataclass
class Outline:
    """Elements that hold text, and blocks of text, both in the order of the pages."""

    tokens: Tokens
    blocks: Integers
    """P + 1: number of blocks before each page; B."""
    bodies: Integers
    """P + 1: number of elements before each page; E. A page without blocks has none."""
    shown: NDArray[np.bool_]
    """T: whether the tag is in no part of the page that is left out."""
    kind: Integers
    """E: its name, see ``tokens.KINDS``; only elements that hold text are here, of a page first the body."""
    opened: Integers
    """E: the tag that opens it."""
    closed: Integers
    """E: the tag that ends it, or the next page's first."""
    parent: Integers
    depth: Integers
    first: Integers
    """E: number of blocks before the element."""
    end: Integers
    """E: number of blocks before the element's end."""
    hints: Integers
    """E: what the element's own names speak of, as bits in the order of ``hints.HINTS``."""

    element: Integers
    """B: the innermost element."""
    tag: Integers
    """B: the tag that begins the block."""
    until: Integers
    """B: the tag that ends it, or the next page's first."""
    texts: list[str]
    """B: with white space as in the source; see :data:`LINE_BREAK` and the like."""
    text: Bytes
    """All text as bytes, without marks of inline tags."""
    place: Integers
    """B: where the block begins in that text …"""
    stop: Integers
    """… and where it ends."""
    ink: Integers
    """B: characters but white space."""
    linked: Integers
    """B: those within links."""


def outline_of(pages: Sequence[str], emphasis: bool = False, whole: bool = False) -> Outline:
    """The blocks of pages; with ``emphasis``, bold and slanted text is marked.

    Navigation, footers and comments are left out, unless ``whole``. Linear time.
    """
    tokens = tokens_of(pages)
    kind, bodies = tokens.kind, tokens.first
    makes = (kind > 0) & (kind < FIRST_RAW)
    pictures = (kind == KINDS["svg"]).nonzero()[0]
    makes[pictures[tokens.page[tokens.end[pictures] - 1] == ord("/")]] = False
    codes = kind + tokens.closing * np.uint8(CLOSING)
    length = tokens.lengths()
    tags = _worth_a_look(makes.nonzero()[0], codes, length, bodies)
    elements = elements_of(tags, codes, bodies)
    covered = left_out(tokens, elements, length, whole)
    length[covered] = 0
    mark = (_MARK_EMPHASIS if emphasis else _MARK)[codes]
    inside = covered.copy()
    inside[1:] &= covered[:-1]
    items = np.flatnonzero(~inside & ((mark > _INLINE) | (length > 0)))
    marks = mark[items]
    empty = (marks[:-1] == _BLOCK) & (marks[1:] == _BLOCK) & (length[items[:-1]] == 0)
    empty[items.searchsorted(bodies[1:-1]) - 1] = False
    items = items[np.append(~empty, True)]
    found = _blocks_of(tokens, ~inside, elements, items, mark[items], length[items], whole)
    if isinstance(found, Outline):
        return found
    cleaned = list(pages)  # some have control characters
    for page in found:
        cleaned[page] = without_controls(cleaned[page]).translate(_NO_CONTROLS)
    return outline_of(cleaned, emphasis, whole)


def _worth_a_look(tags: Integers, codes: Bytes, length: Integers, bodies: Integers) -> Integers:
    """These tags without such pairs of start and end tag as hold nothing at all."""
    sums = np.zeros(len(length) + 1, np.int64)
    np.cumsum(length, out=sums[1:])
    before, kinds = sums[tags], codes[tags]
    pair = (kinds[:-1] + np.uint8(CLOSING) == kinds[1:]) & (kinds[:-1] < CLOSING) & (before[:-1] == before[1:])
    pages = tags.searchsorted(bodies[:-1])
    pair[pages[pages < len(pair)]] = False
    begins = pair.nonzero()[0]
    kept = np.ones(len(tags), np.bool_)
    kept[begins] = kept[begins + 1] = False
    return tags[kept]


def _hints(tokens: Tokens, tags: Integers) -> Integers:
    """The hints in these start tags."""
    start = tokens.start[tags] + 1 + NAME_LENGTH[tokens.kind[tags]]
    end = tokens.end[tags]
    named = (end > start).nonzero()[0]
    found = np.zeros(len(tags), np.int64)
    if len(named):
        found[named] = hints_of(tokens.page, start[named], end[named])
    return found


_NO_CONTROLS = {code: " " for code in range(32) if code not in (9, 10, 12, 13)}


def _plain(text: Bytes) -> Bytes:
    """With character references decoded, and no-break spaces as :data:`NO_BREAK`."""
    content = text.tobytes()
    if b"&" not in content and b"\xc2\xa0" not in content:
        return text
    decoded = unescape(content.decode("utf-8", "surrogatepass")).replace("\xa0", NO_BREAK)
    return np.frombuffer(decoded.encode("utf-8", "surrogatepass"), np.uint8).copy()


def _blocks_of(
    tokens: Tokens,
    shown: NDArray[np.bool_],
    elements: Elements,
    items: Integers,
    marks: Bytes,
    length: Integers,
    whole: bool,
) -> Outline | list[int]:
    """The outline from items of text; or the pages in which marks were there before."""
    bodies = items.searchsorted(tokens.first)
    raw, offsets = gathered(tokens.page, tokens.end[items], length + 1)
    raw[offsets] = marks
    text = _plain(raw)
    offsets = np.flatnonzero(_IS_MARK[text])
    if len(offsets) != len(items):
        begin = (np.cumsum(length + 1) - length - 1)[bodies[:-1]]
        held = np.add.reduceat(_IS_MARK[raw], begin, dtype=np.int64)
        guilty: list[int] = (held != np.diff(bodies)).nonzero()[0].tolist()
        return guilty
    inline = _IS_INLINE[marks]
    plain = text[~_IS_INLINE[text]]
    places = offsets - np.cumsum(inline) + inline
    inked = plain > 32
    counted = np.zeros(len(plain) + 1, np.int32)
    np.cumsum(inked & ((plain & 0xC0) != 0x80), out=counted[1:])
    ink = np.diff(counted[np.append(places, len(plain))])
    again = _second_breaks(marks, ink)
    if len(again):
        marks[again] = text[offsets[again]] = plain[places[again]] = _BLOCK
    begin = np.flatnonzero(marks == _BLOCK)
    ink_of = np.add.reduceat(ink, begin)
    turns = (marks == _LINK) | (marks == _LINK_END)
    turns[bodies[:-1]] = True
    links = np.maximum.accumulate(np.where(turns, np.arange(len(marks)), 0))
    linked_of = np.add.reduceat(np.where(marks[links] == _LINK, ink, 0), begin)
    blocks = ink_of.nonzero()[0]
    for may_have_comments in (not whole, False):
        tag = items[begin[blocks]]
        first, end = tag.searchsorted(elements.opened), tag.searchsorted(elements.closed)
        kept = first < end
        opened, closed, first, end = elements.opened[kept], elements.closed[kept], first[kept], end[kept]
        hints = _hints(tokens, opened)
        if not may_have_comments:
            break
        article = without_comments(tokens, opened, first, end, hints, tag, ink_of[blocks])
        if article is None:
            break
        blocks = blocks[article]
    nesting = nesting_of(opened, closed, tag)
    chunks = text.tobytes().translate(None, _DROPPED_MARKS).decode("utf-8", "surrogatepass").split("\x05")
    return Outline(
        tokens,
        tag.searchsorted(tokens.first),
        opened.searchsorted(tokens.first),
        shown,
        elements.kind[kept],
        opened,
        closed,
        nesting.parent,
        nesting.depth,
        first,
        end,
        hints,
        nesting.innermost,
        tag,
        np.append(items[begin], len(tokens.start))[blocks + 1],
        [chunks[place] for place in (blocks + 1).tolist()],
        plain,
        places[begin[blocks]],
        np.append(places[begin], len(plain))[blocks + 1],
        ink_of[blocks],
        linked_of[blocks],
    )


def _second_breaks(marks: Bytes, ink: Integers) -> Integers:
    """The items begun by a ``br`` behind another one with nothing between: there a new block begins."""
    if not (marks == _BREAK).any():
        return np.zeros(0, np.int64)
    matters = (marks == _BREAK) | (marks == _BLOCK) | (ink > 0)
    last = np.maximum.accumulate(np.where(matters, np.arange(len(marks)), 0))
    before = last[:-1]
    return 1 + np.flatnonzero((marks[1:] == _BREAK) & (marks[before] == _BREAK) & (ink[before] == 0))
