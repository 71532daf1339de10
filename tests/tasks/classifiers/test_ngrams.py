"""Counting in columns gives what counting one n-gram after the other gives."""

from __future__ import annotations

import unicodedata
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tasks.classifiers.ngrams import UNSPACED, Ngrams, count, counts_of

WIDE = 1 << 24
"""So many buckets that the few n-grams of these texts hardly ever share one."""
TEXTS = st.lists(
    st.text(alphabet=st.sampled_from("abAB ÄßΣе\u0301。，!?\n\t\x00 你好世界カナไทย\ud800😀1"), max_size=40), max_size=6
)


def is_unspaced(character: str) -> bool:
    return any(low <= character <= high for low, high in UNSPACED)


def is_word(character: str) -> bool:
    return unicodedata.category(character)[0] in "LMN" and not is_unspaced(character)


def tokens_of(text: str) -> list[str]:
    found: list[str] = []
    before = ""
    for character in text.lower():
        if is_word(character) and before and is_word(before):
            found[-1] += character
        elif is_word(character) or unicodedata.category(character)[0] not in "ZC" or is_unspaced(character):
            found.append(character)
        before = character
    return found


def reference(text: str, ngrams: Ngrams) -> Counter[tuple[str, ...]]:
    """n-grams counted by a loop."""
    tokens = tokens_of(text[: ngrams.max_characters])
    counted: Counter[tuple[str, ...]] = Counter()
    for length in range(1, 6):
        for start in range(len(tokens) - length + 1):
            run = tokens[start : start + length]
            most = ngrams.letter_ngrams if all(map(is_unspaced, run)) else ngrams.word_ngrams
            if length <= most:
                counted[tuple(run)] += 1
    return counted


@settings(deadline=None, max_examples=200)
@given(TEXTS, st.integers(0, 3), st.integers(0, 3))
def test_counts_are_those_of_a_plain_loop(texts: list[str], words: int, letters: int) -> None:
    ngrams = Ngrams(word_ngrams=words, letter_ngrams=letters, buckets=WIDE)
    found = count(texts, ngrams)
    known: dict[int, tuple[str, ...]] = {}
    for number, text in enumerate(texts):
        part = slice(found.starts[number], found.starts[number + 1])
        buckets, counts = found.buckets[part], found.counts[part]
        expected = reference(text, ngrams)
        assert sorted(counts.tolist()) == sorted(expected.values())
        assert (np.diff(buckets) > 0).all()
        for run in expected:  # the same run is in the same bucket in every text
            if len(run) == 1:
                bucket = int(count(list(run), ngrams).buckets[0])
                assert bucket in buckets
                assert known.setdefault(bucket, run) == run


@settings(deadline=None, max_examples=50)
@given(TEXTS)
def test_a_text_counts_the_same_whatever_is_beside_it(texts: list[str]) -> None:
    ngrams = Ngrams(piece_ngrams=(2, 4), buckets=1 << 12)
    together = count(texts, ngrams)
    for number, text in enumerate(texts):
        alone = count([text], ngrams)
        part = slice(together.starts[number], together.starts[number + 1])
        assert np.array_equal(together.buckets[part], alone.buckets)
        assert np.array_equal(together.counts[part], alone.counts)


def test_pieces_of_words_hold_what_bounds_them() -> None:
    ngrams = Ngrams(word_ngrams=0, letter_ngrams=0, piece_ngrams=(3, 3), buckets=WIDE)
    assert int(count(["a cat."], ngrams).counts.sum()) == len([" a ", " ca", "cat", "at."])
    shared = set(count(["cat sat"], ngrams).buckets) & set(count(["one cat ran"], ngrams).buckets)
    assert len(shared) == len([" ca", "cat", "at "])


def test_white_space_and_case_do_not_matter() -> None:
    ngrams = Ngrams(piece_ngrams=(3, 5))
    one, other = count(["The  cat\n\n sat"], ngrams), count(["the cat\u3000SAT"], ngrams)
    assert np.array_equal(one.buckets, other.buckets)


def test_what_was_hashed_once_is_hashed_so_for_ever() -> None:
    ngrams = Ngrams(buckets=WIDE)
    assert count(["furnace"], ngrams).buckets.tolist() == [7115704]
    assert sorted(count(["炉子"], ngrams).buckets.tolist()) == [3752599, 4893234, 10192810]


def test_a_long_text_is_read_from_its_start_only() -> None:
    ngrams = Ngrams(max_characters=100)
    assert np.array_equal(count(["a b " * 25 + "tail"], ngrams).buckets, count(["a b " * 25], ngrams).buckets)


def test_a_few_texts_at_a_time_are_counted_as_all_together() -> None:
    texts = [f"text {number} " * (number % 50 * 100) for number in range(120)]
    ngrams = Ngrams()
    made = list(counts_of(texts, ngrams))
    assert len(made) > 1
    assert sum(len(counts.starts) - 1 for counts in made) == len(texts)
    assert np.array_equal(np.concatenate([counts.buckets for counts in made]), count(texts, ngrams).buckets)
    assert list(counts_of([], ngrams)) == []


@pytest.mark.parametrize("settings_", [{"buckets": 3000}, {"piece_ngrams": [5, 3]}, {"piece_ngrams": [0, 3]}])
def test_settings_that_mean_nothing_are_refused(settings_: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Ngrams.model_validate(settings_)
