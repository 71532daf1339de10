"""What is measured of every block of pages, in columns: the input of ``tasks.html.block_model``.

P pages with blocks, B blocks, E elements, F features. Counts enter as ``log(1 + count)``. Sums are of whole numbers,
so that they do not depend on what stands before them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tasks.html.blocks import Outline
from tasks.html.hints import HINTS
from tasks.html.tokens import KINDS, NAMES
from tasks.html.wording import wording_of

Floats = NDArray[np.float32]
Integers = NDArray[np.int64]

PARAGRAPH = 60
"""Characters from which a block with few links is taken for running text."""
_MAX_LINKS = 0.4
"""Share of linked characters up to which it is."""
_MAX_SHARE = 0.5
"""An element that holds more of the page's text says little by its name."""
_STEPS_UP = 4
_MOST_STEPS = 30
_PARTS = 64
"""Linked characters enter sums in such parts of one."""
_COUNTS = 14 + 3 * 4
"""Features that enter as ``log(1 + count)``: 14 of the block and its place, three of each element around."""
_WHOLE = np.array((0.01, 0.01, 1), np.float32)[:, None]
"""What shares of commas, ends of sentences and spaces are given in: percent, and 1."""

_GROUPS = (
    "p", "li", "h1", "h2 h3 h4 h5 h6", "td th", "div", "section article main", "blockquote", "pre", "dt dd",
    "figcaption caption", "figure", "ul ol", "header aside", "body",
)  # fmt: skip
_KIND = np.array([[name in group.split() for group in _GROUPS] for name in NAMES], np.float32).T.copy()
"""Groups × kinds, one-hot."""
_HEADING = np.array([name in ("h1", "h2", "h3", "h4", "h5", "h6") for name in NAMES])
_LEADING = np.array([KINDS[name] for name in ("article", "main", "aside", "header")])
_WIDE = [list(HINTS).index(name) for name in ("comments", "article", "body")]
_SIZES = (_COUNTS, 5, 12, 6 * 4, 4 * 4, 2 * len(_GROUPS), 2 * len(HINTS) + len(_WIDE) + len(_LEADING))
_BORDERS = np.cumsum(_SIZES)[:-1]
FEATURES = sum(_SIZES)
_WEIGHTS_UP = np.array((0.2, 1, 0.5, 0.33))[:, None]
"""How much of a block's value its element gets, and the ones around that."""


@dataclass
class Measured:
    """Features of pages' blocks, and what pools them."""

    features: Floats
    """F × B."""
    chars: Floats
    """B: characters."""
    spans: list[tuple[Integers, Integers]]
    """The blocks, first and end, of the element around each block's own, of the two around that, and of the page."""


class Places(NamedTuple):
    """Where pages lie among blocks and elements."""

    of_block: Integers
    """B: number of the page."""
    of_element: Integers
    """E: likewise."""
    begin: Integers
    """P: the page's first block …"""
    end: Integers
    """… and where its blocks end."""
    body: Integers
    """P: its first element."""


def _places(outline: Outline) -> Places:
    counts = np.diff(outline.blocks)
    full = counts.nonzero()[0]
    pages = np.arange(len(full))
    of_block, of_element = np.repeat(pages, counts[full]), np.repeat(pages, np.diff(outline.bodies)[full])
    return Places(of_block, of_element, outline.blocks[full], outline.blocks[full + 1], outline.bodies[full])


def measure(outline: Outline) -> Measured:
    """Measure pages with at least one block."""
    of_text = wording_of(outline)
    chars, _, commas, _, linked, *_ = of_text
    count, places = len(chars), _places(outline)
    kind, parent, depth, first, end = outline.kind, outline.parent, outline.depth, outline.first, outline.end
    page, begin, stop = places.of_block, places.begin[places.of_block], places.end[places.of_block]
    links = linked / chars
    running = (chars >= PARAGRAPH) & (links < _MAX_LINKS)
    sums = np.zeros((4, count + 1))
    whole_linked = np.rint(linked * _PARTS) / _PARTS
    np.cumsum((chars, whole_linked, np.where(running, chars, 0), running), axis=1, out=sums[:, 1:])
    page_text = sums[0, places.end] - sums[0, places.begin]
    page_prose = np.maximum(sums[2, places.end] - sums[2, places.begin], 1)
    up = np.empty((_STEPS_UP, count), np.int64)
    up[0] = outline.element
    for step in range(1, _STEPS_UP):
        up[step] = parent[up[step - 1]]
    own, above = kind[up[0]], kind[up[1]]

    text_in, linked_in, prose_in, running_in = sums[:, end] - sums[:, first]
    links_in = linked_in / text_in
    value = np.where(chars >= 25, (1 + commas + np.minimum(chars / 100, 3)) * (1 - links), 0)
    score = np.bincount(up.ravel(), (value * _WEIGHTS_UP).ravel(), len(kind)) * (1 - links_in)
    top = _best(score, places)
    in_elements = np.array(
        (
            *(text_in, end - first, running_in),
            *(links_in, prose_in / text_in, prose_in / page_prose[places.of_element]),
            score / np.maximum(score[top], 1e-6)[places.of_element],
        ),
        np.float32,
    )[:, up]

    index = np.arange(count)
    titles = (own == KINDS["h1"]).nonzero()[0]
    title = np.append(titles, count)[titles.searchsorted(places.begin)][page]
    untitled = title >= stop
    features = np.empty((FEATURES, count), np.float32)
    logs, features_of_text, shares, around, in_shares, kinds, hints = np.split(features, _BORDERS)
    logs[:5] = of_text[:5]
    logs[5], logs[6] = depth[up[0]], index - begin
    logs[7], logs[8] = stop - index, index - title
    logs[9] = page_text[page]
    logs[10] = index - np.maximum(np.maximum.accumulate(np.where(running, index, -1)), begin - 1)
    logs[11] = np.minimum(np.minimum.accumulate(np.where(running, index, count)[::-1])[::-1], stop) - index
    logs[12], logs[13] = first[top][page] - index, index - end[top][page] + 1
    np.maximum(logs[:14], 0, out=logs[:14])
    logs[14:] = in_elements[:3].reshape(-1, count)
    np.log1p(logs, out=logs)
    features_of_text[:] = of_text[5:]
    shares[0], shares[1] = links, running
    np.divide(of_text[[2, 3, 1]], chars * _WHOLE, out=shares[2:5])
    shares[5] = (sums[2, :-1] - sums[2, begin]) / page_prose[page]
    shares[6] = (sums[0, :-1] - sums[0, begin]) / page_text[page]
    shares[7], shares[8] = index < title, (page_prose / page_text)[page]
    shares[9] = _steps_to(top, parent, first, end, places)
    shares[10], shares[11] = (depth[up[0]] - depth[top][page]) / 5, (prose_in[top] / page_prose)[page]
    logs[8, untitled] = shares[7, untitled] = -1
    _fill_around(around, (links, logs[0], running, _HEADING[own], of_text[5], of_text[9]), places)
    in_shares[:] = in_elements[3:].reshape(-1, count)
    kinds[: len(_GROUPS)], kinds[len(_GROUPS) :] = _KIND[:, own], _KIND[:, above]
    _fill_hints(hints, outline, text_in > _MAX_SHARE * page_text[places.of_element], up)
    return Measured(features, chars, [*((first[element], end[element]) for element in up[1:]), (begin, stop)])


