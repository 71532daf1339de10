"""What is measured of every block of a page, in columns: the input of ``tasks.html.block_model``.

B blocks, E elements, F features. Counts enter as ``log(1 + count)``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tasks.html.blocks import HINTS, KINDS, Outline
from tasks.html.names import names

Floats = NDArray[np.float32]
Integers = NDArray[np.int64]

PARAGRAPH = 60
"""Characters from which a block with few links is taken for running text."""
_MAX_LINKS = 0.4
"""Share of linked characters up to which it is."""
_MAX_SHARE = 0.5
"""An element that holds more of the page's text says little by its name."""
_STEPS_UP = 4
_ENDINGS = tuple('.!?…。！？»”"’)）;；:：」』')
_STOCK = frozenset(
    names(
        "© copyright rights cookie cookies newsletter subscribe subscribed login log sign share follow read more "
        "continue related advertisement advert comment comments posted published publish updated by photo image credit "
        "source: getty reuters tags tag: tags: tagged category categories privacy terms email e-mail "
        "click print facebook twitter download save kommentar kommentare artikel teilen weiterlesen mehr quelle: foto "
        "foto: bild: von uhr drucken lire partager auteur publié abonnez leer compartir autor publicado fuente "
        "condividi leggi pubblicato przeczytaj"
    )
)
"""Words of stock phrases around articles; looked for in short blocks only."""
_WIDE_STOCK = ("责任编辑", "编辑", "来源", "相关", "版权", "分享", "评论", "记者", "作者", "関連", "記事")
_SHORT = 120
_LONG = 40
"""Characters beyond which commas and ends of sentences are counted."""
_COUNTS = 14 + 3 * 4
"""Features that enter as ``log(1 + count)``: 14 of the block and its place, three of each element around."""
_PERCENT = np.array((100, 100, 1), np.float32)[:, None]

_GROUPS = (
    "p", "li", "h1", "h2 h3 h4 h5 h6", "td th", "div", "section article main", "blockquote", "pre", "dt dd",
    "figcaption caption", "figure", "ul ol", "header aside", "body",
)  # fmt: skip
_KIND = np.array([[name in group.split() for group in _GROUPS] for name in KINDS], np.float32)
"""Kinds × groups, one-hot."""
_HEADING = np.array([name in ("h1", "h2", "h3", "h4", "h5", "h6") for name in KINDS])
_LEADING = [KINDS[name] for name in ("article", "main", "aside", "header")]
_WIDE = [list(HINTS).index(name) for name in ("comments", "article", "body")]
_BITS = [*range(len(HINTS)), *range(len(HINTS)), *_WIDE, *_LEADING]
_BIT = np.array(_BITS)[:, None]
_BITS_OF = np.repeat(range(4), (len(HINTS), len(HINTS), len(_WIDE), len(_LEADING)))
"""Which bit of which of four numbers of an element is a feature: of the names around, its own and the next, those of
large elements around, the leading elements."""
_WEIGHTS_UP = np.array((0.2, 1, 0.5, 0.33))[:, None]
"""How much of a block's value its element gets, and the ones around that."""


@dataclass
class Measured:
    """Features of a page's blocks, and what pools them."""

    features: Floats
    """B × F."""
    chars: Floats
    """B: characters."""
    spans: list[tuple[Integers, Integers]]
    """The blocks, first and end, of the element around each block's own, and of the two around that."""


def _around(values: Floats) -> Floats:
    """R × B values as 4 R × B: for each row, those of the two blocks before and after; -1 beyond the ends."""
    rows, count = values.shape
    padded = np.full((rows, count + 4), -1, np.float32)
    padded[:, 2:-2] = values
    return np.stack([padded[:, shift : shift + count] for shift in (0, 1, 3, 4)], axis=1).reshape(-1, count)


def _has_stock_words(text: str) -> bool:
    if not _STOCK.isdisjoint(text.lower().split()):
        return True
    return not text.isascii() and any(word in text for word in _WIDE_STOCK)


def _of_text(page: Outline) -> Floats:
    """10 × B: characters, spaces, commas, ends of sentences, linked characters; whether the text ends as a sentence
    does, begins in upper case, in lower case, is a stock phrase, was there before."""
    seen: dict[str, int] = {}
    rows = []
    for number, (text, linked) in enumerate(zip(page.texts, page.linked, strict=True)):
        chars = len(text)
        long = chars > _LONG
        rows.append(
            (
                chars,
                text.count(" "),
                text.count(",") + text.count("，") + text.count("、") if long else 0,
                text.count(". ") + text.count("。") if long else 0,
                linked,
                text.endswith(_ENDINGS),
                text[0].isupper(),
                text[0].islower(),
                chars < _SHORT and _has_stock_words(text),
                seen.setdefault(text, number) != number,
            )
        )
    return np.ascontiguousarray(np.array(rows, np.float32).T)


