"""Which elements lie within which, from tags in their order, by the rules of the HTML standard that matter for blocks.

A ``p`` ends where the next block begins, an item, a cell or a row where the next one does; an end tag
ends its element and all within, and means nothing where no such element is open. Inline elements but
those that hide their content are not looked at. Linear time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tasks.html.names import names
from tasks.html.tokens import BLOCKS, FIRST_RAW, KINDS, NAMES, Integers

MAX_DEPTH = 500
"""Deeper elements are taken as parts of the one at this depth; Chromium makes siblings of those beyond 512."""
CLOSING = 128
"""Added to the kind of an end tag."""

_P, _LI, _TABLE, _BODY, _HR = (KINDS[name] for name in ("p", "li", "table", "body", "hr"))
_HEADINGS = frozenset(KINDS[f"h{level}"] for level in range(1, 7))
_CELLS = frozenset((KINDS["td"], KINDS["th"]))
_IN_TABLE = frozenset(KINDS[name] for name in names("td th tr caption"))
_TERMS = frozenset((KINDS["dt"], KINDS["dd"]))
_THROUGH = frozenset(KINDS[name] for name in names("div address p"))
"""Elements that an item's start looks through for another one that is open."""
_ENDS_P = frozenset(KINDS[name] for name in BLOCKS) - _IN_TABLE - {KINDS["legend"], _BODY}
_OPTIONAL_END = _IN_TABLE | _TERMS | {_LI, _P}
_SIMPLE = frozenset(range(1, FIRST_RAW)) - _IN_TABLE - _TERMS - _HEADINGS - {_LI}
"""Elements whose start ends no element but a paragraph."""
_ALWAYS_CLOSED = np.array([kind not in _OPTIONAL_END and kind not in (_BODY, _HR) for kind in range(CLOSING)])
"""Elements that only their own end tag ends, unless that is forgotten."""
_IS_ENDING_P = np.array([kind in _ENDS_P for kind in range(2 * CLOSING)])
_PAGE = 127
"""Stands for the start of a page's own body."""
_ROUNDS = 3
"""Levels of elements that are matched in columns, from the innermost."""


@dataclass
class Elements:
    """Elements in the order of their start tags; the first is the body. Tags are numbered as in the page."""

    kind: Integers
    opened: Integers
    """The start tag."""
    closed: Integers
    """The tag that ends the element, its own end tag or another one; how many tags there are if none does."""


def elements_of(tags: Integers, codes: NDArray[np.uint8], bodies: Integers) -> Elements:
    """The elements that tags make; those at ``tags`` matter.

    ``codes`` are the kinds of all tags, :data:`CLOSING` added to those of end tags. At ``bodies`` each page's
    own tags begin, with the start of its body, which ends all elements before it; its last number is that of all tags.
    """
    kinds = codes[tags]
    first, count = tags.searchsorted(bodies[:-1]), int(bodies[-1])
    certain = _certainly_closed(kinds, first)
    kinds[first] = _PAGE
    opened, closed = [], []
    for _ in range(_ROUNDS):  # a start tag and its end tag with nothing between them
        pair = kinds[:-1] + np.uint8(CLOSING) == kinds[1:]
        pair &= (kinds[:-1] < CLOSING) & certain[:-1]
        pair[1:] &= (kinds[:-2] != _P) | ~_IS_ENDING_P[kinds[1:-1]]
        begins = pair.nonzero()[0]
        if not len(begins):
            break
        opened.append(tags[begins])
        closed.append(tags[begins + 1])
        kept = np.ones(len(kinds), np.bool_)
        kept[begins] = kept[begins + 1] = False
        tags, kinds, certain = tags[kept], kinds[kept], certain[kept]
    starts, ends = _matched(kinds.tolist())
    opened.append(tags[starts])
    closed.append(np.append(tags, count)[ends])
    all_opened = np.concatenate(opened)
    order = all_opened.argsort()
    all_opened = all_opened[order]
    return Elements(codes[all_opened].astype(np.int64), all_opened, np.concatenate(closed)[order])


def _certainly_closed(kinds: NDArray[np.uint8], first: Integers) -> NDArray[np.bool_]:
    """Of each tag, whether an element of its kind is only ended by its own end tag: in the pages that begin there."""
    length = np.diff(np.append(first, len(kinds)))
    page = np.repeat(np.arange(len(first)) * (2 * CLOSING), length)
    many = np.bincount(page + kinds, minlength=len(first) * 2 * CLOSING).reshape(-1, 2, CLOSING)
    certain = np.repeat(_ALWAYS_CLOSED | (many[:, 0] == many[:, 1]), 2, axis=0).ravel()
    found: NDArray[np.bool_] = certain[page + kinds]
    return found


