"""Hashes in columns stand for the words and 5-grams that strings give."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from tasks.copies.characters import Characters, normalised
from tasks.copies.shingles import Words, jaccard, shingles_of, windows_of, words_of

_TEXTS = st.lists(
    st.text(st.characters(exclude_categories=("Cs",)), max_size=40)
    | st.lists(st.sampled_from(["one", "Two", "床前", "明", "-", "ﬁ", "x_1", "é"]), max_size=12).map(" ".join),
    max_size=5,
)


def _grams(text: str) -> set[tuple[str, ...]]:
    words = words_of(normalised(text))
    if len(words) < 5:
        return {tuple(words)} if words else set()
    return {tuple(words[at : at + 5]) for at in range(len(words) - 4)}


@given(_TEXTS)
def test_words_are_hashed_where_they_stand(texts: list[str]) -> None:
    plain = [normalised(text) for text in texts]
    characters = Characters.of(plain)
    words = Words.of(characters)
    joined = "".join(map(chr, characters.folded.tolist()))
    expected = [words_of(text) for text in characters.plain_texts()]
    spelt = [joined[begin:end] for begin, end in zip(words.begins.tolist(), words.ends.tolist(), strict=True)]
    assert [spelt[a:b] for a, b in itertools.pairwise(words.starts.tolist())] == expected
    # The same word has the same hash wherever it stands, and different words have different ones.
    assert (
        len(set(words.hashes.tolist())) == len(set(spelt)) == len(set(zip(spelt, words.hashes.tolist(), strict=True)))
    )


@given(_TEXTS)
def test_shingles_are_sets_of_word_5_grams(texts: list[str]) -> None:
    texts = [normalised(text) for text in texts]
    texts = [text for text in texts if normalised(text) == text]
    sets = shingles_of(texts)
    assert [len(members) for members in sets] == [len(_grams(text)) for text in texts]
    assert all((members[1:] > members[:-1]).all() for members in sets)
    for (a, first), (b, second) in itertools.combinations(zip(texts, sets, strict=True), 2):
        union = len(_grams(a) | _grams(b))
        assert jaccard(first, second) == (len(_grams(a) & _grams(b)) / union if union else 0)


def test_shingles_of_many_texts_are_those_of_each() -> None:
    texts = ["a b c d e f g", "a b", "", "床前明月光，疑是地上霜", "a b c d e a b c d e", "x a b c d e y"] * 3000
    together = shingles_of(texts)
    for text, members in zip(texts[:6], together[-6:], strict=True):
        assert members.tolist() == shingles_of([text])[0].tolist()


def test_windows_of_one_word_and_of_many() -> None:
    words = Words.of(Characters.normalised(["a b a", "", "c"]))
    ones, starts = windows_of(words, 1)
    assert starts.tolist() == [0, 3, 3, 4]
    assert ones[0] == ones[2] != ones[1]
    _, starts = windows_of(words, 3)
    assert starts.tolist() == [0, 1, 1, 2]


def test_a_word_of_a_million_characters_is_one_word() -> None:
    long = "x" * 1_000_000
    first, second, third = shingles_of([long, long + "x", long])
    assert len(first) == len(second) == 1
    assert first[0] == third[0] != second[0]
