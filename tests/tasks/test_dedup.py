"""Deduplication does exactly what it says, compared with every pair written out."""

from __future__ import annotations

import itertools
import json
import random
import re
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.corpus import DOCUMENTS_SCHEMA, Documents, table_of, write_table
from storage.errors import StepFailed
from tasks.dedup import Dedup
from tests.helpers import SHARED, Outcome, run_task

Row = tuple[str, str, int]
"""Id, text, first_seen."""
COMPLETE = {"recall": 1 - 1e-12}
"""With this, one row a band: pairs at the tested thresholds are missed with a probability below 1e-12."""


def _documents(folder: Path, rows: list[Row], per_partition: int = 1000, source: str = "made") -> Documents:
    made = [
        {"id": i, "text": text, "url": i, "source": source if "/" not in i else i.split("/")[0], "first_seen": first}
        for i, text, first in rows
    ]
    for number, start in enumerate(range(0, max(1, len(made)), per_partition)):
        write_table(table_of(made[start : start + per_partition], DOCUMENTS_SCHEMA), folder / f"{number:05}.parquet")
    return Documents.of_folder(folder)


def _dedup(folder: Path, rows: list[Row], name: str = "step", per_partition: int = 1000, **settings: Any) -> Outcome:
    workers = settings.pop("workers", 1)
    documents = _documents(folder / f"{name}-in", rows, per_partition)
    settings = {"max_source_loss": 1.0} | settings
    task = Dedup(documents="documents", **settings)  # type: ignore[arg-type]
    return run_task(task, {"documents": documents}, folder, name=name, workers=workers)


def _ids(outcome: Outcome) -> list[str]:
    assert isinstance(outcome.artifact, Documents)
    return [identity for table in outcome.artifact.tables() for identity in table["id"].to_pylist()]


# An independent reference: strings, sets, every pair.


def _reference_grams(text: str) -> set[tuple[str, ...]]:
    words = []
    for word in re.findall(r"\w+", unicodedata.normalize("NFKC", text).casefold()):
        for chinese, run in itertools.groupby(word, key=lambda c: "一" <= c <= "鿿"):
            letters = list(run)
            words += letters if chinese else ["".join(letters)]
    if len(words) < 5:
        return {tuple(words)} if words else set()
    return {tuple(words[at : at + 5]) for at in range(len(words) - 4)}


def _reference(rows: list[Row], similarity: float) -> set[str]:
    kept: list[tuple[str, str, set[tuple[str, ...]]]] = []
    for identity, text, _ in sorted(rows, key=lambda row: (row[2], row[0])):
        plain, grams = " ".join(unicodedata.normalize("NFKC", text).casefold().split()), _reference_grams(text)
        for _, other, others in kept:
            union = len(grams | others)
            if plain == other or (union and len(grams & others) / union >= similarity):
                break
        else:
            kept.append((identity, plain, grams))
    return {identity for identity, _, _ in kept}


_WORDS = st.lists(st.sampled_from(["one", "two", "Three", "床", "前", "明月", "４", "-", "five,"]), max_size=14)
_TEXTS = st.lists(_WORDS.map(" ".join) | _WORDS.map("".join), min_size=1, max_size=14)


@settings(max_examples=12, deadline=None)
@given(_TEXTS, st.sampled_from([0.3, 0.5, 0.8, 1.0]), st.randoms(use_true_random=False))
def test_it_equals_brute_force_in_any_order_and_partitioning(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], similarity: float, rng: random.Random
) -> None:
    # Mutated copies, so that similarities of all sizes occur.
    texts = texts + [text + " one more" for text in texts[:4]] + [text.replace("one", "two", 1) for text in texts[:4]]
    rows = [(f"{number:04}", text, rng.randint(1, 3)) for number, text in enumerate(texts)]
    folder = tmp_path_factory.mktemp("dedup")
    expected = _reference(rows, similarity)
    outcome = _dedup(folder, rows, similarity=similarity, **COMPLETE)
    assert set(_ids(outcome)) == expected
    shuffled = rng.sample(rows, len(rows))
    again = _dedup(folder, shuffled, "again", per_partition=rng.randint(1, 7), similarity=similarity, **COMPLETE)
    assert _ids(again) == [identity for identity, _, _ in shuffled if identity in expected]


def _prose(seed: int, words: int = 200) -> list[str]:
    rng = random.Random(seed)
    return ["".join(rng.choices("abcdefghij", k=rng.randint(2, 8))) for _ in range(words)]


def test_a_chain_does_not_delete_what_is_only_like_the_dropped_one(tmp_path: Path) -> None:
    a = _prose(1)
    b = [*a[20:], *_prose(2, 20)]
    c = [*b[20:], *_prose(3, 20)]
    rows = [("a", " ".join(a), 1), ("b", " ".join(b), 1), ("c", " ".join(c), 1)]
    assert _ids(_dedup(tmp_path, rows, similarity=0.75)) == ["a", "c"]
    # When b is the first, both others are copies of it.
    assert _ids(_dedup(tmp_path, [rows[0], ("b", rows[1][1], 0), rows[2]], "b-first", similarity=0.75)) == ["b"]


def test_the_earliest_is_kept_wherever_it_lies(tmp_path: Path) -> None:
    text = " ".join(_prose(1))
    rows = [("a", text, 3), ("b", text.upper(), 2), ("c", f"  {text}\n", 2), ("d", text + " extra", 5)]
    outcome = _dedup(tmp_path, rows, per_partition=1)
    assert _ids(outcome) == ["b"]
    assert outcome.result.metrics["dropped.exact"] == 2
    assert outcome.result.metrics["dropped.near"] == 1
    assert outcome.artifact.names() == [f"{number:05}.parquet" for number in range(4)]


