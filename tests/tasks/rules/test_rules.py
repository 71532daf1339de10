"""Vectorised rules against the plain loops of ``reference``, on made texts of every kind."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.mixing import mixed
from tasks.rules import RULES
from tasks.rules.batch import Batch
from tasks.rules.hashes import counts_at_least, repeats
from tasks.rules.runs import Runs
from tasks.rules.words import split_chunk
from tests.helpers import SHARED
from tests.tasks.rules import reference

PROSE = """
the of and to be that have with furnace was kept alive for weeks by an old master who had patience don't e.g.
“quoted” (brackets), well-known and/or U.S. #tag ... – 12:30 $5.00 3km C++ self.name https://example.org/a-b x=y
javascript privacy policy { lorem ipsum [12] [edit] naïve café :-) ** 1,000 *list* end. Really? Yes! done...
"""
WORDS = PROSE.split()
TEXTS = [WORDS[:18], WORDS, ["a", "b", "ab", "ba", "."], ["春", "天", "到了。", "the", "，", "end."]]


def made(seed: int) -> str:
    """A text of random words, lines and paragraphs; some repeat a lot."""
    draw = random.Random(seed)
    words = draw.choice(TEXTS)
    lines: list[str] = []
    for _ in range(draw.randrange(1, 30)):
        if lines and draw.random() < 0.25:
            lines.append(draw.choice(lines))
        elif draw.random() < 0.15:
            lines.append(draw.choice(["", "  ", "\t"]))
        else:
            start = draw.choice(["", "", "", "- ", "• ", "  "])
            end = draw.choice(["", ".", ".", "...", "!", '"', " "])
            lines.append(start + " ".join(draw.choices(words, k=draw.randrange(0, 25))) + end)
    return draw.choice(["\n", "\n", "\n\n"]).join(lines)


TEXTS_MADE = [made(seed) for seed in range(400)]
ENGLISH = [text for text in TEXTS_MADE if text.strip() and not any("\u4e00" <= c <= "\u9fff" for c in text)]


def reasons(name: str, texts: list[str]) -> list[set[str]]:
    judged = RULES[name]().judge(Batch(texts, ["en"] * len(texts)))
    return [{fault for fault, mask in judged.faults.items() if mask[i]} for i in range(len(texts))]


def test_gopher_agrees_with_loops() -> None:
    expected = [reference.gopher_quality(text) | reference.gopher_repetition(text) for text in ENGLISH]
    assert reasons("gopher", ENGLISH) == expected
    assert len({frozenset(found) for found in expected}) > 20  # the texts have faults of all kinds


def test_fineweb_agrees_with_loops() -> None:
    assert reasons("fineweb", ENGLISH) == [reference.fineweb(text) for text in ENGLISH]


def test_c4_agrees_with_loops() -> None:
    judged = RULES["c4"]().judge(Batch(ENGLISH, ["en"] * len(ENGLISH)))
    dropped = np.logical_or.reduce(list(judged.faults.values()))
    assert judged.texts is not None
    for index, text in enumerate(ENGLISH):
        is_dropped, kept = reference.c4(text)
        assert bool(dropped[index]) == is_dropped
        if not is_dropped:
            lines = judged.texts.get(index, text).split("\n")
            assert [line.strip() for line in lines if line.strip()] == [line.strip() for line in kept.split("\n")]


def test_sentences_agree_with_a_loop() -> None:
    lines = [line for text in ENGLISH for line in text.split("\n")]
    assert Batch(lines).sentences_of_lines.tolist() == [reference.sentences(line) for line in lines]


def test_a_verdict_does_not_depend_on_the_other_documents() -> None:
    for name in ("gopher", "c4", "fineweb", "characters"):
        together = reasons(name, TEXTS_MADE[:60])
        assert together == [found for text in TEXTS_MADE[:60] for found in reasons(name, [text])]
        assert together == list(reversed(reasons(name, TEXTS_MADE[:60][::-1])))


@settings(deadline=None)
@given(st.lists(st.lists(st.sampled_from(["a", "bb", "ccc", "ab", "b"]), max_size=60), min_size=1, max_size=3),
       st.integers(2, 10))  # fmt: skip
def test_runs_agree_with_loops(documents: list[list[str]], n: int) -> None:
    runs = Runs.of(Batch([" ".join(words) for words in documents]))
    top = [reference.in_top_run(words, n) for words in documents]
    repeated = [reference.in_repeated_runs(words, n) for words in documents]
    assert runs.in_top_run(n, n - 1).tolist() == top
    everything = np.arange(len(documents))
    assert runs.in_repeated_runs(n, everything, np.full(len(documents), np.inf)).tolist() == repeated
    assert (runs.most_in_top_runs([(2, 1), (n, n - 1)])[1] >= top).all()
    assert (runs.most_in_repeated_runs(n) >= repeated).all()


@given(st.lists(st.lists(st.integers(0, 30), max_size=400), max_size=4))
def test_repeats_of_codes_in_segments(segments: list[list[int]]) -> None:
    codes = np.array([number for numbers in segments for number in numbers], dtype=np.uint64)
    bounds = np.cumsum([0, *map(len, segments)])
    numbered = [(int(start), place, numbers) for start, numbers in zip(bounds, segments, strict=False)
                for place in range(len(numbers))]  # fmt: skip
    expected = {start + place: start + first for start, place, numbers in numbered
                if (first := numbers.index(numbers[place])) < place}  # fmt: skip
    for made in (codes, mixed(codes), codes << np.uint64(50)):
        again, first = repeats(made, bounds)
        assert dict(zip(again.tolist(), first.tolist(), strict=True)) == expected
        assert again.tolist() == sorted(again)
        counted = [numbers.count(numbers[place]) for _, place, numbers in numbered]
        assert (counts_at_least(made, bounds) >= counted).all()


def test_a_run_of_chinese_is_as_many_letters_as_its_words_have() -> None:
    batch = Batch(["春眠不觉晓处处闻啼鸟。" * 8 + "夜来风雨声花落知多少", "plain English text"])
    assert batch.is_unspaced.tolist() == [True, False]
    assert batch.pieces_per_word[0] == pytest.approx(1.6)
    assert RULES["repeated_words"]().judge(batch).faults["repeated_words"].tolist() == [True, True]


@pytest.mark.parametrize(
    ("chunk", "words"),
    [
        ("word", ["word"]),
        ("word,", ["word", ","]),
        ("don't", ["do", "n't"]),
        ("“Don’t!”", ["“", "Do", "n’t", "!", "”"]),
        ("e.g.,", ["e.g.", ","]),
        ("well-known", ["well", "-", "known"]),
        ("https://example.org/a-b.", ["https://example.org/a-b", "."]),
        ("std::vector<int>", ["std::vector", "<", "int", ">"]),
        ("10km", ["10", "km"]),
        ("U.S.", ["U.S."]),
        ("end.Start", ["end", ".", "Start"]),
        ("C++", ["C++"]),
        ("(x:)", ["(", "x", ":)"]),
    ],
)
def test_words_of_a_chunk(chunk: str, words: list[str]) -> None:
    assert list(split_chunk(chunk)) == words


def test_words_are_those_of_the_tokenizer_that_the_published_filters_used() -> None:
    spacy = pytest.importorskip("spacy", reason="spaCy comes with the extra `bench`")
    tokenizer = spacy.blank("en").tokenizer
    chunks = {chunk for text in TEXTS_MADE for chunk in text.split()}
    for path in (SHARED / "text" / "war_and_peace.txt", *Path(__file__).parents[3].glob("docs/*.md")):
        if path.exists():
            chunks.update(path.read_text(encoding="utf-8")[:150_000].split())
    # Letters and signs at random, too.
    draw = random.Random(5)
    chunks.update("".join(draw.choices("aB1.,-:'()/=#_~…“é", k=draw.randrange(1, 9))) for _ in range(2_000))
    different = [c for c in sorted(chunks) if [token.text for token in tokenizer(c)] != list(split_chunk(c))]
    assert different == []


@given(st.text(st.characters(exclude_categories=["Cs", "Z"]), min_size=1, max_size=40))
def test_the_words_of_any_chunk_joined_are_the_chunk(text: str) -> None:
    for chunk in text.split():
        assert "".join(split_chunk(chunk)) == chunk


def test_hostile_text_takes_no_time_and_does_no_harm() -> None:
    texts = ["a" * 1_000_000, "=" * 100_000, "\u202e\u200f" * 5_000, "a@" * 20_000, "-." * 30_000, "\n" * 50_000, ""]
    for name in ("gopher", "c4", "fineweb", "characters"):
        assert len(reasons(name, texts)) == len(texts)
