"""The ``athanor`` extractor: the main text of pages, by the blocks that a small network takes for it.

Pages' tags are found and their blocks measured in columns, those of many pages at once, and only what is kept is laid
out. Where nothing is taken for main text (a list of links, a search page) all visible text is kept but navigation.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tasks.html.blocks import LINE_BREAK, NO_BREAK, Integers, Outline, outline_of
from tasks.html.features import measure
from tasks.html.layout import Layout
from tasks.html.mathematics import with_tex_for_math
from tasks.html.names import names
from tasks.html.scoring import Parameters, scores_of
from tasks.html.tokens import BREAK, KINDS, NAMES, RULE

THRESHOLD = 0.4
"""Log-odds from which a block is kept."""
MIN_CHARACTERS = 200
"""With less main text than this, or …"""
MIN_SHARE = 0.02
"""… less of the page's text, the page is taken for one without an article."""
MAX_HEADING = 120
"""Characters up to which a heading between blocks kept is kept too."""
_IS_HEADING = np.array([name in names("h2 h3 h4 h5 h6") for name in NAMES])
_START = re.compile(rb"\sstart\s*=\s*[\"']?(\d{1,8})")
_SHAPES = names("p h1 h2 h3 h4 h5 h6 ul ol li dl dt dd table tr td th caption blockquote pre figure figcaption menu")
_IS_SHAPE = np.array([name in _SHAPES for name in NAMES])
"""Elements that do more than end a line."""
_CELLS = frozenset((KINDS["td"], KINDS["th"]))
_IS_CELL = np.array([kind in _CELLS for kind in range(len(NAMES))])
_AROUND = (KINDS["nav"], KINDS["footer"])
_ITEM, _ORDERED = KINDS["li"], KINDS["ol"]
_IN_ONE_GO = np.array([name in names("p li h1 h2 h3 h4 h5 h6") for name in NAMES])
"""Elements that are laid out in one go where they hold one block."""
_CLOSE, _OPEN, _WRITE, _ELEMENT = range(4)
Action = tuple[int, int, int, int]


def main_text(html: str, markdown: bool = False, fitted: Parameters | None = None) -> str:
    """The main text of a page, by the network that ships or another one; empty only where nothing is visible."""
    return main_texts([html], markdown, fitted)[0]


def main_texts(pages: Sequence[str], markdown: bool = False, fitted: Parameters | None = None) -> list[str]:
    """Likewise of several pages: of each the very text that it gives alone, in less time. Linear time."""
    if not pages:
        return []
    pages = [with_tex_for_math(html) if "math" in html else html for html in pages]
    outline = outline_of(pages, markdown)
    if outline.texts:
        scores = scores_of(measure(outline), fitted)
        texts = lay_out(outline, with_headings(outline, _kept(outline, scores > THRESHOLD)), markdown)
    else:
        texts = [""] * len(pages)
    bare = (np.diff(outline.blocks) == 0).nonzero()[0].tolist()
    if bare:
        outline = outline_of([pages[page] for page in bare], markdown, whole=True)
        for page, text in zip(bare, lay_out(outline, np.arange(len(outline.texts)), markdown), strict=True):
            texts[page] = text
    return texts


def _kept(outline: Outline, wanted: NDArray[np.bool_]) -> Integers:
    """The blocks wanted; of a page with too few of them, all but navigation."""
    ink = np.zeros((2, len(wanted) + 1), np.int64)
    np.cumsum((outline.ink, outline.ink * wanted), axis=1, out=ink[:, 1:])
    total, found = ink[:, outline.blocks[1:]] - ink[:, outline.blocks[:-1]]
    few = (found < np.minimum(MIN_CHARACTERS, 0.5 * total)) | (found < MIN_SHARE * total)
    for page in few.nonzero()[0].tolist():
        first, end = outline.blocks[page : page + 2].tolist()
        wanted[first:end] = _but_navigation(outline, page)[first:end]
    return wanted.nonzero()[0]


def _but_navigation(outline: Outline, page: int) -> NDArray[np.bool_]:
    """B: blocks of this page that are not mostly links and in no navigation or footer, or else all."""
    wanted = np.zeros(len(outline.texts), np.bool_)
    blocks = slice(*outline.blocks[page : page + 2].tolist())
    wanted[blocks] = outline.linked[blocks] < 0.6 * outline.ink[blocks]
    first_element, end_element = outline.bodies[page : page + 2].tolist()
    around = np.flatnonzero(np.isin(outline.kind[first_element:end_element], _AROUND)) + first_element
    for element in around.tolist():
        wanted[outline.first[element] : outline.end[element]] = False
    if outline.ink[wanted].sum() < 0.1 * outline.ink[blocks].sum():
        wanted[blocks] = True
    return wanted


def with_headings(outline: Outline, kept: Integers) -> Integers:
    """The blocks, and every heading without links that stands alone between two of them."""
    gaps = kept[:-1][kept[1:] == kept[:-1] + 2]
    page = outline.blocks.searchsorted(gaps, "right")
    between = gaps[outline.blocks[page] > gaps + 2] + 1
    between = between[_IS_HEADING[outline.kind[outline.element[between]]] & (outline.linked[between] == 0)]
    headings = [number for number in between.tolist() if len(outline.texts[number].strip()) <= MAX_HEADING]
    return np.sort(np.append(kept, np.array(headings, np.int64)))


