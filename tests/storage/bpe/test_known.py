"""The table gives back what was entered, whatever the keys, and stays within its bounds."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import storage.bpe.known as module
from storage.bpe.cuts import BEFORE, padded, words_at
from storage.bpe.known import ABSENT, Ids, Known, Numbers, Words, keys_of

_STRING = st.binary(min_size=1, max_size=15)


def _keys(strings: list[bytes]) -> tuple[Words, Words]:
    whole = np.frombuffer(b"".join(strings), np.uint8)
    sizes = np.array([len(string) for string in strings], np.int64)
    around = padded(whole, 0, len(whole))
    return keys_of(words_at(around), BEFORE + np.cumsum(sizes) - sizes, sizes)


def _enter(known: Known, strings: list[bytes], ids: list[list[int]]) -> None:
    flat: Ids = np.array([each for one in ids for each in one], np.int32)
    counts: Numbers = np.array([len(one) for one in ids], np.int64)
    known.add(*_keys(strings), known.pool(flat, counts))


def _gathered(known: Known, values: Numbers) -> tuple[Ids, Numbers]:
    room = np.full(4000, -1, np.int32)
    size, counts = known.gather(values, room)
    assert (room[size:] == -1).all()
    return room[:size], counts


@settings(max_examples=200)
@given(st.lists(_STRING, min_size=2, max_size=40, unique=True))
def test_different_strings_have_different_keys(strings: list[bytes]) -> None:
    low, high = _keys(strings)
    assert len(set(zip(low.tolist(), high.tolist(), strict=True))) == len(strings)
    assert ((low | high) != 0).all()


def test_zeros_and_lengths_count() -> None:
    strings = [b"\0" * size for size in range(1, 16)] + [b"a", b"a\0", b"abcdefg\x01", b"abcdefg", b"\x07" * 8]
    low, high = _keys(strings)
    assert len(set(zip(low.tolist(), high.tolist(), strict=True))) == len(strings)


@settings(max_examples=60, deadline=None)
@given(st.lists(_STRING, min_size=1, max_size=60, unique=True), st.integers(0, 60), st.booleans())
def test_what_was_entered_is_found_and_nothing_else(strings: list[bytes], entered: int, collide: bool) -> None:
    with pytest.MonkeyPatch.context() as patch:
        if collide:
            # Every key wants one of the last places, so that searching goes around the end.
            patch.setattr(Known, "_slots", lambda self, low, high: np.full(len(low), self._last - 2, np.int64))
        known, inside = Known(), strings[:entered]
        ids = [[number] * (number % 4) for number in range(len(inside))]
        for start in range(0, len(inside), 7):
            _enter(known, inside[start : start + 7], ids[start : start + 7])
        values = known.find(*_keys(strings))
        assert ((values != ABSENT) == (np.arange(len(strings)) < entered)).all()
        found, counts = _gathered(known, values[: len(inside)])
        assert counts.tolist() == [len(one) for one in ids]
        assert found.tolist() == [each for one in ids for each in one]


def test_it_grows_and_says_when_it_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LEAST_BITS", 4)
    monkeypatch.setattr(module, "_MOST_BITS", 12)
    known = Known()
    rng = random.Random(0)
    strings = list({rng.randbytes(rng.randrange(1, 16)) for _ in range(2100)})
    for start in range(0, 2000, 100):
        assert not known.full
        _enter(known, strings[start : start + 100], [[start + n] for n in range(100)])
    values = known.find(*_keys(strings))
    assert _gathered(known, values[:2000])[0].tolist() == list(range(2000))
    assert (values[2000:] == ABSENT).all()
    _enter(known, strings[2000:2060], [[1]] * 60)
    assert known.full
    known.clear()
    assert not known.full
    assert (known.find(*_keys(strings)) == ABSENT).all()


def test_long_strings_are_kept_by_name_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    known = Known()
    known.add_named(b"x" * 20, 5)
    known.add_named(b"y" * 1000, 6)
    assert known.find_named([b"x" * 20, b"y" * 1000]) == [5, ABSENT]
    monkeypatch.setattr(module, "_MOST_NAMED_BYTES", 19)
    known.add_named(b"z" * 20, 7)
    assert known.find_named([b"x" * 20, b"z" * 20]) == [ABSENT, 7]


def test_a_full_table_takes_no_more_memory_than_it_says() -> None:
    """What is counted: places, ids, and the bytes and objects of a dictionary of long strings."""
    places = 24 << module._MOST_BITS
    ids = 2 * 4 * module._MOST_POOLED  # an array that has just doubled
    strings = module._MOST_NAMED_BYTES // 16
    names = module._MOST_NAMED_BYTES + strings * (33 + 32 + 104)
    assert (places + ids + names) / 1e6 < module.MOST_MEGABYTES
