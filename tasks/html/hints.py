"""What the classes, ids and other attributes of an element speak of."""

from __future__ import annotations

import re
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from tasks.html.gather import gathered

HINTS = {
    "comments": "comment|kommentar|reaction|disqus|respond|reply|replies|discuss|feedback",
    "share": "share|sharing|social|facebook|twitter|whatsapp|tweet|follow|addtoany|sns",
    "navigation": "nav|menu|crumb|pagination|pager|paging|skip|jump|toc|tabs|topics?$|links?$|prev|next",
    "footer": "foot|copyright|legal|imprint|colophon|disclaimer",
    "header": "header|masthead|topbar|logo|brand|hero|site",
    "side": "side|rail|widget|panel|column|block|module",
    "related": "relat|recommend|more|similar|also|popular|trend|teaser|latest|promo|carousel|slider|card|list|grid"
    "|item",
    "advertising": "^ads?$|advert|sponsor|banner|dfp|outbrain|taboola|affiliate|shop|product|cart|price",
    "signup": "newsletter|subscri|signup|login|register|registr|paywall|donat|member|account|^cta$",
    "byline": "meta|byline|author|date|time|publish|tag|categor|info|bio|credit|source|avatar|dateline|label",
    "caption": "caption|figure|image|img|photo|picture|gallery|media|video|player|legend",
    "controls": "cookie|consent|popup|modal|overlay|dialog|tool|button|btn|print|search|form|rating|vote|hidden|alert",
    "title": "title|headline|subtitle|heading",
    "lead": "lead|intro|summary|excerpt|teaser|standfirst|dek|abstract|description|kicker",
    "article": "article|story|^post|entry|blog|news|recipe",
    "body": "content|body|text|^main|copy|paragraph|prose|rich|markdown|page|inner",
}
"""Words of classes, ids and roles, and what they speak of: a block's features, not yet a verdict."""
COMMENTS = 1
"""The bit of the first."""
_HINTS = [re.compile(pattern) for pattern in HINTS.values()]
_NOT_NAMES = frozenset(b"class id role style data aria itemprop itemscope itemtype href src name true false".split())
_LONGEST = 300
"""Bytes of a tag's attributes that are looked at."""
_WORDS = bytes(
    byte | 0x20 if chr(byte).isascii() and chr(byte).isalpha() else 10 if byte == 10 else 32 for byte in range(256)
)
"""Letters in lower case, and spaces for all else; the line feed stands between tags."""


@lru_cache(maxsize=1 << 16)
def _hints_of_word(word: bytes) -> int:
    if word in _NOT_NAMES or len(word) < 2:
        return 0
    return sum(1 << bit for bit, pattern in enumerate(_HINTS) if pattern.search(word.decode()))


@lru_cache(maxsize=1 << 14)
def _hints_of_words(words: bytes) -> int:
    bits = 0
    for word in words.split():
        bits |= _hints_of_word(word)
    return bits


def hints_of(page: NDArray[np.uint8], start: NDArray[np.int64], end: NDArray[np.int64]) -> list[int]:
    """Per tag, the hints in its attributes, which lie between these places: bits in the order of :data:`HINTS`."""
    length = np.minimum(end - start, _LONGEST)
    attributes, offsets = gathered(page, start, length)
    attributes[attributes == 10] = 32
    attributes[offsets] = 10
    return [_hints_of_words(words) for words in attributes.tobytes().translate(_WORDS)[1:].split(b"\n")]
