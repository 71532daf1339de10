"""Words as the published rules count them: what stands between spaces, its punctuation split off.

Gopher's, C4's and FineWeb's data were filtered with the words of spaCy's English tokenizer (through
datatrove), so that a comma is a word and ``don't`` is two. This module gives the same words by the
same rules (spacy/lang/en, version 3.8, MIT), written anew for what is wanted here: the words of one
*chunk*, a run of characters between white space, on which nothing around it has an influence. So
each chunk has to be split only once, however often it occurs.

A chunk is peeled: signs are taken off its front and back in turn, until neither end has one or the
rest is a known exception (``e.g.``, ``don't``, ``:-)``). What remains is one word if it looks like
an address, else it is cut at hyphens, dots between sentences, and the like.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import pairwise

from tasks.rules.exceptions import exceptions
from tasks.rules.signs import lower_case, pictures, upper_case

LONGEST_CHUNK = 2_000
"""A longer chunk is one word: peeling takes quadratic time."""

_SIGNS = "…,:;!?¿؟¡()\\[\\]{}<>_#*&。？！，、；：～·।،۔؛٪'\"”“`‘´’‚„»«「」『』（）〔〕【】《》〈〉⟦⟧"
CURRENCY_WORDS = ("US", "C", "A")
"""What may stand before a dollar sign."""
_CURRENCY = "|".join(rf"{word}\$" for word in CURRENCY_WORDS) + "|[$£€¥฿₽﷼₴₠-₿]"
_QUOTES = "'\"”“`‘´’‚,„»«「」『』（）〔〕【】《》〈〉⟦⟧"
UNITS = (
    "km²|km³|km|m²|m³|m|dm²|dm³|dm|cm²|cm³|cm|mm²|mm³|mm|ha|µm|nm|yd|in|ft|kg|g|mg|µg|t|lb|oz|m/s|km/h|kmh|mph|hPa|Pa"
    "|mbar|mb|MB|kb|KB|gb|GB|tb|TB|T|G|M|K|%|км²|км³|км|м²|м³|м|дм²|дм³|дм|см²|см³|см|мм²|мм³|мм|нм|кг|г|мг|м/с|км/ч"
    "|кПа|Па|мбар|[КМГТ]б|[КМГТ]Б|[кмгт]б|كم²|كم³|كم|م²|م³|م|سم²|سم³|سم|مم²|مم³|مم|غرام|جرام|جم|كغ|ملغ|كوب|اكواب"
)
_LETTER = r"[^\W\d_]"

_PLAIN_ENDS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")
_GENITIVES = ("'s", "'S", "’s", "’S")
_DIGIT = re.compile("[0-9]")

_SIMPLE = re.compile(r"([A-Za-z]*[a-z]{2})([.,;:?!)]?)")
"""The commonest chunks: letters with at most one sign behind them, which need no peeling."""


@cache
def _patterns() -> tuple[re.Pattern[str], re.Pattern[str], re.Pattern[str], re.Pattern[str]]:
    lower, upper, icons = lower_case(), upper_case(), pictures()
    prefix = rf"[§%=—–{_SIGNS}]|\+(?![0-9])|\.\.+|{_CURRENCY}|[{icons}]"
    suffix = (
        rf"(?:[{_SIGNS}—–]|[{icons}]|……|\.\.+|['’][sS]|(?<=[0-9])\+|(?<=°[FfCcKk])\."
        rf"|(?<=[0-9])(?:{_CURRENCY})|(?<=[0-9])(?:{UNITS})"
        rf"|(?<=[0-9{lower}%²\-+{_SIGNS}])\.|(?<=[{upper}][{upper}])\.)\Z"
    )
    infix = (
        rf"(?=[-–—~.…,:<>=/+*^{icons}])"  # what all begin with, looked for first
        rf"(?:\.\.+|[…{icons}]|(?<=[0-9])[+\-*^](?=[0-9-])|(?<=[{lower}{_QUOTES}])\.(?=[{upper}{_QUOTES}])"
        rf"|(?<={_LETTER}),(?={_LETTER})|(?<=[^\W_])(?:-|–|—|--|---|——|~)(?={_LETTER})"
        rf"|(?<=[^\W_])[:<>=/](?={_LETTER}))"
    )
    label = r"(?:[A-Za-z0-9\u00a1-\uffff][A-Za-z0-9\u00a1-\uffff_-]{0,62})?[A-Za-z0-9\u00a1-\uffff]\."
    address = (
        rf"(?:[\w+\-.]{{2,30}}://)?(?:\d{{1,3}}(?:\.\d{{1,3}}){{3}}|(?:{label})+[{lower}]{{2,63}})"
        r"(?::\d{2,5})?(?:[/?#]\S*)?\Z"
    )
    return re.compile(prefix), re.compile(suffix), re.compile(infix), re.compile(address)


def split_chunk(chunk: str) -> Sequence[str]:
    """The words of a run of characters without white space; joined they are the chunk again."""
    known = exceptions().get(chunk)
    if known is not None:
        return known
    if simple := _SIMPLE.fullmatch(chunk):
        word, sign = simple.groups()
        if not sign:
            return (word,)
        return (*(exceptions().get(word) or (word,)), sign)
    if len(chunk) > LONGEST_CHUNK or (chunk.isalnum() and not chunk[0].isdigit()):
        return (chunk,)
    return _with_exceptions_inside(list(_peel(chunk)))


def _front(text: str) -> int:
    """Characters of the sign that a text begins with."""
    if text[0].isalnum() and text[0].isascii() and "$" not in text:
        return 0
    found = _patterns()[0].match(text)
    return found.end() if found else 0


_LONGEST_SUFFIX = max(map(len, UNITS.split("|")))
"""Characters of the longest sign that is not made of dots."""


def _back(text: str) -> int:
    """Characters of the sign that a text ends with."""
    last = text[-1:]
    if last in _PLAIN_ENDS and (last in "0123456789" or not (text.endswith(_GENITIVES) or _DIGIT.search(text))):
        return 0  # most words, spared the slow search
    found = _patterns()[1].search(text, min(len(text) - _LONGEST_SUFFIX, len(text.rstrip("."))))
    return found.end() - found.start() if found else 0


def _peel(chunk: str) -> Iterator[str]:
    special = exceptions()
    front, back, rest = [], [], chunk
    while rest and rest not in special:
        cut = _front(rest)
        if cut and rest[cut:] in special:
            front.append(rest[:cut])
            rest = rest[cut:]
            break
        size = _back(rest[cut:])
        if size and rest[:-size] in special:
            back.append(rest[-size:])
            rest = rest[:-size]
            break
        if not cut and not size:
            break
        if cut:
            front.append(rest[:cut])
        if size:
            back.append(rest[-size:])
        rest = rest[cut : len(rest) - size]
    yield from front
    if rest:
        yield from special.get(rest) or ((rest,) if _is_address(rest) else _cut(rest))
    yield from reversed(back)


def _is_address(text: str) -> bool:
    """Whether it looks like a URL, a host name or an e-mail address."""
    if "." not in text:
        return False
    address = _patterns()[3]
    after = {0, *(m + 1 for m in (text.find("@", 1), text.rfind("@")) if m > 0)}
    return any(address.match(text, start) for start in sorted(after))


def _cut(text: str) -> Iterator[str]:
    start = 0
    for found in _patterns()[2].finditer(text):
        if found.start() == 0:
            continue
        if found.start() > start:
            yield text[start : found.start()]
        yield found[0]
        start = found.end()
    if start < len(text):
        yield text[start:]


@cache
def _split_exceptions() -> dict[tuple[str, ...], Sequence[str]]:
    """What peeling alone would make of the exceptions that have signs → what they are."""
    infix = _patterns()[2]
    made = {}
    for text, words in exceptions().items():
        if _front(text) or _back(text) or infix.search(text):
            made[_peeled_plainly(text)] = words
    return {parts: words for parts, words in made.items() if len(parts) > 1}


def _peeled_plainly(text: str) -> tuple[str, ...]:
    front, back, rest = [], [], text
    while rest:
        cut = _front(rest)
        size = _back(rest[cut:])
        if not cut and not size:
            break
        if cut:
            front.append(rest[:cut])
        if size:
            back.append(rest[len(rest) - size :])
        rest = rest[cut : len(rest) - size]
    return (*front, *((rest,) if rest and _is_address(rest) else _cut(rest)), *reversed(back))


@cache
def _beginnings() -> tuple[frozenset[tuple[str, ...]], int]:
    """The first two parts of each, and how many parts the longest has."""
    return frozenset(parts[:2] for parts in _split_exceptions()), max(map(len, _split_exceptions()), default=0)


def _with_exceptions_inside(words: list[str]) -> Sequence[str]:
    """Put exceptions together again that peeling has cut: ``f(x:)`` ends in ``:)``."""
    beginnings, longest = _beginnings()
    if beginnings.isdisjoint(pairwise(words)):
        return words
    found = [
        (size, start)
        for size in range(min(longest, len(words)), 1, -1)
        for start in range(len(words) - size + 1)
        if tuple(words[start : start + 2]) in beginnings and tuple(words[start : start + size]) in _split_exceptions()
    ]
    taken: set[int] = set()
    replaced: dict[int, tuple[int, Sequence[str]]] = {}
    for size, start in found:
        if start not in taken and start + size - 1 not in taken:
            replaced[start] = (size, _split_exceptions()[tuple(words[start : start + size])])
        taken.update(range(start, start + size))
    made: list[str] = []
    position = 0
    while position < len(words):
        size, parts = replaced.get(position, (1, words[position : position + 1]))
        made.extend(parts)
        position += size
    return made