def lay_out(outline: Outline, kept: Integers, markdown: bool) -> list[str]:
    """The text of each page's blocks kept, as lines."""
    if not len(kept):
        return [""] * (len(outline.blocks) - 1)
    blocks = _blocks_to_write(outline, kept)
    actions = _actions(outline, kept, blocks.texts, markdown)
    borders = [bisect_left(actions, (tag, _OPEN)) for tag in outline.tokens.first.tolist()]
    return [_laid_out(outline, actions[first:end], blocks, markdown) for first, end in pairwise(borders)]


class _Blocks(NamedTuple):
    """What has to be known of the blocks kept to write them, in their order."""

    texts: list[str]
    names: list[str]
    """Of the element around."""
    begun_by: list[int]
    """Kind of the tag that begins the block."""
    ends_line: list[bool]
    """Whether the tag that ends it does more than end a cell."""


def _blocks_to_write(outline: Outline, kept: Integers) -> _Blocks:
    kinds, until = outline.tokens.kind, outline.until[kept]
    goes_on = until != outline.tokens.first[outline.blocks.searchsorted(kept, "right")]
    return _Blocks(
        [outline.texts[block] for block in kept.tolist()],
        [NAMES[kind] for kind in outline.kind[outline.element[kept]].tolist()],
        kinds[outline.tag[kept]].tolist(),
        (goes_on & ~_IS_CELL[kinds[until * goes_on]]).tolist(),
    )


def _laid_out(outline: Outline, actions: Sequence[Action], blocks: _Blocks, markdown: bool) -> str:
    """The text of a page."""
    out = Layout(markdown)
    for tag, action, _, number in actions:
        if action == _ELEMENT:
            out.element(blocks.names[number], _with_spaces(blocks.texts[number]))
        elif action == _WRITE:
            _write(out, blocks.texts[number], blocks.begun_by[number])
            if blocks.ends_line[number]:
                out.end_line()
        elif action == _CLOSE:
            out.close(NAMES[number])
        else:
            out.open(NAMES[number], _start_of(outline, tag) if number == _ORDERED else "")
    return out.text()


def _write(out: Layout, text: str, begun_by: int) -> None:
    """Write a block, which a tag of this kind begins."""
    if begun_by == BREAK:
        out.open("br")
    elif begun_by not in _CELLS and out.begun():
        out.end_line()
    first, *others = _with_spaces(text).split(LINE_BREAK)
    out.write(first)
    for line in others:
        out.open("br")
        out.write(line)


def _with_spaces(text: str) -> str:
    return text.replace(NO_BREAK, "\xa0") if NO_BREAK in text else text


def _actions(outline: Outline, kept: Integers, texts: Sequence[str], markdown: bool) -> list[Action]:
    """What to do, in order: the tag that calls for it, the action, its place among several of the tag, and what it is
    about: the number among the blocks kept of the one to write, the kind to open or to close."""
    wanted = np.zeros(len(outline.texts) + 1, np.int64)
    wanted[kept + 1] = 1
    sums = np.cumsum(wanted)
    # Of the page of each element the first and the last block kept; of pages with none, nothing is held.
    ends = np.repeat(outline.blocks[1:], np.diff(outline.bodies))
    first_kept = kept[np.minimum(sums[np.repeat(outline.blocks[:-1], np.diff(outline.bodies))], len(kept) - 1)]
    last_kept = kept[sums[ends] - 1]
    begun = (outline.first >= first_kept) & (outline.first <= last_kept)
    holding = (sums[outline.end] > sums[outline.first]) | (outline.kind == _ITEM)
    holders = outline.element[kept]
    alone = _IN_ONE_GO[outline.kind[holders]] & (outline.end[holders] - outline.first[holders] == 1)
    alone &= outline.tag[kept] == outline.opened[holders]
    alone[[LINE_BREAK in text for text in texts]] = False
    shaped = _IS_SHAPE[outline.kind] & begun & holding
    shaped[holders[alone]] = False
    shapes = shaped.nonzero()[0]
    kinds = outline.kind[shapes].tolist()
    actions: list[Action] = [
        (tag, _ELEMENT if is_alone else _WRITE, 0, number)
        for number, (tag, is_alone) in enumerate(zip(outline.tag[kept].tolist(), alone.tolist(), strict=True))
    ]
    actions += [(tag, _OPEN, 0, kind) for tag, kind in zip(outline.opened[shapes].tolist(), kinds, strict=True)]
    actions += [
        (tag, _CLOSE, -number, kind)
        for tag, number, kind in zip(outline.closed[shapes].tolist(), shapes.tolist(), kinds, strict=True)
    ]
    if markdown:
        actions += [(tag, _OPEN, 0, RULE) for tag in _rules(outline, kept)]
    actions.sort()
    return actions


def _rules(outline: Outline, kept: Integers) -> list[int]:
    """The tags that draw a line between two blocks kept of a page."""
    rules = np.flatnonzero((outline.tokens.kind == RULE) & outline.shown)
    tags, page = outline.tag[kept], outline.blocks.searchsorted(kept, "right")
    before, after = tags.searchsorted(rules) - 1, tags.searchsorted(rules, "right")
    inner = ((before >= 0) & (after < len(kept))).nonzero()[0]
    inner = inner[page[before[inner]] == page[after[inner]]]
    found: list[int] = rules[inner].tolist()
    return found


def _start_of(outline: Outline, tag: int) -> str:
    """The first number of an ordered list."""
    tokens = outline.tokens
    match = _START.search(tokens.content, int(tokens.start[tag]), int(tokens.end[tag]))
    return match[1].decode() if match else "1"