def _best(score: NDArray[np.float64], places: Places) -> Integers:
    """P: the page's first element with its highest score."""
    highest = np.maximum.reduceat(score, places.body)
    found = (score == highest[places.of_element]).nonzero()[0]
    best: Integers = found[found.searchsorted(places.body)]
    return best


def _fill_around(out: Floats, rows: Sequence[Floats | NDArray[np.bool_]], places: Places) -> None:
    """For each row, those of the two blocks before and after as four rows; -1 beyond the ends of the page."""
    out[:] = -1
    for number, row in enumerate(rows):
        before_last, last, following, second = out[4 * number : 4 * number + 4]
        before_last[2:], last[1:] = row[:-2], row[:-1]
        following[:-1], second[:-2] = row[1:], row[2:]
    # What belongs to the page before, or to the next one; of pages with one block both borders are the same.
    begin, last_block = places.begin, places.end - 1
    out[0::4, begin] = out[1::4, begin] = out[2::4, last_block] = out[3::4, last_block] = -1
    out[0::4, np.minimum(begin + 1, out.shape[1] - 1)] = out[3::4, np.maximum(last_block - 1, 0)] = -1


def _steps_to(top: Integers, parent: Integers, first: Integers, end: Integers, places: Places) -> Floats:
    """Steps up from the page's best element to the one that holds the block too, ÷ 5; 0 within it."""
    chain = [top]
    while len(chain) < _MOST_STEPS and len(below := chain[-1][parent[chain[-1]] != chain[-1]]):
        chain.append(parent[below])
    elements = np.concatenate(chain)
    size = len(places.of_block) + 1
    holding = np.cumsum(np.bincount(first[elements], minlength=size) - np.bincount(end[elements], minlength=size))
    steps = np.bincount(places.of_element[elements])[places.of_block] - holding[:-1]
    return (steps / 5).astype(np.float32)


def _fill_hints(out: Floats, page: Outline, large: NDArray[np.bool_], up: Integers) -> None:
    """Hints in the names around, but for large elements; in the names of a block's own element and the next; some in
    those of large elements around; whether some leading elements are around."""
    count, many = len(page.element), len(HINTS)
    bits = _bits_of(page.hints)
    element = up[0]
    out[many : 2 * many] = (bits[element] | bits[up[1]]).T
    marks = np.empty((len(bits), many + len(_WIDE) + len(_LEADING)), np.bool_)
    np.logical_and(bits, ~large[:, None], out=marks[:, :many])
    np.logical_and(bits[:, _WIDE], large[:, None], out=marks[:, many : many + len(_WIDE)])
    np.equal(page.kind[:, None], _LEADING, out=marks[:, many + len(_WIDE) :])
    columns = marks.shape[1]
    marked, column = marks.nonzero()
    size = (count + 1) * columns
    begins = np.bincount(column * (count + 1) + page.first[marked], minlength=size)
    ends = np.bincount(column * (count + 1) + page.end[marked], minlength=size)
    # Each row sums up to zero, so that the rows can be summed up one behind the other.
    around = (np.cumsum(begins - ends) > 0).reshape(columns, count + 1)[:, :count]
    out[:many], out[2 * many :] = around[:many], around[many:]


def _bits_of(hints: Integers) -> NDArray[np.bool_]:
    """E × 16: the bits of each number."""
    return np.unpackbits(hints.astype("<u2").view(np.uint8).reshape(-1, 2), axis=1, bitorder="little").view(np.bool_)
