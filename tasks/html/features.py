"""What is measured of every block of a page, in columns: the input of ``tasks.html.block_model``.

B blocks, E elements, F features. Counts enter as ``log(1 + count)``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

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

_GROUPS = (
    "p", "li", "h1", "h2 h3 h4 h5 h6", "td th", "div", "section article main", "blockquote", "pre", "dt dd",
    "figcaption caption", "figure", "ul ol", "header aside", "body",
)  # fmt: skip
_KIND = np.array([[name in group.split() for group in _GROUPS] for name in KINDS], np.float32)
"""Kinds × groups, one-hot."""
_HEADING = np.array([name in ("h1", "h2", "h3", "h4", "h5", "h6") for name in KINDS])
_LEADING = [KINDS[name] for name in ("article", "main", "aside", "header")]
_WIDE = [list(HINTS).index(name) for name in ("comments", "article", "body")]


@dataclass
class Measured:
    """Features of a page's blocks, and what pools them."""

    features: Floats
    """B × F."""
    chars: Floats
    """B: characters."""
    spans: list[tuple[Integers, Integers]]
    """The blocks, first and end, of the element around each block's own, and of the two around that."""


def _log(values: NDArray[np.float64] | NDArray[np.float32] | Integers) -> Floats:
    return np.log1p(values).astype(np.float32)


def _around(values: Floats) -> list[Floats]:
    """The values of the two blocks before and after; -1 beyond the ends."""
    padded = np.full(len(values) + 4, -1, np.float32)
    padded[2:-2] = values
    return [padded[shift : shift + len(values)] for shift in (0, 1, 3, 4)]


def _sums(values: NDArray[Any]) -> NDArray[np.float64]:
    """Sums of all values before each place, so that a range's sum is a difference."""
    sums = np.zeros(len(values) + 1)
    np.cumsum(values, out=sums[1:])
    return sums


def _has_stock_words(text: str) -> bool:
    if not _STOCK.isdisjoint(text.lower().split()):
        return True
    return not text.isascii() and any(word in text for word in _WIDE_STOCK)


def _of_text(page: Outline) -> dict[str, Floats]:
    texts = page.texts
    seen: dict[str, int] = {}
    rows = [
        (
            len(text),
            text.count(" "),
            text.count(",") + text.count("，") + text.count("、") if len(text) > 40 else 0,
            text.count(". ") + text.count("。") if len(text) > 40 else 0,
            text.endswith(_ENDINGS),
            text[0].isupper(),
            text[0].islower(),
            len(text) < _SHORT and _has_stock_words(text),
            seen.setdefault(text, number) != number,
        )
        for number, text in enumerate(texts)
    ]
    measured = ("chars", "spaces", "commas", "stops", "ended", "upper", "lower", "stock", "repeated")
    return dict(zip(measured, np.array(rows, np.float32).T, strict=True))


