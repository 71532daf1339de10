"""Decontamination finds exactly the n-grams in common, compared with sets of tuples."""

from __future__ import annotations

import itertools
import random
import re
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.artifact import Artifact
from storage.corpus import Documents
from storage.errors import SourceError, StepFailed
from tasks.decontaminate import Decontaminate
from tests.helpers import Outcome, run_task
from tests.made import made_examples
from tests.tasks.corpora import make_documents, rows_of

ENGLISH = ["furnace", "salt", "the", "of", "gold"]
CHINESE = list("丹炉火候金")
PROSE = [f"filler{number}" for number in range(400)]


def _run(folder: Path, documents: Artifact, sets: dict[str, Artifact], name: str = "step", **settings: Any) -> Outcome:
    workers = settings.pop("workers", 1)
    task = Decontaminate(documents="documents", against=tuple(sets), **settings)
    inputs = {"documents": documents} | {f"against[{at}]": opened for at, opened in enumerate(sets.values())}
    return run_task(task, inputs, folder, name=name, workers=workers)


def _texts(outcome: Outcome) -> dict[str, str]:
    assert isinstance(outcome.artifact, Documents)
    return {url: str(row["text"]) for url, row in rows_of(outcome.artifact).items()}


# An independent reference: strings, sets, every window.


def _words(text: str) -> list[str]:
    words = []
    for word in re.findall(r"\w+", unicodedata.normalize("NFKC", text).casefold()):
        for chinese, run in itertools.groupby(word, key=lambda c: "一" <= c <= "鿿"):
            letters = list(run)
            words += letters if chinese else ["".join(letters)]
    return words


def _grams(items: list[str], length: int, shortest: int) -> set[tuple[str, ...]]:
    grams = set()
    for words in map(_words, items):
        if len(words) >= length:
            grams |= {tuple(words[at : at + length]) for at in range(len(words) - length + 1)}
        elif len(words) >= shortest:
            grams.add(tuple(words))
    return grams


def _overlaps(text: str, grams: set[tuple[str, ...]]) -> bool:
    words = _words(text)
    lengths = {len(gram) for gram in grams}
    return any(tuple(words[at : at + n]) in grams for n in lengths for at in range(len(words) - n + 1))


