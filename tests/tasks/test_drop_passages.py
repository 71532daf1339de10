"""Cutting repeated passages does exactly what it says, compared with plain sets."""

from __future__ import annotations

import random
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.corpus import DOCUMENTS_SCHEMA, Documents, table_of, write_table
from storage.errors import StepFailed
from tasks.copies import passages
from tasks.copies.characters import normalised
from tasks.copies.passages import without
from tasks.copies.shingles import words_of
from tasks.drop_passages import DropPassages
from tests.helpers import Outcome, run_task

Row = tuple[str, str, int]
"""URL (also the id), text, first_seen."""
_NAVIGATION = "Home | News | About us | Contact the editors"


def _run(folder: Path, rows: list[Row], name: str = "step", per_partition: int = 1000, **fields: Any) -> Outcome:
    made = [
        {"id": url, "text": text, "url": url, "source": "made", "first_seen": first, "title": f"title of {url}"}
        for url, text, first in rows
    ]
    for number, start in enumerate(range(0, max(1, len(made)), per_partition)):
        table = table_of(made[start : start + per_partition], DOCUMENTS_SCHEMA)
        write_table(table, folder / f"{name}-in" / f"{number:05}.parquet")
    documents = Documents.of_folder(folder / f"{name}-in")
    workers = fields.pop("workers", 1)
    task = DropPassages(documents="documents", **({"max_source_loss": 1.0} | fields))  # type: ignore[arg-type]
    return run_task(task, {"documents": documents}, folder, name=name, workers=workers)


def _texts(outcome: Outcome) -> dict[str, str]:
    assert isinstance(outcome.artifact, Documents)
    rows = [row for table in outcome.artifact.tables() for row in table.to_pylist()]
    assert all(row["title"] == f"title of {row['id']}" for row in rows)
    return {row["id"]: row["text"] for row in rows}


# References: strings and sets, no columns


def _host(url: str) -> str:
    found = re.match(r"https?://([^/]+)/", url)
    return found.group(1) if found else ""


def _lines_reference(rows: list[Row], least: int, keep_first: bool) -> dict[str, str]:
    holders: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    for url, text, _ in sorted(rows, key=lambda row: (row[2], row[0])):
        for line in {normalised(line) for line in text.split("\n")}:
            holders[_host(url), line].append(url)
    result = {}
    for url, text, _ in rows:
        lines = []
        for line in text.split("\n"):
            mine = holders[_host(url), normalised(line)]
            cut = len(mine) >= least and not (keep_first and mine[0] == url)
            if not (cut and words_of(normalised(line)) and len(normalised(line)) >= 3):
                lines.append(line)
        if lines == text.split("\n"):
            result[url] = text
        elif any(line.strip() for line in lines):
            result[url] = "\n".join(lines)
    return result


def _squeezed(texts: dict[str, str]) -> dict[str, list[str]]:
    return {url: [line.strip() for line in text.split("\n") if line.strip()] for url, text in texts.items()}


_LINES = st.sampled_from(["one", "Two ", "ＴＷＯ", "three four", "}", "ab", "", "五六七", "  indented", "é t"])
_PAGES = st.lists(st.lists(_LINES, max_size=6).map("\n".join), min_size=1, max_size=12)


@settings(max_examples=15, deadline=None)
@given(_PAGES, st.integers(2, 4), st.sampled_from(["first", "none"]), st.randoms(use_true_random=False))
def test_lines_equal_the_reference_in_any_order_and_partitioning(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], least: int, keep: str, rng: random.Random
) -> None:
    texts = ["always the same", *texts]
    rows = [
        (f"https://{rng.choice('ab')}.org/{number:03}", text, rng.randint(1, 2)) for number, text in enumerate(texts)
    ] + [("https://c.org/", "something of its own", 1)]
    folder = tmp_path_factory.mktemp("passages")
    fields = {"min_documents": least, "keep": keep, "min_characters": 3}
    outcome = _run(folder, rows, **fields)
    assert _squeezed(_texts(outcome)) == _squeezed(_lines_reference(rows, least, keep == "first"))
    again = _run(folder, rng.sample(rows, len(rows)), "again", rng.randint(1, 5), **fields)
    assert _texts(again) == _texts(outcome)


def _words_reference(rows: list[Row], length: int) -> dict[str, list[bool]]:
    """For every document which of its words stand in a run that an earlier document holds."""
    seen: set[tuple[str, ...]] = set()
    covered = {}
    for url, text, _ in sorted(rows, key=lambda row: (row[2], row[0])):
        words = words_of(normalised(text))
        runs = [tuple(words[at : at + length]) for at in range(len(words) - length + 1)]
        mask = [False] * len(words)
        for at, run in enumerate(runs):
            if run in seen:
                mask[at : at + length] = [True] * length
        seen.update(runs)
        covered[url] = mask
    return covered


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.lists(st.sampled_from(["a", "b", "c", "d", "床", "前", "E,"]), max_size=40), min_size=2, max_size=8),
    st.randoms(use_true_random=False),
)
def test_runs_of_words_equal_the_reference(
    tmp_path_factory: pytest.TempPathFactory, pages: list[list[str]], rng: random.Random
) -> None:
    rows = [(f"{number:03}", " ".join(words), rng.randint(1, 2)) for number, words in enumerate(pages)]
    rows.append(("kept", "x", 1))
    folder = tmp_path_factory.mktemp("passages")
    fields: dict[str, Any] = {"unit": "words", "words": 5, "min_documents": 2, "per": "corpus"}
    texts = _texts(_run(folder, rows, **fields))
    for url, mask in _words_reference(rows, 5).items():
        words = words_of(normalised({url: text for url, text, _ in rows}[url]))
        left = [word for word, cut in zip(words, mask, strict=True) if not cut]
        assert words_of(normalised(texts.get(url, ""))) == left
    again = _run(folder, rng.sample(rows, len(rows)), "again", rng.randint(1, 4), **fields)
    assert _texts(again) == texts


