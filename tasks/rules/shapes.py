"""Where chunks are cut into words, by their shape: chunks of one shape are cut alike, and each shape is cut once.

:func:`~tasks.rules.words.split_chunk` looks at signs one by one, but at a *core* (a run of letters, digits and
underscores that begins and ends with a letter or digit) only in few ways: what it begins and ends with, whether
it is all lower case or all digits, and roughly how long it is. It never cuts inside a core, but for a unit of
measurement or a currency behind a digit. So a shape is the chunk with a single *unit* in place of every core, which
says these things: ``vector::push_back(`` and ``string::find(`` have the same. Cores that occur in exceptions
(``don``, ``e``) stay as they are spelled, and so does what is so long that a limit on the length of addresses could
count.

All chunks of a batch are given their shapes at once in arrays of code points.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from tasks.rules.columns import Column
from tasks.rules.exceptions import exceptions
from tasks.rules.hashes import Spelling, Table, code_points_of
from tasks.rules.segments import running
from tasks.rules.signs import CodeTable
from tasks.rules.words import CURRENCY_WORDS, LONGEST_CHUNK, UNITS, split_chunk

_CORE, _DIGIT, _LOWER, _UPPER = 1, 2, 4, 8
_DOT, _SLASH, _COLON, _UNDERSCORE = map(ord, "./:_")

_LONGEST_ADDRESS = 60
"""A longer chunk with a dot keeps its spelling: a label of a host name has 64 characters at most, a top level 63."""
_LONGEST_SCHEME = 30
"""So does one with a colon behind more characters than a URL's scheme may have."""


def _kind_of(code: int) -> int:
    if ord("0") <= code <= ord("9"):
        return _CORE | _DIGIT
    character = chr(code)
    if code > 0xFFFF or not character.isalpha():
        return 0
    return _CORE | (0 if character.isupper() else _LOWER) | (0 if character.islower() else _UPPER)


_kinds = CodeTable(_kind_of)


class Shapes:
    """The shapes seen so far, and where chunks of each are cut."""

    def __init__(self) -> None:
        self._known = Table()
        self._first, self._count, self._cuts = Column(np.int64), Column(np.int64), Column(np.int64)

    def split(self, codes: np.ndarray, bounds: np.ndarray, spelling: Spelling) -> tuple[np.ndarray, np.ndarray]:
        """Where the words of chunks begin, and how many each chunk has.

        ``codes``: the chunks' code points, one behind the other; ``bounds``: where each begins, and the end.
        """
        places, units = _units(codes, bounds, spelling)
        edges = np.searchsorted(places, bounds)
        shapes = Spelling(units).of(edges[:-1], edges[1:])
        numbers = self._known.find(shapes)
        unknown = np.flatnonzero(numbers < 0)
        if len(unknown):
            fresh, first, same = np.unique(shapes[unknown], return_index=True, return_inverse=True)
            known = len(self._first.values)
            self._learn(codes, bounds, unknown[first], places, edges)
            self._known.add(fresh, known + np.arange(len(fresh)))
            numbers[unknown] = known + same
        counts = self._count.values.take(numbers)
        ends = running(counts)
        at = np.repeat(self._first.values.take(numbers) - ends[:-1], counts) + np.arange(ends[-1])
        return places.take(self._cuts.values.take(at) + np.repeat(edges[:-1], counts)), counts

    def _learn(
        self, codes: np.ndarray, bounds: np.ndarray, chunks: np.ndarray, places: np.ndarray, edges: np.ndarray
    ) -> None:
        """Cut one chunk of each new shape."""
        cuts: list[int] = []
        counts = []
        for start, end in zip(bounds[chunks].tolist(), bounds[chunks + 1].tolist(), strict=True):
            words = split_chunk(str(codes[start:end].tobytes(), "utf-32-le"))
            counts.append(len(words))
            for word in words:
                cuts.append(start)
                start += len(word)
        at = np.searchsorted(places, cuts)
        assert np.array_equal(places[at], cuts), "a core was cut"
        self._first.extend(len(self._cuts.values) + running(np.array(counts))[:-1])
        self._count.extend(counts)
        self._cuts.extend(at - np.repeat(edges[chunks], counts))


def _units(codes: np.ndarray, bounds: np.ndarray, spelling: Spelling) -> tuple[np.ndarray, np.ndarray]:
    """Where the units of the chunks begin, and a number for each: a code point, or, beyond these, for a core."""
    kinds = _kinds.of(codes)
    starts, ends, is_split = _cores(codes, kinds, bounds, spelling)
    alike = _special().find(spelling.of(starts, ends)) < 0
    alike &= ~_keep_their_spelling(codes, bounds)[np.searchsorted(bounds, starts, side="right") - 1]
    starts, ends, is_split = starts[alike], ends[alike], is_split[alike]
    inside = np.zeros(len(codes) + 1, dtype=np.int8)
    inside[starts + 1] += 1
    inside[ends] -= 1
    units = codes.astype(np.uint64)
    units[starts] = _described(codes, kinds, starts, ends, is_split)
    places = (np.cumsum(inside[:-1], dtype=np.int8) == 0).nonzero()[0]
    return places, units.take(places)