def measure(page: Outline) -> Measured:
    """Measure a page with at least one block."""
    of_text = _of_text(page)
    chars, commas = of_text["chars"], of_text["commas"]
    count = len(chars)
    linked = np.array(page.linked, np.float32)
    links = linked / chars
    running = (chars >= PARAGRAPH) & (links < _MAX_LINKS)
    kind, parent, depth = np.array(page.kind), np.array(page.parent), np.array(page.depth)
    first, end, hints = np.array(page.first), np.array(page.end), np.array(page.hints)

    all_text, all_linked, all_prose, all_running = (
        _sums(column) for column in (chars, linked, np.where(running, chars, 0), running)
    )
    text_in = all_text[end] - all_text[first]
    links_in = (all_linked[end] - all_linked[first]) / np.maximum(text_in, 1)
    prose_in = all_prose[end] - all_prose[first]
    running_in = all_running[end] - all_running[first]
    page_text, page_prose = float(all_text[-1]), max(float(all_prose[-1]), 1.0)
    up = [np.array(page.element)]
    for _ in range(_STEPS_UP - 1):
        up.append(parent[up[-1]])

    value = np.where(chars >= 25, (1 + commas + np.minimum(chars / 100, 3)) * (1 - links), 0)
    score = sum(
        np.bincount(element, value * weight, len(kind)) for element, weight in zip(up, (0.2, 1, 0.5, 0.33), strict=True)
    )
    score = score * (1 - links_in)
    top = int(np.argmax(score))
    index = np.arange(count, dtype=np.float32)
    titles = np.flatnonzero(kind[up[0]] == KINDS["h1"])
    heading = _HEADING[kind[up[0]]].astype(np.float32)
    before = np.maximum.accumulate(np.where(running, index, -1))
    after = np.minimum.accumulate(np.where(running, index, count)[::-1])[::-1]

    columns: list[Floats] = [_log(of_text[name]) for name in ("chars", "spaces", "commas", "stops")]
    columns += [of_text[name] for name in ("ended", "upper", "lower", "stock", "repeated")]
    columns += [links, _log(linked), running.astype(np.float32), _log(depth[up[0]])]
    columns += [commas / chars * 100, of_text["stops"] / chars * 100, of_text["spaces"] / chars]
    for column in (links, _log(chars), running.astype(np.float32), heading, of_text["ended"], of_text["repeated"]):
        columns += _around(column)
    columns += [
        (all_prose[:-1] / page_prose).astype(np.float32),
        (all_text[:-1] / page_text).astype(np.float32),
        _log(index),
        _log(count - index),
        _log(np.maximum(index - titles[0], 0)) if len(titles) else np.full(count, -1, np.float32),
        (index < titles[0]).astype(np.float32) if len(titles) else np.full(count, -1, np.float32),
        np.full(count, np.log1p(page_text), np.float32),
        np.full(count, page_prose / page_text, np.float32),
        _log(index - before),
        _log(after - index),
    ]
    best = max(float(score[top]), 1e-6)
    for element in up:
        columns += [
            _log(text_in[element]),
            links_in[element].astype(np.float32),
            (prose_in[element] / np.maximum(text_in[element], 1)).astype(np.float32),
            (prose_in[element] / page_prose).astype(np.float32),
            (score[element] / best).astype(np.float32),
            _log(end[element] - first[element]),
            _log(running_in[element]),
        ]
    columns += [
        _steps_to(top, parent, first, end, count),
        (depth[up[0]] - depth[top]).astype(np.float32) / 5,
        np.full(count, prose_in[top] / page_prose, np.float32),
        _log(np.maximum(first[top] - index, 0)),
        _log(np.maximum(index - end[top] + 1, 0)),
    ]
    bits = _hint_columns(page, text_in > _MAX_SHARE * page_text, hints, up)
    features = np.vstack((*columns, _KIND[kind[up[0]]].T, _KIND[kind[up[1]]].T, bits.T)).T
    return Measured(features, chars, [(first[element], end[element]) for element in up[1:]])


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


def _hint_columns(page: Outline, large: NDArray[np.bool_], hints: Integers, up: list[Integers]) -> Floats:
    """Hints as columns of 0 and 1: of the elements around a block, of its own and the next, and of the large ones."""
    narrow, wide = [0] * len(large), [0] * len(large)
    for number, (above, bits, is_large) in enumerate(zip(page.parent, page.hints, large.tolist(), strict=True)):
        narrow[number] = narrow[above] if is_large else narrow[above] | bits
        wide[number] = wide[above] | bits if is_large else wide[above]
    element = up[0]
    positions = np.arange(len(HINTS))
    own = hints[element] | hints[up[1]]
    return np.column_stack(
        [
            (np.array(narrow)[element][:, None] >> positions) & 1,
            (own[:, None] >> positions) & 1,
            (np.array(wide)[element][:, None] >> _WIDE) & 1,
            (np.array(page.within)[element][:, None] >> _LEADING) & 1,
        ]
    ).astype(np.float32)
