"""Which parts of a page no reader sees, and which are navigation, footers or readers' comments: spans of its tags."""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

from tasks.html.hints import COMMENTS
from tasks.html.names import names
from tasks.html.tokens import FIRST_INLINE, FIRST_RAW, KINDS, Integers, Tokens
from tasks.html.tree import Elements

MAX_HIDDEN_SHARE = 0.5
"""What holds more of the page's text is shown by some script, or begun by a tag out of place: it is kept."""
MIN_ARTICLE = 1000
"""Characters but white space that must be left for comments to be left out."""
_MOST_INLINE = 300
"""Inline tags of one name that are looked at for the end of a hidden one."""

_UNSEEN = np.zeros(128, np.bool_)
_UNSEEN[[KINDS[name] for name in names("template svg object canvas video audio select button rt rp")]] = True
_SHOWN_BY_SCRIPTS = np.zeros(128, np.bool_)
_SHOWN_BY_SCRIPTS[[KINDS[name] for name in names("noscript dialog")]] = True
_AROUND = np.zeros(128, np.bool_)
_AROUND[[KINDS[name] for name in names("nav footer")]] = True
"""What is never main text."""
_NO_DISPLAY = re.compile(rb"[^>]{0,300}?display\s?:\s?none", re.IGNORECASE)
_ROLES = tuple(quote + role for role in (b"navigation", b"contentinfo", b"search") for quote in (b'"', b"'", b""))
_TRUE = (b'"true"', b"'true'", b"true")
_COMMENTS = re.compile(
    rb"\sid\s*=\s*[\"']?(?:comments|disqus_thread|respond|reactions|kommentare)[\"'\s>]"
    rb"|\sclass\s*=\s*[\"']?(?:[\w-]+\s+){0,20}(?:comments-area|comment-list|commentlist|comments)[\"'\s>]",
    re.IGNORECASE,
)
"""What readers wrote below an article."""
_LOWER = np.uint64(0x2020202020202020)


def _ending(name: str) -> tuple[np.uint64, np.uint64]:
    """How far to shift the eight bytes before an equals sign to find this name at their end, and what is found."""
    return np.uint64(8 * (8 - len(name))), np.uint64(int.from_bytes(name.encode(), "little"))


_STYLE, _ROLE, _HIDDEN, _ARIA_HIDDEN = (_ending(name) for name in ("style", "role", "hidden", "a-hidden"))


def left_out(tokens: Tokens, elements: Elements, length: Integers, whole: bool) -> NDArray[np.bool_]:
    """T: whether the text behind a tag is in a part of the page that is left out.

    ``length`` is that of the text behind each tag. Unless ``whole``, navigation and footers are left out.
    """
    count = len(tokens.start)
    kinds, opened, closed = elements.kind, elements.opened, elements.closed
    unseen = _UNSEEN[kinds].nonzero()[0]
    covered = _covered(count, opened[unseen], closed[unseen])
    sums = np.zeros(count + 1, np.int64)
    np.cumsum(np.where(covered, 0, length), out=sums[1:])
    wanted = _SHOWN_BY_SCRIPTS if whole else _SHOWN_BY_SCRIPTS | _AROUND
    doubtful = wanted[kinds].nonzero()[0]
    begin, end = opened[doubtful], closed[doubtful]
    tags = _tags_around(tokens, _hiding(tokens, whole))
    if len(tags):
        number = np.minimum(opened.searchsorted(tags), len(opened) - 1)
        is_element = opened[number] == tags
        inline = tags[~is_element]
        ends = np.array([_inline_end(tokens, tag) for tag in inline.tolist()], np.int64)
        begin = np.concatenate((begin, tags[is_element], inline[ends > 0]))
        end = np.concatenate((end, closed[number[is_element]], ends[ends > 0]))
    total = np.diff(sums[tokens.first])
    page = tokens.first.searchsorted(begin, "right") - 1
    hidden = sums[end] - sums[begin] <= MAX_HIDDEN_SHARE * total[page]
    covered |= _covered(count, begin[hidden], end[hidden])
    return covered


