"""Two texts side by side lose nothing, mark what differs, and never take long."""

from __future__ import annotations

import html
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.page.differences import marked, related, rows

WORDS = st.lists(
    st.sampled_from(["the ", "cat ", "sat, ", "炉", "火", "。", "\n", "\n\n", "• x\n", " ", "<b>"]), max_size=60
)


def plain(markup: str) -> str:
    return html.unescape(re.sub(r"</?(?:del|ins)>", "", markup))


@settings(max_examples=200, deadline=None)
@given(WORDS, WORDS)
def test_both_texts_are_there_whole_and_in_order(one: list[str], other: list[str]) -> None:
    before, after = "".join(one), "".join(other)
    found = rows(before, after)
    assert plain("".join(row.before for row in found)) == before
    assert plain("".join(row.after for row in found)) == after
    left, right = marked(before, after)
    assert (plain(left), plain(right)) == (before, after)


def test_the_words_that_changed_are_marked() -> None:
    found = rows("Write to me@example.org today.\nSame line.\n", "Write to <EMAIL> today.\nSame line.\n")
    assert [row.kind for row in found] == ["changed", "same"]
    assert found[0].before == "Write to <del>me@example.org</del> today.\n"
    assert found[0].after == "Write to <ins>&lt;EMAIL&gt;</ins> today.\n"


def test_chinese_is_compared_by_the_character() -> None:
    left, right = marked("炉火要保持均匀的温度", "炉火须保持温度")
    assert left == "炉火<del>要</del>保持<del>均匀的</del>温度"
    assert right == "炉火<ins>须</ins>保持温度"


def test_lines_left_out_are_removed_as_a_whole_and_bullets_do_not_count() -> None:
    found = rows("Menu\nHome\n• The story begins.\nIt ends.\n", "The story begins.\nIt ends.")
    assert [(row.kind, row.before) for row in found] == [
        ("removed", "Menu\nHome\n"),
        ("same", "• The story begins.\nIt ends.\n"),
    ]


def test_a_word_that_both_have_by_chance_does_not_part_a_change() -> None:
    left, right = marked("alpha beta gamma delta the one two three four", "red green blue pink the up down left right")
    assert left == "<del>alpha beta gamma delta the one two three four</del>"
    assert right == "<ins>red green blue pink the up down left right</ins>"


def test_behind_the_place_where_a_text_was_cut_nothing_is_said_to_differ() -> None:
    found = rows("Menu\nThe story.\nand so on\n[… 120 characters more]", "The story.\n")
    assert [row.kind for row in found] == ["removed", "same", "unknown"]


@pytest.mark.parametrize(("one", "other"), [("啊" * 9_000, "啊" * 8_999), ("a b " * 4_000, "b a " * 4_000)])
def test_texts_that_would_take_long_are_changed_altogether(one: str, other: str) -> None:
    assert [row.kind for row in rows(one, other)] == ["changed"]
    assert marked(one, other) == (f"<del>{one}</del>", f"<ins>{other}</ins>")


def test_two_versions_of_one_text_are_told_from_two_texts() -> None:
    story = "The furnace keeps an even heat for weeks.\nIt is fed once.\n"
    assert related(rows("Menu\nHome\nNews\nShop\n" * 50 + story, story))
    assert related(rows(story, story.replace("weeks", "days").replace("once", "twice")))
    assert not related(rows("What is the capital of France, and since when?", "Paris\nsince 987"))
    assert related(rows("all of it was left out", ""))
    assert not related(rows("Question?\n", "Answer.\n\nMore of it.\n"))
