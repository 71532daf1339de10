"""Every word of a normalised text has a place in the text itself."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from tasks.copies.characters import Characters, normalised
from tasks.copies.shingles import Words, words_of
from tasks.overlap.spans import merged, pieces_around, spans_of_words

TEXTS = st.text(
    st.one_of(
        st.sampled_from("aB ﬁ①㈱™İß\u0301\u3000\u200b金丹カﾊﾞｱー_-,.\n가각ᄀ\u1161İ"),
        st.characters(exclude_categories=("Cs",)),
    ),
    max_size=40,
)


@given(TEXTS)
def test_there_is_a_span_for_every_word(text: str) -> None:
    spans = spans_of_words(text)
    assert len(spans) == len(words_of(normalised(text))) == len(Words.of(Characters.normalised([text])).hashes)
    assert all(0 <= start < end <= len(text) for start, end in spans)
    assert [start for start, _ in spans] == sorted(start for start, _ in spans)


def test_spans_are_as_narrow_as_can_be() -> None:
    text = "The ﬁne ＧＯＬＤ, 炼金术①, a㈱b and カﾊﾞ!"
    found = [text[start:end] for start, end in spans_of_words(text)]
    assert words_of(normalised(text)) == [
        *("the", "fine", "gold", "炼", "金", "术", "1", "a", "株", "b", "and", "カ", "バ"),
    ]
    assert found[:7] == ["The", "ﬁne", "ＧＯＬＤ", "炼", "金", "术", "①"]
    assert found[7:11] == ["a", "㈱", "b", "and"]


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 6)), max_size=8))
def test_merged_spans_cover_the_same_characters(pairs: list[tuple[int, int]]) -> None:
    spans = [(start, start + length) for start, length in pairs]
    union = merged(spans)
    assert {at for start, end in spans for at in range(start, end)} == {
        at for start, end in union for at in range(start, end)
    }
    assert all(first[1] < second[0] for first, second in pairwise(union))


def test_pieces_end_at_white_space_where_it_is_near() -> None:
    text = "one two three four five six seven"
    start = text.index("four")
    assert pieces_around(text, [(start, start + 4)], 0) == ["one two three", "five six seven"]
    assert pieces_around(text, [(start, start + 4)], 3) == ["one two", "six seven"]
    assert pieces_around("甲" * 200, [(100, 101)], 9) == ["甲" * 91, "甲" * 90]
    assert pieces_around(text, [(0, len(text))], 5) == []
