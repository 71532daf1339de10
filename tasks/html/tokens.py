"""The tags of pages, found in their bytes by NumPy: where each begins and ends, and what kind it is.

What a browser's tokenizer does is kept: text of scripts, style sheets and comments holds no tags, a
``>`` within quotes ends none (unless another tag in quotes follows in the same tag). Python sees only
the few tags where that matters. Linear time.

Pages lie behind each other, each between a ``<body>`` and some spaces, so that what a call of NumPy
costs is paid once for all of them. Nothing that is found in a page depends on its neighbours.

P pages, N bytes of them all, T tags.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from tasks.html.names import names

Bytes = NDArray[np.uint8]
Integers = NDArray[np.int64]

BLOCKS = names(
    "body div section article main header aside p h1 h2 h3 h4 h5 h6 ul ol li dl dt dd table tr td th caption "
    "blockquote pre figure figcaption address details summary center hr hgroup menu search legend nav footer"
)
"""Elements that start a new line."""
_UNSEEN = names("noscript template svg object canvas video audio select button ruby rt rp dialog")
"""Elements whose content no reader sees as text, though it may hold tags; and ``ruby``, which ends some."""
_RAW = names("script style textarea title iframe noembed noframes xmp")
"""Elements whose content is no markup, and not seen either."""
_INLINE = names("a br b strong i em code kbd samp tt")
NAMES = ("", *BLOCKS, *_UNSEEN, *_RAW, *_INLINE, "!--")
"""By kind; 0 is any other tag."""
KINDS = {name: kind for kind, name in enumerate(NAMES)}
FIRST_RAW, FIRST_INLINE = KINDS[_RAW[0]], KINDS[_INLINE[0]]
LINK, BREAK, RULE = KINDS["a"], KINDS["br"], KINDS["hr"]
_DRAWN = (KINDS["title"], KINDS["style"])
_BODY, _COMMENT, _SCRIPT, _HEADING = (KINDS[name] for name in ("body", "!--", "script", "h1"))

_BEFORE, _BEHIND = b"<body>", b" " * 16
"""Put around a page: an element around all of it, and spaces, so that names can be read anywhere in it."""
_LETTERS = 8
"""Of a name so many letters are looked at."""
_LOWER = np.uint64(0x2020202020202020)
_IS_LETTER = np.uint64(0x4040404040404040)
_SIX, _ONE, _BYTE = np.uint64(6), np.uint64(1), np.uint64(0xFF)
_TABLE_BITS = 9
_TAG_END = re.compile(rb"(?:[^>\"'=]++|=\s*+(?:\"[^\"]*+\"|'[^']*+')?+|[\"'])*+>")
"""The rest of a tag, behind its name. A quote opens only behind an equals sign."""
_LONGEST_TAG = 1 << 18
_COMMENT_END = re.compile(rb"--!?>")
_ESCAPED_SCRIPT = re.compile(rb"<script[\s/>]", re.IGNORECASE)


def _key(name: str) -> int:
    """The first letters of a name as a number."""
    return int.from_bytes(name.rstrip("0123456789")[:_LETTERS].encode(), "little")


def _perfect_hash() -> tuple[np.uint64, NDArray[np.uint64], NDArray[np.int8]]:
    """A multiplier under which the names' keys fall into different places of a table; the keys and kinds there."""
    kinds = {_key(name): kind for kind, name in reversed(list(enumerate(NAMES))) if name and name != "!--"}
    shift, multiplier = 64 - _TABLE_BITS, 0x9E3779B97F4A7C15
    while len({(key * multiplier % 2**64) >> shift for key in kinds}) < len(kinds):
        multiplier = (multiplier * 6364136223846793005 + 1442695040888963407) % 2**64 | 1
    keys, found = np.zeros(1 << _TABLE_BITS, np.uint64), np.zeros(1 << _TABLE_BITS, np.int8)
    for key, kind in kinds.items():
        place = (key * multiplier % 2**64) >> shift
        keys[place], found[place] = key, kind
    return np.uint64(multiplier), keys, found