def _cores(
    codes: np.ndarray, kinds: np.ndarray, bounds: np.ndarray, spelling: Spelling
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where cores begin and end, and which stand before a unit of measurement, which is a core by itself."""
    core = (kinds & _CORE) > 0
    joined = core | (codes == _UNDERSCORE)
    begins = joined.copy()
    begins[1:] &= ~joined[:-1]
    begins[bounds[:-1]] = joined[bounds[:-1]]
    places = core.nonzero()[0]
    run = np.cumsum(begins).take(places)
    first, last = np.ones(len(places), dtype=bool), np.ones(len(places), dtype=bool)
    first[1:] = run[1:] != run[:-1]
    last[:-1] = first[1:]
    starts, ends = places[first], places[last] + 1
    digits = ((kinds & _DIGIT) > 0).nonzero()[0]
    if not len(digits):
        return starts, ends, np.zeros(len(starts), dtype=bool)
    behind = digits[np.maximum(np.searchsorted(digits, ends) - 1, 0)] + 1
    has_tail = np.flatnonzero((behind > starts) & (behind < ends))
    tails = behind[has_tail[_measures().find(spelling.of(behind[has_tail], ends[has_tail])) >= 0]]
    starts, ends = np.sort(np.concatenate([starts, tails])), np.sort(np.concatenate([ends, tails]))
    return starts, ends, np.isin(ends, tails)


def _described(
    codes: np.ndarray, kinds: np.ndarray, starts: np.ndarray, ends: np.ndarray, is_split: np.ndarray
) -> np.ndarray:
    """What matters of each core, as a number beyond all code points."""
    lengths, first, last = ends - starts, kinds.take(starts), kinds.take(ends - 1)
    lower, digits = running((kinds & _LOWER) > 0), running((kinds & _DIGIT) > 0)
    underscores = running(codes == _UNDERSCORE)
    is_number = digits[ends] - digits[starts] == lengths
    size = np.where(is_number, 1 + (lengths > 1) + (lengths > 3) + (lengths > 5), 0)  # IPv4 has 3 digits, a port 5
    facts = (
        lengths == 1,
        (first & _DIGIT) > 0,
        (first & _UPPER) > 0,
        (last & _DIGIT) > 0,
        (last & _LOWER) > 0,
        (last & _UPPER) > 0,
        (lengths > 1) & (last & kinds.take(np.maximum(ends - 2, 0)) & _UPPER > 0),
        lower[ends] - lower[starts] == lengths,
        is_split & (underscores[ends] > underscores[starts]),
    )
    made = size.astype(np.uint64) | np.uint64(1 << 24)
    for place, fact in enumerate(facts, 3):
        made |= fact.astype(np.uint64) << np.uint64(place)
    return made


def _keep_their_spelling(codes: np.ndarray, bounds: np.ndarray) -> np.ndarray:
    """Which chunks are so long that a limit could count; bool."""
    lengths = np.diff(bounds)
    has_dot = np.diff(running(codes == _DOT).take(bounds)) > 0
    late = np.minimum(bounds[:-1] + _LONGEST_SCHEME, bounds[1:])
    colons, slashes = (running(codes == sign) for sign in (_COLON, _SLASH))
    is_url = (colons[bounds[1:]] > colons[late]) & (slashes[bounds[1:]] > slashes[late])
    return (lengths > LONGEST_CHUNK) | (has_dot & (is_url | (lengths > _LONGEST_ADDRESS)))


@cache
def _special() -> Table:
    """Cores that keep their spelling: those of exceptions, units of measurement and currencies."""
    texts = [*exceptions(), *UNITS.split("|"), *CURRENCY_WORDS, "s", "S", *"FfCcKk"]
    codes, bounds = code_points_of(texts)
    spelling = Spelling(codes)
    starts, ends, _ = _cores(codes, _kinds.of(codes), bounds, spelling)
    return _table_of(spelling.of(starts, ends))


@cache
def _measures() -> Table:
    """The letters that units of measurement and currencies begin with."""
    units = [unit for unit in UNITS.split("|") if unit[0].isalpha()]
    codes, bounds = code_points_of([*units, *CURRENCY_WORDS])
    letters = (_kinds.of(codes) & _CORE) > 0
    others = np.append(np.flatnonzero(~letters), len(codes))
    ends = np.minimum(bounds[1:], others[np.searchsorted(others, bounds[:-1])])
    return _table_of(Spelling(codes).of(bounds[:-1], ends))


def _table_of(codes: np.ndarray) -> Table:
    made, distinct = Table(), np.unique(codes)
    made.add(distinct, np.arange(len(distinct)))
    return made
