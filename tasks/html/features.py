"""What is measured of every block of a page, in columns: the input of ``tasks.html.block_model``.

B blocks, E elements, F features. Counts enter as ``log(1 + count)``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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
    """Features of a page's blocks, and what pools them."""

    features: Floats
    """F × B."""
    chars: Floats
    """B: characters."""
    spans: list[tuple[Integers, Integers]]
    """The blocks, first and end, of the element around each block's own, and of the two around that."""


def measure(page: Outline) -> Measured:
    """Measure a page with at least one block."""
    of_text = wording_of(page)
    chars, _, commas, _, linked, *_ = of_text
    count = len(chars)
    kind, parent, depth, first, end = page.kind, page.parent, page.depth, page.first, page.end
    links = linked / chars
    running = (chars >= PARAGRAPH) & (links < _MAX_LINKS)
    sums = np.zeros((4, count + 1))
    np.cumsum((chars, linked, np.where(running, chars, 0), running), axis=1, out=sums[:, 1:])
    page_text, page_prose = float(sums[0, -1]), max(float(sums[2, -1]), 1.0)
    up = np.empty((_STEPS_UP, count), np.int64)
    up[0] = page.element
    for step in range(1, _STEPS_UP):
        up[step] = parent[up[step - 1]]
    own, above = kind[up[0]], kind[up[1]]

    text_in, linked_in, prose_in, running_in = sums[:, end] - sums[:, first]
    links_in = linked_in / text_in
    value = np.where(chars >= 25, (1 + commas + np.minimum(chars / 100, 3)) * (1 - links), 0)
    score = np.bincount(up.ravel(), (value * _WEIGHTS_UP).ravel(), len(kind)) * (1 - links_in)
    top = int(score.argmax())
    first_of_top, end_of_top, depth_of_top = int(first[top]), int(end[top]), int(depth[top])
    in_elements = np.array(
        (
            *(text_in, end - first, running_in),
            *(links_in, prose_in / text_in, prose_in / page_prose, score / max(float(score[top]), 1e-6)),
        ),
        np.float32,
    )[:, up]

    index = np.arange(count, dtype=np.float32)
    titles = (own == KINDS["h1"]).nonzero()[0]
    title = int(titles[0]) if len(titles) else 0
    features = np.empty((FEATURES, count), np.float32)
    logs, features_of_text, shares, around, in_shares, kinds, hints = np.split(features, _BORDERS)
    logs[:5] = of_text[:5]
    logs[5], logs[6] = depth[up[0]], index
    np.subtract(count, index, out=logs[7])
    np.subtract(index, title, out=logs[8])
    logs[9] = page_text
    np.subtract(index, np.maximum.accumulate(np.where(running, index, -1)), out=logs[10])
    np.subtract(np.minimum.accumulate(np.where(running, index, count)[::-1])[::-1], index, out=logs[11])
    np.subtract(first_of_top, index, out=logs[12])
    np.subtract(index, end_of_top - 1, out=logs[13])
    np.maximum(logs[:14], 0, out=logs[:14])
    logs[14:] = in_elements[:3].reshape(-1, count)
    np.log1p(logs, out=logs)
    features_of_text[:] = of_text[5:]
    shares[0], shares[1] = links, running
    np.divide(of_text[[2, 3, 1]], chars * _WHOLE, out=shares[2:5])
    shares[5], shares[6] = sums[2, :-1] / page_prose, sums[0, :-1] / page_text
    shares[7], shares[8] = index < title, page_prose / page_text
    shares[9] = _steps_to(top, parent, first, end, count)
    shares[10], shares[11] = (depth[up[0]] - depth_of_top) / 5, prose_in[top] / page_prose
    if not len(titles):
        logs[8] = shares[7] = -1
    _fill_around(around, (links, logs[0], running, _HEADING[own], of_text[5], of_text[9]))
    in_shares[:] = in_elements[3:].reshape(-1, count)
    kinds[: len(_GROUPS)], kinds[len(_GROUPS) :] = _KIND[:, own], _KIND[:, above]
    _fill_hints(hints, page, text_in > _MAX_SHARE * page_text, up)
    return Measured(features, chars, [(first[element], end[element]) for element in up[1:]])


def _fill_around(out: Floats, rows: Sequence[Floats | NDArray[np.bool_]]) -> None:
    """For each row, those of the two blocks before and after as four rows; -1 beyond the ends."""
    out[:] = -1
    for number, row in enumerate(rows):
        before_last, last, following, second = out[4 * number : 4 * number + 4]
        before_last[2:], last[1:] = row[:-2], row[:-1]
        following[:-1], second[:-2] = row[1:], row[2:]


def _steps_to(top: int, parent: Integers, first: Integers, end: Integers, count: int) -> Floats:
    """Steps up from the best element to the one that holds the block too, ÷ 5; 0 within it."""
    steps = np.full(count, 6, np.float32)
    chain = [top]
    while len(chain) < 30 and (above := int(parent[chain[-1]])) != chain[-1]:
        chain.append(above)
    borders = zip(first[chain].tolist(), end[chain].tolist(), strict=True)
    for step, (begin, stop) in reversed(list(enumerate(borders))):
        steps[begin:stop] = step / 5
    return steps


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
