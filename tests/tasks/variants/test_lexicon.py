"""Synonyms take the place of whole words, and of nothing else."""

from __future__ import annotations

import random
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.errors import SourceError
from tasks.variants.lexicon import Lexicon
from tasks.variants.pieces import pieces_of

LEXICON = Lexicon(
    {
        "house": ("home",),
        "big": ("large",),
        "as well as": ("and",),
        "can": ("could",),
        "大": ("巨大",),
        "大学": ("高等学府",),
        "学生": ("学子",),
        "gold": ("Au",),
    }
)


def _all(text: str) -> str | None:
    return LEXICON.replaced(text, 1.0, random.Random(1))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A big house.", "A large home."),
        ("Big HOUSE, bigger Houses, doghouse", "Large HOME, bigger Houses, doghouse"),
        ("tin As well as iron, can't can", "tin And iron, can't could"),
        ("goldfish gold-leaf", "goldfish Au-leaf"),
        ("大学生在大房子里。", "高等学府生在巨大房子里。"),
        ("学生big大", "学子large巨大"),
        ("nothing here", None),
        ("", None),
    ],
)
def test_whole_words_and_the_longest_entry_with_case_kept(text: str, expected: str | None) -> None:
    assert _all(text) == expected


def test_about_the_wanted_share_is_replaced_by_chance() -> None:
    text = "big house " * 50
    made = [LEXICON.replaced(text, 0.2, random.Random(seed)) for seed in (1, 1, 2)]
    assert made[0] == made[1] != made[2]
    assert (made[0] or "").count("large") + (made[0] or "").count("home") == 20
    chinese = LEXICON.replaced("学生在" * 20, 0.1, random.Random(1))
    assert (chinese or "").count("学子") == 3, "6 of 60 characters, two for each word"


def test_lexicons_are_read_from_tsv_and_json(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("# words\n\nbig\tlarge\tgreat\n大\t巨大\nbig\thuge\tbig\n", encoding="utf-8")
    assert Lexicon.read(tmp_path / "a.tsv").entries == {"big": ("large", "great", "huge"), "大": ("巨大",)}
    (tmp_path / "a.json").write_text('{"Big": ["large"], "大": "巨大", "none": []}', encoding="utf-8")
    assert Lexicon.read(tmp_path / "a.json").entries == {"big": ("large",), "大": ("巨大",)}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.tsv", "big large", r"a\.tsv:1: 'big large' has no tab"),
        ("a.tsv", "# nothing", "no word with a synonym"),
        ("a.json", "[1]", "expected an object"),
        ("a.json", '{"a": 1}', "'a': expected a synonym"),
        ("a.json", "{", "not JSON"),
    ],
)
def test_a_faulty_lexicon_is_an_error_in_one_line(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(SourceError, match=message) as caught:
        Lexicon.read(tmp_path / name)
    assert "\n" not in str(caught.value)


@given(st.text(st.sampled_from("bighouse 大学生，.'A\n"), max_size=60), st.integers(0, 5))
def test_what_is_not_matched_stays(text: str, seed: int) -> None:
    matches = LEXICON.matches(text)
    assert all(first.end <= second.start for first, second in pairwise(matches))
    made = LEXICON.replaced(text, 1.0, random.Random(seed))
    assert (made is None) == (not matches)
    if made is not None:
        rest, end = [], 0
        for match in matches:
            rest.append(text[end : match.start])
            end = match.end
        at = 0
        for part in [*rest, text[end:]]:
            at = made.index(part, at) + len(part)


@given(st.text(st.sampled_from('ab .!?。！\n…"” '), max_size=80), st.integers(1, 20))
def test_pieces_put_together_are_the_text(text: str, room: int) -> None:
    pieces = pieces_of(text, lambda part: len(part) <= room)
    assert "".join(piece.with_text(piece.text) for piece in pieces) == text
    assert all(len(piece.text) <= room and "\n" not in piece.text for piece in pieces)


def test_pieces_are_sentences() -> None:
    text = 'It costs 3.5 pounds. "Who pays?" I asked...\n他说：“走！”然后走了。 好'
    assert [piece.text for piece in pieces_of(text, lambda part: True) if piece.text] == [
        *("It costs 3.5 pounds.", '"Who pays?"', "I asked...", "他说：“走！”", "然后走了。", "好"),
    ]
    assert len(pieces_of("." * 300_000 + "x", lambda part: True)) == 1
