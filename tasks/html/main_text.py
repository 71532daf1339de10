"""The ``athanor`` extractor: the main text of a page, by the blocks that a small network takes for it.

The page's tags are found and its blocks measured in columns, and only what is kept is laid out. Where
nothing is taken for main text (a list of links, a search page) all visible text is kept but navigation.
"""

from __future__ import annotations

import re
from itertools import pairwise

import numpy as np

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
_HEADINGS = frozenset(KINDS[name] for name in names("h2 h3 h4 h5 h6"))
_START = re.compile(rb"\sstart\s*=\s*[\"']?(\d{1,8})")
_SHAPES = names("p h1 h2 h3 h4 h5 h6 ul ol li dl dt dd table tr td th caption blockquote pre figure figcaption menu")
_IS_SHAPE = np.array([name in _SHAPES for name in NAMES])
"""Elements that do more than end a line."""
_CELLS = frozenset((KINDS["td"], KINDS["th"]))
_AROUND = (KINDS["nav"], KINDS["footer"])
_ITEM, _ORDERED = KINDS["li"], KINDS["ol"]
_ELEMENTS = np.array([name in names("p li h1 h2 h3 h4 h5 h6") for name in NAMES])
"""Elements that are laid out in one go where they hold one block."""
_CLOSE, _OPEN, _WRITE, _ELEMENT = range(4)


def main_text(html: str, markdown: bool = False, fitted: Parameters | None = None) -> str:
    """The main text of a page, by the network that ships or another one; empty only where nothing is visible.

    Linear time.
    """
    if "math" in html:
        html = with_tex_for_math(html)
    page = outline_of(html, markdown)
    if not page.texts:
        page = outline_of(html, markdown, whole=True)
        return lay_out(page, list(range(len(page.texts))), markdown)
    kept = np.flatnonzero(scores_of(measure(page), fitted) > THRESHOLD)
    found, total = page.ink[kept].sum(), page.ink.sum()
    if found < min(MIN_CHARACTERS, 0.5 * total) or found < MIN_SHARE * total:
        kept = _without_navigation(page)
    return lay_out(page, with_headings(page, kept.tolist()), markdown)


def with_headings(page: Outline, kept: list[int]) -> list[int]:
    """The blocks, and every heading without links that stands alone between two of them."""
    found = kept[:1]
    for before, number in pairwise(kept):
        if number == before + 2 and _is_heading(page, before + 1):
            found.append(before + 1)
        found.append(number)
    return found


def _is_heading(page: Outline, number: int) -> bool:
    kind = int(page.kind[page.element[number]])
    return kind in _HEADINGS and not page.linked[number] and len(page.texts[number].strip()) <= MAX_HEADING


def _without_navigation(page: Outline) -> Integers:
    """The blocks that are not mostly links and in no navigation or footer, or else all."""
    wanted = page.linked < 0.6 * page.ink
    for element in np.flatnonzero(np.isin(page.kind, _AROUND)).tolist():
        wanted[page.first[element] : page.end[element]] = False
    if page.ink[wanted].sum() < 0.1 * page.ink.sum():
        return np.arange(len(page.texts))
    return np.flatnonzero(wanted)


def lay_out(page: Outline, kept: list[int], markdown: bool) -> str:
    """The text of the blocks kept, as lines."""
    if not kept:
        return ""
    out = Layout(markdown)
    kinds = page.tokens.kind
    for _, action, _, number in _actions(page, kept, markdown):
        if action == _ELEMENT:
            out.element(NAMES[page.kind[page.element[number]]], _with_spaces(page.texts[number]))
        elif action == _WRITE:
            _write(out, page.texts[number], int(kinds[page.tag[number]]))
            if page.until[number] < len(kinds) and int(kinds[page.until[number]]) not in _CELLS:
                out.end_line()
        elif action == _CLOSE:
            out.close(NAMES[number])
        else:
            out.open(NAMES[kinds[number]], _start_of(page, number) if kinds[number] == _ORDERED else "")
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


def _actions(page: Outline, kept: list[int], markdown: bool) -> list[tuple[int, int, int, int]]:
    """What to do, in order: the tag that calls for it, the action, its place among several of the tag, and what it is
    about: the block to write, the tag to open, the kind to close."""
    sums = np.zeros(len(page.texts) + 1, np.int64)
    sums[1:][kept] = 1
    np.cumsum(sums, out=sums)
    begun = (page.first >= kept[0]) & (page.first <= kept[-1])
    holding = (sums[page.end] > sums[page.first]) | (page.kind == _ITEM)
    holders = page.element[kept]
    alone = _ELEMENTS[page.kind[holders]] & (page.end[holders] - page.first[holders] == 1)
    alone &= page.tag[kept] == page.opened[holders]
    broken = [LINE_BREAK in page.texts[block] for block in kept]
    alone[broken] = False
    shaped = _IS_SHAPE[page.kind] & begun & holding
    shaped[holders[alone]] = False
    shapes = shaped.nonzero()[0]
    actions = [
        (tag, _ELEMENT if is_alone else _WRITE, 0, block)
        for tag, block, is_alone in zip(page.tag[kept].tolist(), kept, alone.tolist(), strict=True)
    ]
    actions += [(tag, _OPEN, 0, tag) for tag in page.opened[shapes].tolist()]
    actions += [
        (tag, _CLOSE, -number, kind)
        for tag, number, kind in zip(
            page.closed[shapes].tolist(), shapes.tolist(), page.kind[shapes].tolist(), strict=True
        )
    ]
    if markdown:
        rules = np.flatnonzero(page.tokens.kind == RULE)
        rules = rules[(rules > page.tag[kept[0]]) & (rules < page.tag[kept[-1]]) & page.shown[rules]]
        actions += [(tag, _OPEN, 0, tag) for tag in rules.tolist()]
    actions.sort()
    return actions


def _start_of(page: Outline, tag: int) -> str:
    """The first number of an ordered list."""
    tokens = page.tokens
    match = _START.search(tokens.content, int(tokens.start[tag]), int(tokens.end[tag]))
    return match[1].decode() if match else "1"