def _covered(count: int, begin: Integers, end: Integers) -> NDArray[np.bool_]:
    """Which of so many tags lie in one of these spans."""
    change = np.bincount(begin, minlength=count + 1) - np.bincount(end, minlength=count + 1)
    covered: NDArray[np.bool_] = np.cumsum(change)[:-1] > 0
    return covered


def _hiding(tokens: Tokens, whole: bool) -> list[int]:
    """Places within tags that say that they are not shown or, unless ``whole``, that they are navigation."""
    page, content = tokens.page, tokens.content
    equals = (page == ord("=")).nonzero()[0]
    equals = equals[equals.searchsorted(8) :]
    before = np.ndarray((len(page) - 7,), "<u8", content, 0, (1,))[equals - 8] | _LOWER
    styled, hidden, aria, roles = (
        equals[(before >> shift) == name].tolist() for shift, name in (_STYLE, _HIDDEN, _ARIA_HIDDEN, _ROLE)
    )
    found = [at for at in styled if _NO_DISPLAY.match(content, at)]
    found += [at for at in hidden if content[at - 7 : at - 6].isspace()]
    found += [at for at in aria if content.startswith(_TRUE, at + 1)]
    if not whole:
        found += [at for at in roles if content.startswith(_ROLES, at + 1)]
    at = content.find(b" hidden")
    while at >= 0:
        if content[at + 7 : at + 8] in (b">", b" ", b"/", b"\n"):
            found.append(at)
        at = content.find(b" hidden", at + 7)
    return found


def _tags_around(tokens: Tokens, places: list[int]) -> Integers:
    """The start tags in which these places lie, in their order."""
    if not places:
        return np.zeros(0, np.int64)
    at = np.array(places)
    tags = tokens.start.searchsorted(at) - 1
    kinds = tokens.kind[tags]
    within = (at < tokens.end[tags]) & ~tokens.closing[tags] & ((kinds < FIRST_RAW) | (kinds >= FIRST_INLINE))
    return np.unique(tags[within & (kinds != KINDS["!--"])])


def _inline_end(tokens: Tokens, tag: int) -> int:
    """The end tag of the inline element that begins with a tag; 0 if there is none near."""
    key, page_end = tokens.key[tag], int(tokens.first[tokens.first.searchsorted(tag, "right")])
    if tag + 1 < page_end and key == tokens.key[tag + 1] and tokens.closing[tag + 1]:
        return tag + 1
    behind = slice(tag + 1, min(tag + 1 + _MOST_INLINE, page_end))
    same = (tokens.key[behind] == key).nonzero()[0]
    level = np.cumsum(np.where(tokens.closing[behind][same], -1, 1))
    ends = (level < 0).nonzero()[0]
    return tag + 1 + int(same[ends[0]]) if len(ends) else 0


def without_comments(
    tokens: Tokens, opened: Integers, first: Integers, end: Integers, hints: Integers, tag: Integers, ink: Integers
) -> NDArray[np.bool_] | None:
    """B: the blocks that are not in readers' comments; None if there are no such comments.

    Comments go if what is left of a page is an article by its length: on a forum's page they are the text. Of each
    element that holds text: the tag that opens it, blocks before it and before its end, its hints. Of each block: the
    tag that begins it, and its characters.
    """
    article: NDArray[np.bool_] | None = None
    left: dict[int, int] = {}
    for number in (hints & COMMENTS).nonzero()[0].tolist():
        opening = int(opened[number])
        if not _COMMENTS.search(tokens.content, int(tokens.start[opening]), int(tokens.end[opening]) + 1):
            continue
        if article is None:
            article = np.ones(len(ink), np.bool_)
        page = int(tokens.first.searchsorted(opening, "right"))
        if page not in left:
            begun, stop = tag.searchsorted(tokens.first[page - 1 : page + 1]).tolist()
            left[page] = int(ink[begun:stop].sum())
        within = slice(int(first[number]), int(end[number]))
        size = int(ink[within][article[within]].sum())
        if left[page] - size >= max(MIN_ARTICLE, 0.08 * size):
            article[within] = False
            left[page] -= size
    return article
