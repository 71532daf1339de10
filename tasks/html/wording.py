"""What is measured of the wording of pages' blocks: length, punctuation, stock phrases, repetition."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from tasks.html.blocks import Outline
from tasks.html.names import names

Floats = NDArray[np.float32]
Integers = NDArray[np.int64]

_ENDINGS = frozenset('.!?…。！？»”"’)）;；:：」』')
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
_BORDER_WORD = "\x00"
_BORDER = f" {_BORDER_WORD} "
_STOCK_OR_BORDER = _STOCK | {_BORDER_WORD}
_SHORT = 120
_LONG = 40
"""Characters beyond which commas and ends of sentences are counted."""
_EDGES = " \t\n\r\x0c\x0b\x04\x0e\x0f\x10\x11\x12\x13\x1d\u3000"
"""White space, and what marks line breaks and emphasis."""
_COMMA, _STOP = ord(","), ord(".")
_WIDE_COMMAS, _WIDE_STOP = ((0xEF, 0xBC, 0x8C), (0xE3, 0x80, 0x81)), (0xE3, 0x80, 0x82)


def wording_of(page: Outline) -> Floats:
    """10 × B: characters, spaces, commas, ends of sentences, linked characters; whether the text ends as a sentence
    does, begins in upper case, in lower case, is a stock phrase, was on the page before."""
    text, place = page.text, page.place
    inked = text > 32
    begins = inked.copy()
    begins[1:] &= ~inked[:-1]
    commas, stops = text == _COMMA, text == _STOP
    stops[:-1] &= ~inked[1:]
    if int(text.max()) > 0x7F:
        commas[:-2] |= _is(text, *_WIDE_COMMAS[0]) | _is(text, *_WIDE_COMMAS[1])
        stops[:-2] |= _is(text, *_WIDE_STOP)
    borders = np.stack((place, page.stop), axis=1).ravel()
    borders = borders[: len(borders) - (borders[-1] == len(text))]
    words, commas_in, stops_in = (
        np.add.reduceat(each, borders, dtype=np.int64)[::2] for each in (begins, commas, stops)
    )
    spaces = words - 1
    chars = page.ink + spaces
    texts = [chunk.strip(_EDGES) for chunk in page.texts]
    firsts = [chunk[:1] for chunk in texts]
    rows = np.empty((10, len(place)), np.float32)
    rows[0], rows[1] = chars, spaces
    rows[2], rows[3] = np.where(chars > _LONG, (commas_in, stops_in), 0)
    rows[4] = page.linked * (chars / page.ink)
    rows[5] = [chunk[-1:] in _ENDINGS for chunk in texts]
    rows[6] = [first.isupper() for first in firsts]
    rows[7] = [first.islower() for first in firsts]
    rows[8] = _have_stock_words(texts)
    rows[9] = [again for first, end in pairwise(page.blocks.tolist()) for again in _repeated(texts[first:end])]
    return rows


def _repeated(texts: Sequence[str]) -> list[bool]:
    """Which of a page's texts stand further up, too."""
    seen: dict[str, int] = {}
    return [seen.setdefault(text, number) != number for number, text in enumerate(texts)]


def _is(text: NDArray[np.uint8], first: int, second: int, third: int) -> NDArray[np.bool_]:
    """Where a character of three bytes begins."""
    found: NDArray[np.bool_] = (text[:-2] == first) & (text[1:-1] == second) & (text[2:] == third)
    return found


def _have_stock_words(texts: list[str]) -> list[bool]:
    """Whether each is short and holds a word of a stock phrase."""
    short = [text if len(text) < _SHORT else "" for text in texts]
    found = [False] * len(texts)
    number = 0
    for word in filter(_STOCK_OR_BORDER.__contains__, _BORDER.join(short).lower().split()):
        if word == _BORDER_WORD:
            number += 1
        else:
            found[number] = True
    return [
        has or (not text.isascii() and any(map(text.__contains__, _WIDE_STOCK)))
        for has, text in zip(found, short, strict=True)
    ]