_MULTIPLIER, _KEYS, _KIND_AT = _perfect_hash()
_SHIFT = np.uint64(64 - _TABLE_BITS)
NAME_LENGTH = np.array([len(name) for name in NAMES], np.int64)
_ENDS_NAME = np.zeros(256, np.bool_)
_ENDS_NAME[list(b" \t\n\r\f/>")] = True


@dataclass
class Tokens:
    """Tags, without those inside of comments and scripts."""

    page: Bytes
    """N: the pages in UTF-8."""
    content: bytes
    """The same."""
    first: Integers
    """P + 1: number of each page's first tag, the body put before it; T."""
    limit: Integers
    """P: where each page ends."""
    start: Integers
    """T: where the tag's ``<`` is."""
    end: Integers
    """T: where its ``>`` is; of a comment, a script or the like, where all of it ends."""
    kind: Bytes
    """T: see :data:`NAMES`."""
    closing: NDArray[np.bool_]
    """T: whether it is an end tag."""
    key: NDArray[np.uint64]
    """T: the first letters of the name."""

    def lengths(self) -> Integers:
        """T: bytes of text behind each tag."""
        following = np.empty(len(self.start), np.int64)
        following[:-1] = self.start[1:]
        following[self.first[1:] - 1] = self.limit
        following -= self.end
        following -= 1
        return np.maximum(following, 0, out=following)


def tokens_of(pages: Sequence[str]) -> Tokens:
    """The tags of pages."""
    encoded = [page.encode("utf-8", "surrogatepass") for page in pages]
    content = b"".join([part for page in encoded for part in (_BEFORE, page, _BEHIND)])
    around = len(_BEFORE) + len(_BEHIND)
    sizes = np.array([len(page) + around for page in encoded])
    begin = np.cumsum(sizes) - sizes
    limit = begin + sizes - len(_BEHIND)
    page = np.frombuffer(content, np.uint8)
    places = np.flatnonzero((page | 2) == 62)  # < and >
    opens = page[places] == 60
    ends = np.minimum.accumulate(np.where(opens, len(page), places)[::-1])[::-1]
    following = np.empty(len(places), np.bool_)  # whether the next of both is a ">"
    np.logical_not(opens[1:], out=following[:-1])
    following[-1] = False
    which = np.flatnonzero(opens)
    start = places[which]
    kind, closing, key, valid = _kinds_at(page, content, start)
    end = ends[which]
    if len(pages) == 1:
        np.minimum(end, limit, out=end)
    else:
        np.minimum(end, np.repeat(limit, np.diff(np.append(start.searchsorted(begin), len(start)))), out=end)
    # Between tags that are as they should be, < and > take turns.
    twice = np.zeros(len(which), np.bool_)
    inner = which + 1 < len(places) - 1
    twice[inner] = following[which[inner] + 1]
    odd = ~following[which] | twice | ((kind >= FIRST_RAW) & (kind < FIRST_INLINE)) | (kind == _COMMENT)
    kept = np.flatnonzero(valid)
    start, end, kind, closing, key = start[kept], end[kept], kind[kept], closing[kept], key[kept]
    _correct(content, begin, limit, start, end, kind, closing, np.flatnonzero(odd[kept]))
    alive = end >= 0
    start = start[alive]
    first = np.append(start.searchsorted(begin), len(start))
    return Tokens(
        page, content, first, limit, start, end[alive], kind[alive].view(np.uint8), closing[alive], key[alive]
    )


