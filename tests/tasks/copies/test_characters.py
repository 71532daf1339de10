"""The column of folded characters equals what unicodedata says of each text by itself."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.batches import batches
from tasks.copies.characters import ALONE, BATCH_CHARACTERS, LETTER, SPACE, Characters, normalised

TEXTS = st.lists(
    st.text(st.characters(exclude_categories=("Cs",)), max_size=30)
    | st.text(st.sampled_from("aA b\n ﬁ½é\u0301ßİÅ가각ᄀ\u1161\u11a8ｱﾞ床前。，\u3000__4４เดิ\u0345\u200f"), max_size=20),
    max_size=6,
)


@given(TEXTS)
def test_folding_in_columns_is_normalisation(texts: list[str]) -> None:
    plain = Characters.normalised(texts).plain_texts()
    for text, folded in zip(texts, plain, strict=True):
        once = normalised(text)
        # Case folding can leave what would be folded further; such characters may be either way.
        assert folded == once or normalised(once) != once


@given(TEXTS)
def test_a_text_does_not_depend_on_its_neighbours(texts: list[str]) -> None:
    alone = [Characters.normalised([text]).plain_texts()[0] for text in texts]
    assert Characters.normalised(texts).plain_texts() == alone


def test_every_character_folds_as_unicodedata_says() -> None:
    """All but the bulk of Chinese characters and Hangul, which are all alike."""
    points = [*range(0x20, 0x3500), *range(0xA000, 0xAD00), *range(0xF900, 0x12000), *range(0x16D00, 0x1F200)]
    texts = [f"a {chr(point)}b" for point in points]
    for batch in batches(texts, len, BATCH_CHARACTERS):
        for text, folded in zip(batch, Characters.normalised(batch).plain_texts(), strict=True):
            once = normalised(text)
            assert folded == once or normalised(once) != once, text


@pytest.mark.parametrize(
    ("text", "classes"),
    [
        ("a_1é", [LETTER] * 4),
        ("床の", [ALONE, ALONE]),
        (" \n\u3000\u00a0", [SPACE] * 4),
        ("ＡＢ", [LETTER] * 2),
    ],
)
def test_classes(text: str, classes: list[int]) -> None:
    characters = Characters.of([text])
    assert characters.classes.tolist() == [*classes, SPACE]
    assert characters.starts.tolist() == [0, len(text) + 1]


def test_lone_surrogates_pass() -> None:
    assert Characters.normalised(["a\ud800B", ""]).plain_texts() == ["a\ud800b", ""]


def test_texts_left_as_they_are_keep_their_length() -> None:
    text = "ﬁne ½ e\u0301"
    assert len(Characters.of([text]).folded) == len(text) + 1
    assert Characters.normalised([text]).plain_texts() == [unicodedata.normalize("NFKC", text)]