def measure(page: Outline) -> Measured:
    """Measure a page with at least one block."""
    of_text = _of_text(page)
    chars, _, commas, _, linked, *_ = of_text
    count = len(chars)
    kind, parent, depth, first, end, hints, within = np.array(
        (page.kind, page.parent, page.depth, page.first, page.end, page.hints, page.within)
    )
    links = linked / chars
    running = (chars >= PARAGRAPH) & (links < _MAX_LINKS)
    sums = np.zeros((4, count + 1))
    np.cumsum((chars, linked, np.where(running, chars, 0), running), axis=1, out=sums[:, 1:])
    page_text, page_prose = float(sums[0, -1]), max(float(sums[2, -1]), 1.0)
    up = np.empty((_STEPS_UP, count), np.int64)
    up[0] = page.element
    for step in range(1, _STEPS_UP):
        up[step] = parent[up[step - 1]]

    text_in, linked_in, prose_in, running_in = sums[:, end] - sums[:, first]
    some_text = np.maximum(text_in, 1)
    links_in = linked_in / some_text
    value = np.where(chars >= 25, (1 + commas + np.minimum(chars / 100, 3)) * (1 - links), 0)
    score = np.bincount(up.ravel(), (value * _WEIGHTS_UP).ravel(), len(kind)) * (1 - links_in)
    top = int(np.argmax(score))
    counts_in = np.array((text_in, end - first, running_in), np.float32)
    shares_in = np.array(
        (links_in, prose_in / some_text, prose_in / page_prose, score / max(float(score[top]), 1e-6)), np.float32
    )

    index = np.arange(count, dtype=np.float32)
    own = kind[up[0]]
    titles = np.flatnonzero(own == KINDS["h1"])
    title = titles[0] if len(titles) else 0
    before = np.maximum.accumulate(np.where(running, index, -1))
    after = np.minimum.accumulate(np.where(running, index, count)[::-1])[::-1]
    logs = np.empty((_COUNTS, count), np.float32)
    logs[:5] = of_text[:5]
    logs[5], logs[6], logs[7], logs[8] = depth[up[0]], index, count - index, index - title
    logs[9], logs[10], logs[11] = page_text, index - before, after - index
    logs[12], logs[13] = first[top] - index, index - end[top] + 1
    np.maximum(logs[:14], 0, out=logs[:14])
    logs[14:] = counts_in[:, up].reshape(-1, count)
    np.log1p(logs, out=logs)

    shares = np.empty((12, count), np.float32)
    shares[0], shares[1] = links, running
    shares[2:5] = of_text[[2, 3, 1]] / chars * _PERCENT
    shares[5], shares[6] = sums[2, :-1] / page_prose, sums[0, :-1] / page_text
    shares[7], shares[8] = index < title, page_prose / page_text
    shares[9] = _steps_to(top, parent, first, end, count)
    shares[10], shares[11] = (depth[up[0]] - depth[top]) / 5, prose_in[top] / page_prose
    if not len(titles):
        logs[8] = shares[7] = -1
    features = np.concatenate(
        (
            logs,
            of_text[5:],
            shares,
            _around(np.stack((links, logs[0], running, _HEADING[own], of_text[5], of_text[9])).astype(np.float32)),
            shares_in[:, up].reshape(-1, count),
            _KIND[own].T,
            _KIND[kind[up[1]]].T,
            _hint_rows(page, text_in > _MAX_SHARE * page_text, hints, within, up),
        )
    )
    return Measured(features.T, chars, [(first[element], end[element]) for element in up[1:]])


def _steps_to(top: int, parent: Integers, first: Integers, end: Integers, count: int) -> Floats:
    """Steps up from the best element to the one that holds the block too, ÷ 5; 0 within it."""
    steps = np.full(count, 30, np.float32)
    chain = [top]
    while parent[chain[-1]] != chain[-1] and len(chain) < 30:
        chain.append(int(parent[chain[-1]]))
    for step in range(len(chain) - 1, -1, -1):
        steps[first[chain[step]] : end[chain[step]]] = step
    steps /= 5
    return steps


def _hint_rows(page: Outline, large: NDArray[np.bool_], hints: Integers, within: Integers, up: Integers) -> Floats:
    """Hints as rows of 0 and 1: see :data:`_BITS`."""
    narrow, wide = [0] * len(large), [0] * len(large)
    for number, (above, bits, is_large) in enumerate(zip(page.parent, page.hints, large.tolist(), strict=True)):
        narrow[number] = narrow[above] if is_large else narrow[above] | bits
        wide[number] = wide[above] | bits if is_large else wide[above]
    element = up[0]
    numbers = np.stack(
        (np.array(narrow)[element], hints[element] | hints[up[1]], np.array(wide)[element], within[element])
    )
    rows: Floats = ((numbers[_BITS_OF] >> _BIT) & 1).astype(np.float32)
    return rows