def test_a_refresh_never_drops_what_was_there_before(tmp_path: Path) -> None:
    old = [(f"z{number}", " ".join(_prose(number)), 1) for number in range(5)]
    new = [(f"a{number}", " ".join([*_prose(number), "new"]), 2) for number in range(5)]
    assert _ids(_dedup(tmp_path, new + old)) == [identity for identity, _, _ in old]


def test_chinese_is_compared_by_characters(tmp_path: Path) -> None:
    poem = (
        "床前明月光疑是地上霜举头望明月低头思故乡" * 2 + "白日依山尽黄河入海流欲穷千里目更上一层楼春眠不觉晓处处闻啼鸟"
    )
    other = "红豆生南国春来发几枝愿君多采撷此物最相思国破山河在城春草木深感时花溅泪恨别鸟惊心烽火连三月家书抵万金"
    spaced = "，".join(poem[start : start + 5] for start in range(0, len(poem), 5))
    outcome = _dedup(
        tmp_path, [("1", poem, 1), ("2", spaced + "。", 2), ("3", poem[:-3] + "夜来风", 2), ("4", other, 2)]
    )
    assert _ids(outcome) == ["1", "4"]
    sample = outcome.result.samples[0]
    assert sample.title.startswith("copies, similarity 0.")
    assert (sample.place, sample.before_is, sample.after_is) == ("3", "kept: 1", "dropped")
    assert sample.before == poem
    assert sample.after == poem[:-3] + "夜来风"
    assert 0.8 <= float(sample.title.rsplit(" ", 1)[1]) < 1


def test_texts_without_words_are_only_copies_if_they_are_the_same(tmp_path: Path) -> None:
    rows = [
        ("1", "", 1),
        ("2", " \n", 1),
        ("3", "!!!", 1),
        ("4", "???", 1),
        ("5", "！！！", 1),
        ("6", "word", 1),
        ("7", "Word.", 1),
    ]
    assert _ids(_dedup(tmp_path, rows)) == ["1", "3", "4", "6"]


def test_large_groups_of_copies_are_cheap(tmp_path: Path) -> None:
    """Six hundred variants of one page are 180,000 pairs; only those with kept documents are compared."""
    rng = random.Random(0)
    words = _prose(0, 300)
    rows = []
    for number in range(600):
        varied = list(words)
        varied[rng.randrange(300)] = f"number{number}"
        rows.append((f"{number:05}", " ".join(varied), 1))
    outcome = _dedup(tmp_path, rows, per_partition=200, workers=2)
    assert _ids(outcome) == ["00000"]
    assert outcome.result.metrics["dropped.near"] == 599


def test_losing_most_of_a_source_fails_in_one_line(tmp_path: Path) -> None:
    copies = [(f"bad/{number}", "the same words every time again", 1) for number in range(20)]
    good = [(f"good/{number}", " ".join(_prose(number)), 1) for number in range(20)]
    with pytest.raises(
        StepFailed, match=r"19 of 20 documents of source 'bad' .*95\.0%.*max_source_loss 0\.9"
    ) as caught:
        _dedup(tmp_path, copies + good, max_source_loss=0.9)
    assert "for example bad/1 for bad/0 (the same text): 'the same words every time again'" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(_ids(_dedup(tmp_path, copies[1:] + good, "small", max_source_loss=0.9))) == 21
    assert len(_ids(_dedup(tmp_path, copies + good, "allowed", max_source_loss=0.95))) == 21
    with pytest.raises(StepFailed, match="no documents"):
        _dedup(tmp_path, [], "none")


def test_bytes_do_not_depend_on_workers(tmp_path: Path) -> None:
    rows = [(f"{number:03}", " ".join(_prose(number % 40, 60)) + " x" * (number // 40), 1) for number in range(120)]
    digests = {_dedup(tmp_path, rows, f"with-{n}", 13, workers=n).artifact.digest for n in (1, 2)}
    assert len(digests) == 1


@pytest.mark.skipif(not SHARED.exists(), reason=f"real texts are not at {SHARED}")
def test_real_poems_equal_brute_force(tmp_path: Path) -> None:
    with (SHARED / "text/tang_poems.jsonl").open(encoding="utf-8") as lines:
        poems = [json.loads(line) for line in itertools.islice(lines, 400)]
    rows = [(poem["id"], poem["text"], 1) for poem in poems]
    rows += [(poem["id"] + "b", poem["text"][5:] + "，明月", 2) for poem in poems[:100]]
    outcome = _dedup(tmp_path, rows, per_partition=64, similarity=0.7, workers=2, **COMPLETE)
    assert set(_ids(outcome)) == _reference(rows, 0.7)
    assert outcome.result.metrics["dropped.near"] > 10


def test_partitions_that_lose_nothing_stay_byte_for_byte(tmp_path: Path) -> None:
    rows = [(f"{number}", " ".join(_prose(number // 2 if number < 2 else number)), number) for number in range(6)]
    outcome = _dedup(tmp_path, rows, per_partition=2)
    assert _ids(outcome) == ["0", "2", "3", "4", "5"]
    before, after = tmp_path / "step-in", tmp_path / "step" / "output"
    same = [(before / name).read_bytes() == (after / name).read_bytes() for name in outcome.artifact.names()]
    assert same == [False, True, True]