def _kinds_at(
    page: Bytes, content: bytes, start: Integers
) -> tuple[NDArray[np.int8], NDArray[np.bool_], NDArray[np.uint64], NDArray[np.bool_]]:
    """Of what begins at these places: the kind, whether it is an end tag, the name's letters, whether it is a tag."""
    second = page[start + 1]
    closing = second == ord("/")
    letters = np.ndarray((len(page) - 7,), "<u8", content, 0, (1,))
    at = start + 1 + closing
    folded = letters[at] | _LOWER
    first = (folded & _BYTE).astype(np.uint8)
    valid = ((first - np.uint8(ord("a"))) < 26) | (second == ord("!")) | (second == ord("?")) | closing
    others = ~folded & _IS_LETTER
    key = folded & (((others & (~others + _ONE)) >> _SIX) - _ONE)
    place = (key * _MULTIPLIER) >> _SHIFT
    kind = np.where(_KEYS[place] == key, _KIND_AT[place], 0).astype(np.int8)
    heads = np.flatnonzero(kind == _HEADING)
    level = page[at[heads] + 1] - np.uint8(ord("1"))
    kind[heads] = np.where(level < 6, _HEADING + level, 0)
    kind[~_ENDS_NAME[page[at + NAME_LENGTH[kind]]]] = 0
    marks = np.flatnonzero(second == ord("!"))
    comments = (page[start[marks] + 2] == ord("-")) & (page[start[marks] + 3] == ord("-"))
    kind[marks[comments]] = _COMMENT
    return kind, closing, key, valid


def _correct(
    content: bytes,
    begin: Integers,
    limit: Integers,
    start: Integers,
    end: Integers,
    kind: NDArray[np.int8],
    closing: NDArray[np.bool_],
    odd: Integers,
) -> None:
    """Set the ends of comments, scripts and tags with a ``>`` in quotes; the end of tags within such becomes -1."""
    columns = [column.tolist() for column in (odd, start[odd], end[odd], kind[odd], closing[odd])]
    borders = [*start[odd].searchsorted(begin).tolist(), len(odd)]
    changes: list[tuple[int, int]] = []
    for (first, last), size in zip(pairwise(borders), limit.tolist(), strict=True):
        if first < last:
            changes += _changes(content, size, zip(*(column[first:last] for column in columns), strict=True))
    if changes:
        numbers, ends = zip(*changes, strict=True)
        end[list(numbers)] = ends
    reach = np.maximum.accumulate(end)
    end[1:][start[1:] < reach[:-1]] = -1


def _changes(content: bytes, size: int, odd: Iterable[tuple[int, int, int, int, bool]]) -> list[tuple[int, int]]:
    """The numbers of a page's tags that end elsewhere than they seem to, and where."""
    changes: list[tuple[int, int]] = []
    position = waiting = begun = 0
    opened = -1
    for number, at, to, what, closes in odd:
        if at < position:
            continue
        if waiting:
            if closes and what == waiting and not (what == _SCRIPT and _is_escaped(content, begun, at)):
                changes.append((opened, at - 1))
                waiting, position = 0, to + 1
            continue
        position = to + 1
        if what == _COMMENT:
            if not content.startswith((b">", b"->"), at + 4):
                found = _COMMENT_END.search(content, at + 4, size)
                to = found.end() - 1 if found else size
            changes.append((number, to))
            position = to + 1
        elif FIRST_RAW <= what < FIRST_INLINE and not closes and not _is_drawn(content, what, to):
            waiting, begun, opened = what, position, number
        elif (found := _TAG_END.match(content, at + 1, min(at + _LONGEST_TAG, size))) and found.end() != position:
            changes.append((number, found.end() - 1))
            position = found.end()
    if waiting:
        changes.append((opened, size))
    return changes


def _is_drawn(content: bytes, kind: int, end: int) -> bool:
    """Whether a tag is an empty title or style sheet, as only drawings can have them."""
    return kind in _DRAWN and content[end - 1] == ord("/")


def _is_escaped(content: bytes, begun: int, end: int) -> bool:
    """Whether an end tag is itself within a script's ``<!-- <script>`` (HTML standard: "double escaped")."""
    comment = content.find(b"<!--", begun, end)
    if comment < 0 or content.find(b"-->", comment, end) >= 0:
        return False
    inner = _ESCAPED_SCRIPT.search(content, comment, end)
    return inner is not None and content.find(b"</script", inner.end(), end) < 0