def _random_texts(rng: random.Random, count: int, longest: int) -> list[str]:
    texts = []
    for _ in range(count):
        vocabulary = rng.choice([ENGLISH, ENGLISH[:3] + PROSE[:2], [*CHINESE, "，", "gold "]])
        join = "" if vocabulary[0] == CHINESE[0] else rng.choice([" ", " ", ", ", "\n"])
        words = [rng.choice(vocabulary) for _ in range(rng.randint(longest // 3, longest))]
        texts.append(join.join(word.title() if rng.random() < 0.2 else word for word in words) or "x")
    return texts


@pytest.mark.parametrize(("length", "shortest"), [(4, 4), (5, 2), (3, 1)])
def test_the_documents_with_an_ngram_in_common_are_dropped_and_no_others(
    tmp_path: Path, length: int, shortest: int
) -> None:
    rng = random.Random(length)
    texts = {f"{number}": text for number, text in enumerate(_random_texts(rng, 300, 40))}
    items = _random_texts(rng, 12, 8)
    documents = make_documents(tmp_path / "in", [dict(list(texts.items())[start::3]) for start in range(3)])
    against = make_documents(tmp_path / "against", [{str(n): item for n, item in enumerate(items)}])
    outcome = _run(tmp_path, documents, {"exam": against}, ngram_words=length, short_item_words=shortest, workers=2)
    grams = _grams(items, length, shortest)
    clean = {url for url, text in texts.items() if not _overlaps(text, grams)}
    assert 20 < len(clean) < 280
    assert set(_texts(outcome)) == clean
    assert all(texts[url] == text for url, text in _texts(outcome).items())
    metrics = outcome.result.metrics
    assert metrics["dropped.overlap"] == metrics["contaminated"] == metrics["contaminated.exam"] == 300 - len(clean)


@pytest.mark.parametrize("length", [3, 4])
def test_what_is_left_of_cut_documents_has_no_overlap(tmp_path: Path, length: int) -> None:
    rng = random.Random(length)
    texts = {f"{number}": text for number, text in enumerate(_random_texts(rng, 200, 60))}
    items = _random_texts(rng, 4, 6)
    documents = make_documents(tmp_path / "in", [texts])
    against = make_documents(tmp_path / "against", [{str(n): item for n, item in enumerate(items)}])
    settings = {"margin_characters": 0, "piece_characters": 8, "max_pieces": 1000, "short_item_words": 2}
    outcome = _run(tmp_path, documents, {"exam": against}, action="cut", ngram_words=length, **settings)
    grams = _grams(items, length, 2)
    kept, metrics = _texts(outcome), outcome.result.metrics
    assert not any(_overlaps(text, grams) for text in kept.values())
    for url, text in texts.items():
        if not _overlaps(text, grams):
            assert kept[url] == text
        elif url in kept:
            assert all(piece in text for piece in kept[url].split("\n\n"))
            assert len(kept[url]) >= 8
    assert metrics["cut"] > 20
    assert metrics["cut"] + metrics.get("dropped.overlap.nothing_left", 0) == metrics["contaminated"]
    assert metrics["characters_cut"] == sum(len(texts[url]) - len(text) for url, text in kept.items())


QUESTION = "Which of the two metals was thought to be the mother of all others by alchemists?"
ZH_QUESTION = "炼丹术士认为哪一种金属是其他一切金属之母？"


def _prose(seed: int, words: int) -> str:
    rng = random.Random(seed)
    return " ".join(rng.choice(PROSE) for _ in range(words))


def test_a_passage_is_cut_with_its_margin_and_shown_beside_the_item(tmp_path: Path) -> None:
    before, after = _prose(1, 80), _prose(2, 80)
    zh = "春眠不觉晓处处闻啼鸟夜来风雨声花落知多少" * 20
    texts = {
        "en": f"{before} {QUESTION.upper()} {after}",
        "zh": f"{zh}{ZH_QUESTION.replace('？', '')}{zh}",
        "clean": before,
    }
    documents = make_documents(tmp_path / "in", [texts])
    exam = made_examples(tmp_path / "exam", {"train": [(QUESTION, "mercury")], "validation": [(ZH_QUESTION, "汞")]})
    outcome = _run(tmp_path, documents, {"exam": exam}, action="cut", margin_characters=20, piece_characters=100)
    kept = _texts(outcome)
    assert kept["clean"] == before
    first, second = kept["en"].split("\n\n")
    assert before.startswith(first)
    assert after.endswith(second)
    for rest, whole in ((first, before), (second, after)):
        missing = len(whole) - len(rest)
        assert 19 <= missing <= 19 + 12, "the margin, up to the next space"
    assert kept["zh"] == f"{zh[:-20]}\n\n{zh[20:]}"
    metrics = outcome.result.metrics
    assert metrics["contaminated.exam"] == metrics["cut"] == metrics["items.exam"] == 2
    # Of the question the last sign is no part of a word.
    assert metrics["overlap_characters.exam"] == len(QUESTION) - 1 + len(ZH_QUESTION) - 1
    shown = {sample.place: sample for sample in outcome.result.samples if sample.title == "overlaps exam"}
    assert f"⟦{QUESTION[:-1].upper()}⟧" in shown["en"].before
    assert (shown["en"].after or "").startswith(QUESTION)
    assert f"⟦{ZH_QUESTION[:-1]}⟧" in shown["zh"].before
    cut = next(sample for sample in outcome.result.samples if sample.title == "cut" and sample.place == "en")
    assert QUESTION.upper() in cut.before
    assert first[-50:] in (cut.after or "")
    assert second[:50] in (cut.after or "")


def test_documents_in_too_many_pieces_or_with_nothing_left_are_dropped(tmp_path: Path) -> None:
    many = " ".join(f"{_prose(number, 40)} {QUESTION}" for number in range(4))
    documents = make_documents(tmp_path / "in", [{"many": many, "only": QUESTION, "clean": _prose(9, 9)}])
    exam = made_examples(tmp_path / "exam", {"train": [(QUESTION, "mercury")], "validation": []})
    outcome = _run(tmp_path, documents, {"exam": exam}, action="cut", margin_characters=10, max_pieces=3)
    assert set(_texts(outcome)) == {"clean"}
    assert outcome.result.metrics["dropped.overlap.pieces"] == 1
    assert outcome.result.metrics["dropped.overlap.nothing_left"] == 1
    more = _run(tmp_path, documents, {"exam": exam}, "more", action="cut", margin_characters=10, max_pieces=4)
    assert set(_texts(more)) == {"many", "clean"}


def test_the_template_of_prompts_is_no_part_of_a_question(tmp_path: Path) -> None:
    questions = [
        "Who first made white phosphorus from urine, and where?",
        "What is the triple point of water in kelvin?",
    ]
    exam = made_examples(
        tmp_path / "exam",
        {"train": [(f"Question: {q}\nAnswer: ", a) for q, a in zip(questions, ["Brand", "273.16"], strict=True)]}
        | {"validation": []},
    )
    texts = {
        "leak": f"A quiz asked: {questions[0]} Nobody knew.",
        "answered": f"{questions[1]} 273.16!",
        "clean": "Question: who knows? Answer: nobody knows that, nor what the question was for.",
    }
    documents = make_documents(tmp_path / "in", [texts])
    assert set(_texts(_run(tmp_path, documents, {"exam": exam}))) == {"clean"}


def test_splits_and_sets_are_counted_apart(tmp_path: Path) -> None:
    first, second = _prose(1, 14), _prose(2, 14)
    exam = made_examples(tmp_path / "exam", {"train": [(first, "a")], "validation": [(second, "b")]})
    book = make_documents(tmp_path / "book", [{"book": f"{second} {_prose(3, 30)}"}])
    documents = make_documents(tmp_path / "in", [{"1": first, "2": f"x {second}"}, {"3": _prose(4, 30)}])
    both = _run(tmp_path, documents, {"exam": exam, "book": book}, "both")
    assert set(_texts(both)) == {"3"}
    assert both.result.metrics["contaminated.exam"] == 2
    assert both.result.metrics["contaminated.book"] == 1
    held_out = _run(tmp_path, documents, {"exam": exam, "book": book}, "held out", splits=["validation"])
    assert set(_texts(held_out)) == {"1", "3"}
    assert held_out.result.metrics["contaminated.exam"] == 1


def test_common_ngrams_can_be_ignored(tmp_path: Path) -> None:
    licence, leak = _prose(1, 13), _prose(2, 13)
    texts = {f"{number}": f"{licence} {_prose(10 + number, 20)}" for number in range(5)}
    texts |= {"leak": leak, "leak2": f"{leak} again"}
    parts = [dict(list(texts.items())[:4]), dict(list(texts.items())[4:])]
    documents = make_documents(tmp_path / "in", parts)
    exam = make_documents(tmp_path / "exam", [{"1": licence, "2": leak}])
    with pytest.raises(StepFailed, match="none of 7 documents left"):
        _run(tmp_path, documents, {"exam": exam})
    outcome = _run(tmp_path, documents, {"exam": exam}, "ignoring", common_in=4)
    assert set(_texts(outcome)) == set("01234")
    assert outcome.result.metrics["common_ngrams_ignored"] == 1
    all_ignored = _run(tmp_path, documents, {"exam": exam}, "all", common_in=1)
    assert len(_texts(all_ignored)) == 7


def test_bytes_depend_on_neither_workers_nor_partitions_of_the_set(tmp_path: Path) -> None:
    rng = random.Random(5)
    texts = {f"{number}": text for number, text in enumerate(_random_texts(rng, 100, 40))}
    items = {str(n): item for n, item in enumerate(_random_texts(rng, 10, 8))}
    documents = make_documents(tmp_path / "in", [texts])
    digests = set()
    for workers, parts in ((1, [items]), (2, [dict(list(items.items())[n::2]) for n in range(2)])):
        against = make_documents(tmp_path / f"against{workers}", parts)
        outcome = _run(
            tmp_path, documents, {"exam": against}, f"w{workers}", ngram_words=4, short_item_words=4, workers=workers
        )
        digests.add(outcome.artifact.digest)
        row = next(iter(rows_of(outcome.artifact).values()))  # type: ignore[arg-type]
        assert row["license"] == "CC0"
        assert row["metadata"] == '{"title":"t"}'
    assert len(digests) == 1


def test_a_set_with_nothing_to_look_for_is_an_error_in_one_line(tmp_path: Path) -> None:
    documents = make_documents(tmp_path / "in", [{"1": "text"}])
    exam = made_examples(tmp_path / "exam", {"train": [("too short", "a")], "validation": []})
    with pytest.raises(SourceError, match=r"none of the 1 items of exam has 8 words.*short_item_words"):
        _run(tmp_path, documents, {"exam": exam})
    with pytest.raises(ValueError, match="short_item_words 8 is more than ngram_words 5"):
        Decontaminate(documents="d", against=["exam"], ngram_words=5)
    with pytest.raises(ValueError, match="'exam' is taken twice"):
        Decontaminate(documents="d", against=["exam", "exam"])


@given(st.lists(st.lists(st.sampled_from("abcdef"), min_size=1, max_size=8), min_size=1, max_size=6))
def test_template_of_prompts(prompts: list[list[str]]) -> None:
    from tasks.overlap.items import template_of

    before, after = template_of(prompts)
    assert all(words[:before] == prompts[0][:before] for words in prompts)
    assert all(words[len(words) - after :] == prompts[0][len(prompts[0]) - after :] for words in prompts)
    shortest = min(map(len, prompts))
    assert before + after <= shortest
    if len({tuple(words) for words in prompts}) > 1 and before < shortest:
        assert len({words[before] for words in prompts}) > 1, "no longer beginning is common"
