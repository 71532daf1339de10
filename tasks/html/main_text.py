"""The ``athanor`` extractor: the main text of a page, by the blocks that a small network takes for it.

The page is parsed in C, measured in columns, and only what is kept is laid out. Where nothing is
taken for main text (a list of links, a search page) all visible text is kept but navigation.
"""

from __future__ import annotations

import re
from html import unescape
from itertools import pairwise

from tasks.html.blocks import KINDS, Outline, outline_of
from tasks.html.features import measure
from tasks.html.layout import Layout
from tasks.html.markup import LINK, LINK_END, Tags, tags_of
from tasks.html.names import names
from tasks.html.scoring import Parameters, scores_of

THRESHOLD = 0.0
"""Log-odds from which a block is kept."""
MIN_CHARACTERS = 200
"""With less main text than this, or …"""
MIN_SHARE = 0.02
"""… less of the page's text, the page is taken for one without an article."""
MAX_HEADING = 120
"""Characters up to which a heading between blocks kept is kept too."""
_HEADINGS = frozenset(KINDS[name] for name in names("h2 h3 h4 h5 h6"))
_START = re.compile(r' start="(\d{1,8})"')
_STRUCTURE = frozenset((*KINDS, "br", "b", "i", "em", "strong", "code", "kbd", "samp", "tt"))
_PLAIN = frozenset(names("div section article main header hgroup center details summary address body"))
"""Elements that end a line and do no more."""


def main_text(html: str, markdown: bool = False, fitted: Parameters | None = None) -> str:
    """The main text of a page, by the network that ships or another one; empty only where nothing is visible.

    Linear time.
    """
    tags = tags_of(html, emphasis=markdown)
    page = outline_of(tags)
    if not page.texts:
        tags = tags_of(html, emphasis=markdown, whole=True)
        page = outline_of(tags)
        return lay_out(tags, page, list(range(len(page.texts))), markdown)
    scores = scores_of(measure(page), fitted)
    kept = [number for number, score in enumerate(scores.tolist()) if score > THRESHOLD]
    found = sum(len(page.texts[number]) for number in kept)
    total = sum(map(len, page.texts))
    if found < min(MIN_CHARACTERS, 0.5 * total) or found < MIN_SHARE * total:
        kept = _without_navigation(page)
    return lay_out(tags, page, _with_headings(page, kept), markdown)


def _with_headings(page: Outline, kept: list[int]) -> list[int]:
    """The blocks, and every heading without links that stands alone between two of them."""
    found = kept[:1]
    for before, number in pairwise(kept):
        if number == before + 2 and _is_heading(page, before + 1):
            found.append(before + 1)
        found.append(number)
    return found


def _is_heading(page: Outline, number: int) -> bool:
    kind = page.kind[page.element[number]]
    return kind in _HEADINGS and not page.linked[number] and len(page.texts[number]) <= MAX_HEADING


def _without_navigation(page: Outline) -> list[int]:
    """The blocks that are not mostly links and in no navigation or footer, or else all."""
    around = (1 << KINDS["nav"]) | (1 << KINDS["footer"])
    kept = [
        number
        for number, (text, linked, element) in enumerate(zip(page.texts, page.linked, page.element, strict=True))
        if linked < 0.6 * len(text) and not page.within[element] & around
    ]
    if sum(len(page.texts[number]) for number in kept) < 0.1 * sum(map(len, page.texts)):
        return list(range(len(page.texts)))
    return kept


def lay_out(tags: Tags, page: Outline, kept: list[int], markdown: bool) -> str:
    """The text of the blocks kept, as lines."""
    if not kept:
        return ""
    shown = bytearray(len(tags))
    for number in kept:
        start, stop = page.start[number], page.stop[number]
        shown[start:stop] = b"\1" * (stop - start)
    first = page.start[kept[0]]
    while first and not tags[first][0] and (not tags[first - 1][3] or tags[first - 1][3].isspace()):
        first -= 1  # the list or table that begins before its first kept text
    out = Layout(markdown)
    write = out.write
    for number in range(first, page.stop[kept[-1]]):
        slash, name, attributes, text = tags[number]
        if name in _STRUCTURE and (name not in _PLAIN or out.begun()):
            if slash:
                out.close(name)
            else:
                out.open(name, _start_of(attributes) if name == "ol" else "")
        if shown[number] and text:
            write(text)
    found = out.text().replace(LINK, "").replace(LINK_END, "")
    return unescape(found) if "&" in found else found


def _start_of(attributes: str) -> str:
    match = _START.search(attributes)
    return match[1] if match else "1"