def _matched(tags: list[int]) -> tuple[list[int], list[int]]:
    """Per element, the places of the tag that opens and of the one that ends it; their number where none does.

    :data:`_PAGE` begins another page.
    """
    opened: list[int] = []
    closed: list[int] = []
    kinds: list[int] = []
    many = len(tags)
    count = [0] * CLOSING
    stack: list[int] = []
    current_kind = too_deep = 0
    for number, tag in enumerate(tags):
        if tag >= CLOSING:
            tag -= CLOSING
            if too_deep:
                too_deep -= 1
                continue
            if tag == current_kind and tag != _BODY:
                closed[stack.pop()] = number
                count[tag] -= 1
                current_kind = kinds[stack[-1]]
                continue
            if tag == _BODY or not (count[tag] or tag in _HEADINGS):
                continue
            place = _matching(kinds, stack, tag)
        elif tag == _PAGE:
            for element in stack:
                closed[element] = number
            count = [0] * CLOSING
            stack.clear()
            tag = _BODY
            place = too_deep = current_kind = 0
        elif tag in (_HR, _BODY) or (tag in _IN_TABLE and not count[_TABLE]):
            continue
        else:
            if current_kind == _P and tag in _ENDS_P:
                closed[stack.pop()] = number
                count[_P] -= 1
                current_kind = kinds[stack[-1]]
            place = 0 if tag in _SIMPLE else _ended_by(kinds, stack, tag, current_kind)
        if place:
            for element in stack[place:]:
                closed[element] = number
                count[kinds[element]] -= 1
            del stack[place:]
            current_kind = kinds[stack[-1]]
        if tags[number] < CLOSING:
            if len(stack) < MAX_DEPTH:
                current_kind = tag
                count[tag] += 1
                stack.append(len(kinds))
                kinds.append(tag)
                opened.append(number)
                closed.append(many)
            else:
                too_deep += 1
    return opened, closed


class Nesting(NamedTuple):
    """How elements lie within each other."""

    depth: Integers
    """Of a body: 0."""
    parent: Integers
    """Of a body: itself."""
    innermost: Integers
    """The element that holds what follows each of some tags."""


def nesting_of(opened: Integers, closed: Integers, tags: Integers) -> Nesting:
    """The nesting of elements between these tags, in the order of their start; those in no other are bodies."""
    many = len(opened)
    ends = np.sort(closed)
    depth = np.arange(many) - ends.searchsorted(opened, "right")
    before = opened.searchsorted(tags, "right")
    depth_there = before - ends.searchsorted(tags, "right") - 1
    # By depth, then by place: what holds something is the last before it that is one step less deep.
    places = np.sort(depth * (many + 1) + np.arange(many))
    parent = places[places.searchsorted((depth - 1) * (many + 1) + np.arange(many)) - 1] % (many + 1)
    innermost = places[places.searchsorted(depth_there * (many + 1) + before) - 1] % (many + 1)
    bodies = (depth == 0).nonzero()[0]
    parent[bodies] = bodies
    return Nesting(depth, parent, innermost)


def _matching(kinds: list[int], stack: list[int], tag: int) -> int:
    """The place on the stack of what an end tag ends; 0 if nothing. Only the end of a part of a table leaves a cell."""
    leaves = tag in _IN_TABLE or tag == _TABLE or NAMES[tag] in ("article", "main", "section")
    for place in range(len(stack) - 1, 0, -1):
        kind = kinds[stack[place]]
        if kind == tag or (kind in _HEADINGS and tag in _HEADINGS):
            return place
        if kind in _CELLS and not leaves:
            return 0
        if kind == _TABLE and tag in _IN_TABLE:
            return 0
    return 0


def _ended_by(kinds: list[int], stack: list[int], tag: int, current: int) -> int:
    """The place on the stack of the item, heading, cell or row that ends where another begins; 0 if none does."""
    if tag in _HEADINGS:
        return len(stack) - 1 if current in _HEADINGS else 0
    if tag in _IN_TABLE:
        ended = _IN_TABLE if tag not in _CELLS else _IN_TABLE - {KINDS["tr"]}
        lowest = 0
        for place in range(len(stack) - 1, 0, -1):
            kind = kinds[stack[place]]
            if kind == _TABLE:
                return lowest
            if kind in ended:
                lowest = place
        return 0
    wanted = _TERMS if tag in _TERMS else (_LI,)
    for place in range(len(stack) - 1, 0, -1):
        kind = kinds[stack[place]]
        if kind in wanted:
            return place
        if kind not in _THROUGH:
            return 0
    return 0