def test_navigation_of_one_site_goes_and_the_same_line_elsewhere_stays(tmp_path: Path) -> None:
    pages = [
        (f"https://a.org/{n:02}", f"{_NAVIGATION}\n\n  Page number {n}.\nIts text.\n\n{_NAVIGATION}", 1)
        for n in range(12)
    ]
    others = [(f"https://b.org/{n:02}", f"{_NAVIGATION.upper()}\nOther page {n}.", 1) for n in range(9)]
    outcome = _run(tmp_path, pages + others, workers=2, per_partition=7)
    texts = _texts(outcome)
    assert texts["https://a.org/00"] == pages[0][1]
    assert texts["https://a.org/07"] == "  Page number 7.\nIts text."
    assert all(texts[url] == text for url, text, _ in others)
    assert outcome.result.metrics["cut.passages"] == 22
    assert outcome.result.metrics["documents_out"] == 21
    assert {sample.title for sample in outcome.result.samples} == {"repeated lines cut"}
    gone = _texts(_run(tmp_path, pages, "none", keep="none"))
    assert gone["https://a.org/00"] == "  Page number 0.\nIts text."
    assert _texts(_run(tmp_path, pages, "share", min_documents=13)) == {url: text for url, text, _ in pages}


def test_share_of_a_site(tmp_path: Path) -> None:
    pages = [
        (f"https://a.org/{n:02}", ("A notice on some of the pages\n" if n < 10 else "") + f"Text {n}", 1)
        for n in range(40)
    ]
    assert _texts(_run(tmp_path, pages, "quarter", min_share=0.25))["https://a.org/09"] == "Text 9"
    assert "notice" in _texts(_run(tmp_path, pages, "more", min_share=0.26))["https://a.org/09"]


def test_chinese_paragraphs_and_passages(tmp_path: Path) -> None:
    notice = "版权所有，未经许可不得转载。\n京备案号一二三"
    pages = [(f"https://中文.cn/{n:02}", f"第{n}页的正文。\n\n{notice}\n\n结尾{n}", 1) for n in range(10)]
    texts = _texts(_run(tmp_path, pages, unit="paragraphs"))
    assert texts["https://中文.cn/00"] == pages[0][1]
    assert texts["https://中文.cn/03"] == "第3页的正文。\n\n结尾3"
    poem = "床前明月光疑是地上霜举头望明月低头思故乡白日依山尽黄河入海流欲穷千里目更上一层楼"
    poem += "春眠不觉晓处处闻啼鸟夜来风雨声花落知多少"
    quoting = [("1", poem, 1), ("2", f"他说：{poem}。后来呢", 1), ("3", poem[:45] + "不同", 1)]
    texts = _texts(_run(tmp_path, quoting, "poem", unit="words", min_documents=2, per="corpus"))
    assert texts == {"1": poem, "2": "他说：\n后来呢", "3": quoting[2][1]}


def test_a_copied_document_is_dropped_and_losing_a_source_fails(tmp_path: Path) -> None:
    rows = [(f"{n:02}", "the same long line on every single page", 1) for n in range(20)]
    outcome = _run(tmp_path, rows)
    assert list(_texts(outcome)) == ["00"]
    assert outcome.result.metrics["dropped.repeated"] == 19
    with pytest.raises(StepFailed, match=r"19 of 20 documents of source 'made'.*01: 'the same long") as caught:
        _run(tmp_path, rows, "gate", max_source_loss=0.9)
    assert "\n" not in str(caught.value)


def test_slices_and_workers_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(1)
    lines = [f"a line that may occur again, number {n}" for n in range(30)]
    rows = [(f"{n:03}", "\n".join(rng.sample(lines, 8)) + f"\nown {n}", 1) for n in range(60)]
    whole = _run(tmp_path, rows, "whole", 17)
    monkeypatch.setattr(passages, "_KEYS_AT_A_TIME", 50)
    sliced = _run(tmp_path, rows, "sliced", 17, workers=2)
    assert sliced.artifact.digest == whole.artifact.digest
    assert sliced.result == whole.result


@pytest.mark.parametrize(
    ("text", "spans", "left"),
    [
        ("a\nNAV\nb", [(2, 6)], "a\nb"),
        ("a\n\nNAV\n  b", [(3, 7)], "a\n\n  b"),
        ("one two three", [(4, 7)], "one\nthree"),
        ("NAV\n b \n", [(0, 4)], " b"),
        ("abc", [(0, 3)], ""),
        ("ab cd ef", [(0, 2), (6, 8)], "cd"),
    ],
)
def test_without(text: str, spans: list[tuple[int, int]], left: str) -> None:
    assert without(text, spans) == left
