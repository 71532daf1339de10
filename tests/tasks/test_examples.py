"""Examples are found, cleaned of repetitions, and split as their documents are."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pydantic import ValidationError

from storage.corpus import DOCUMENTS_SCHEMA, Documents, Examples, document_id, is_validation, table_of, write_table
from storage.errors import SourceError, StepFailed
from tasks.context import PlainWorld
from tasks.examples import MakeExamples
from tests.helpers import SHARED, Outcome, run_task

QUESTIONS = [{"question": f"What is {n} plus {n}?", "answer": f"It is {2 * n}."} for n in range(200)]
CHINESE = [{"question": f"第{n}首诗的作者是谁？", "answer": "李白"} for n in range(50)]


def _lines(path: Path, records: list[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records), "utf-8")
    return path


def _jsonl(path: str, **settings: Any) -> dict[str, Any]:
    return {"kind": "jsonl", "path": path, "prompt": "question", "response": "answer"} | settings


def _make(
    tmp_path: Path, *sources: dict[str, Any], name: str = "step", limit: int | None = None, **settings: Any
) -> Outcome:
    task = MakeExamples(sources=list(sources), **settings)  # type: ignore[arg-type]
    return run_task(task, {}, tmp_path, name=name, limit=limit)


def _rows(outcome: Outcome, split: str | None = None) -> list[dict[str, Any]]:
    assert isinstance(outcome.artifact, Examples)
    return [
        row
        for name in ([split] if split else ["train", "validation"])
        for row in outcome.artifact.split(name).to_pylist()
    ]


@pytest.fixture(scope="module")
def documentation(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    return _make(tmp_path_factory.mktemp("pydoc"), {"kind": "pydoc"}, validation_fraction=0.1)


def test_pairs_become_examples_in_the_template(tmp_path: Path) -> None:
    _lines(tmp_path / "data.jsonl", QUESTIONS + CHINESE)
    outcome = _make(tmp_path, _jsonl("data.jsonl"), template="问：{prompt}\n答：")
    rows = _rows(outcome)
    pairs = {(row["prompt"], row["response"]) for row in rows}
    assert pairs == {(f"问：{pair['question']}\n答：", pair["answer"]) for pair in QUESTIONS + CHINESE}
    assert {row["source"] for row in rows} == {"jsonl"}
    for split in ("train", "validation"):
        ids = [row["id"] for row in _rows(outcome, split)]
        assert ids == sorted(ids)
        assert ids
    assert outcome.result.counts["train"] + outcome.result.counts["validation"] == 250


def test_the_split_follows_from_the_prompt_and_growth_moves_nothing(tmp_path: Path) -> None:
    _lines(tmp_path / "small.jsonl", QUESTIONS[:100])
    _lines(
        tmp_path / "large.jsonl", [*CHINESE, *QUESTIONS[::-1], *[pair | {"answer": "No idea."} for pair in QUESTIONS]]
    )
    small = _make(tmp_path, _jsonl("small.jsonl"), name="small", validation_fraction=0.2)
    large = _make(tmp_path, _jsonl("large.jsonl"), name="large", validation_fraction=0.2)
    for split in ("train", "validation"):
        assert {row["id"] for row in _rows(small, split)} <= {row["id"] for row in _rows(large, split)}
        assert all(is_validation(row["document_id"], 0.2) is (split == "validation") for row in _rows(large, split))
    sides = [{row["prompt"] for row in _rows(large, split)} for split in ("train", "validation")]
    assert not sides[0] & sides[1]


def test_repeated_pairs_are_taken_once_and_the_order_of_lines_does_not_matter(tmp_path: Path) -> None:
    _lines(tmp_path / "a.jsonl", QUESTIONS + QUESTIONS[:7])
    _lines(tmp_path / "b.jsonl", QUESTIONS[::-1])
    first = _make(tmp_path, _jsonl("a.jsonl"), name="a")
    second = _make(tmp_path, _jsonl("b.jsonl"), name="b")
    assert first.artifact.digest == second.artifact.digest
    assert first.result.metrics["dropped.repeated"] == 7
    both = _make(tmp_path, _jsonl("a.jsonl"), _jsonl("b.jsonl"), name="both")
    assert {row["source"] for row in _rows(both)} == {"jsonl"}
    assert both.result.metrics["dropped.repeated"] == 207


def test_compressed_files_and_globs_are_read(tmp_path: Path) -> None:
    plain = _lines(tmp_path / "data/a.jsonl", QUESTIONS[:10]).read_bytes()
    (tmp_path / "data/b.jsonl.gz").write_bytes(gzip.compress(plain.replace(b"plus", b"and")))
    (tmp_path / "data/c.jsonl.zst").write_bytes(pa.compress(plain.replace(b"plus", b"or"), codec="zstd", asbytes=True))
    outcome = _make(tmp_path, _jsonl("data/*"), validation_fraction=0)
    assert len(_rows(outcome)) == 30
    assert outcome.result.metrics["validation_empty"] == 1
    assert len(_rows(_make(tmp_path, _jsonl("data/*"), name="limited", limit=4))) == 4


def test_a_bad_line_is_counted_and_many_fail_with_the_first_one_named(tmp_path: Path) -> None:
    good = "".join(json.dumps(pair) + "\n" for pair in QUESTIONS)
    bad = [
        '{"question": "cut of',
        '["a list"]',
        '{"question": "q", "answer": null}',
        '{"question": "  ", "answer": "a"}',
    ]
    (tmp_path / "one.jsonl").write_text(good + bad[0] + "\n\n")
    outcome = _make(tmp_path, _jsonl("one.jsonl"), name="one")
    assert outcome.result.metrics["dropped.bad_line"] == 1
    assert len(_rows(outcome)) == 200
    (tmp_path / "many.jsonl").write_text(good + "\n".join(bad))
    with pytest.raises(SourceError, match=r"many\.jsonl, line 201: it is not JSON .*4 of 204 records") as caught:
        _make(tmp_path, _jsonl("many.jsonl"), name="many")
    assert "\n" not in str(caught.value)
    assert len(_rows(_make(tmp_path, _jsonl("many.jsonl", max_bad_fraction=0.05), name="lenient"))) == 200


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"prompt": "qestion"}, r"data\.jsonl, line 1: there is no field 'qestion'; its fields are answer, question"),
        ({"response": "reply"}, r"data\.jsonl, line 1: there is no field 'reply'"),
        ({"path": "nowhere.jsonl"}, "no such file or folder"),
        ({"path": "empty.jsonl"}, r"empty\.jsonl: there is no record"),
        ({"path": "cut.jsonl.gz", "max_bad_fraction": 0}, r"cut\.jsonl\.gz: behind line \d+: .*1 of \d+ records"),
        ({"path": "false.jsonl.gz"}, r"false\.jsonl\.gz: behind line 0: Not a gzipped file"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_in_one_line(tmp_path: Path, settings: dict[str, Any], said: str) -> None:
    plain = _lines(tmp_path / "data.jsonl", QUESTIONS).read_bytes()
    (tmp_path / "empty.jsonl").touch()
    (tmp_path / "cut.jsonl.gz").write_bytes(gzip.compress(plain)[:-30])
    (tmp_path / "false.jsonl.gz").write_bytes(plain)
    with pytest.raises(SourceError, match=said) as caught:
        _make(tmp_path, _jsonl("data.jsonl") | settings)
    assert "\n" not in str(caught.value)


def test_a_file_that_breaks_off_gives_what_stands_before(tmp_path: Path) -> None:
    plain = _lines(tmp_path / "data.jsonl", QUESTIONS).read_bytes()
    (tmp_path / "cut.jsonl.gz").write_bytes(gzip.compress(plain[:-40]) + gzip.compress(plain[-40:])[:-9])
    outcome = _make(tmp_path, _jsonl("cut.jsonl.gz"))
    assert len(_rows(outcome)) == len(QUESTIONS)
    assert outcome.result.metrics["dropped.truncated"] == 1


def test_tables_of_values_are_read(tmp_path: Path) -> None:
    def csv(path: str, **more: Any) -> dict[str, Any]:
        return {"kind": "csv", "path": path, "prompt": "question", "response": "answer", **more}

    rows = [
        "id,question,answer",
        '1,"What is ""gold""?","A metal,\nand heavy"',
        "2,什么是金？,一种金属",
        "",
        "3,q",
        "4,q, ",
    ]
    (tmp_path / "a.csv").write_text("\ufeff" + "\r\n".join(rows))
    outcome = _make(tmp_path, csv("a.csv", max_bad_fraction=0.5), validation_fraction=0, template="{prompt}")
    assert {(row["prompt"], row["response"]) for row in _rows(outcome)} == {
        ('What is "gold"?', "A metal,\nand heavy"),
        ("什么是金？", "一种金属"),
    }
    assert outcome.result.metrics["dropped.bad_line"] == 2
    (tmp_path / "b.tsv.gz").write_bytes(gzip.compress(b"question\tanswer\nWhat?\tThat, one."))
    tabs = _make(tmp_path, csv("b.tsv.gz", delimiter="\t"), name="tabs", validation_fraction=0)
    assert [row["response"] for row in _rows(tabs)] == ["That, one."]
    with pytest.raises(SourceError, match=r"a\.csv, line 2: there is no field 'prompt'; its fields are answer, id"):
        _make(tmp_path, csv("a.csv") | {"prompt": "prompt"}, name="wrong")


def test_settings_are_checked(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match=r"needs \{prompt\}"):
        MakeExamples(sources=[_jsonl("x")], template="no place")  # type: ignore[list-item]
    with pytest.raises(ValidationError, match="'same' is taken"):
        MakeExamples(sources=[_jsonl("x", name="same"), _jsonl("y", name="same")])  # type: ignore[list-item]
    _lines(tmp_path / "data.jsonl", QUESTIONS[:1])
    with pytest.raises(StepFailed, match="lower validation_fraction"):
        _make(tmp_path, _jsonl("data.jsonl"), validation_fraction=0.999999)


def test_the_fingerprint_is_the_content_and_not_the_place(tmp_path: Path) -> None:
    _lines(tmp_path / "a/data.jsonl", QUESTIONS)
    _lines(tmp_path / "b/data.jsonl", QUESTIONS)
    tasks = [MakeExamples(sources=[_jsonl(f"{folder}/data.jsonl")]) for folder in "ab"]  # type: ignore[list-item]
    assert tasks[0].settings() == tasks[1].settings()
    assert tasks[0].outside(PlainWorld(tmp_path)) == tasks[1].outside(PlainWorld(tmp_path))
    _lines(tmp_path / "b/data.jsonl", QUESTIONS[1:])
    assert tasks[0].outside(PlainWorld(tmp_path)) != tasks[1].outside(PlainWorld(tmp_path))


def test_the_standard_library_gives_thousands_of_pairs_on_their_pages_sides(documentation: Outcome) -> None:
    rows = _rows(documentation)
    assert len(rows) > 3000
    by_prompt = {row["prompt"]: row for row in rows}
    row = by_prompt["Question: What does shutil.copyfile(src, dst, *, follow_symlinks=True) do?\nAnswer: "]
    assert row["document_id"] == document_id("pydoc", "shutil.html")
    assert row["response"].startswith("Copy data from src to dst")
    assert len({row["document_id"] for row in _rows(documentation, "validation")}) > 5
    assert all(is_validation(row["document_id"], 0.1) for row in _rows(documentation, "validation"))


def test_no_held_out_answer_is_trained_on(documentation: Outcome) -> None:
    train, held_out = ([row["response"].casefold() for row in _rows(documentation, s)] for s in ("train", "validation"))
    assert len(set(train)) == len(train)
    assert not set(train) & set(held_out)
    assert documentation.result.metrics["dropped.answer_repeated"] > 100


def test_pairs_are_the_same_on_every_run(documentation: Outcome, tmp_path: Path) -> None:
    again = _make(tmp_path, {"kind": "pydoc"}, validation_fraction=0.1)
    assert again.artifact.digest == documentation.artifact.digest
    assert "/home/" not in " ".join(row["prompt"] + row["response"] for row in _rows(again))


@pytest.mark.skipif(not SHARED.exists(), reason=f"real examples are not at {SHARED}")
def test_real_word_problems(tmp_path: Path) -> None:
    for name in ("train", "test"):
        shutil.copyfile(SHARED / f"instruct/gsm8k/{name}.jsonl", tmp_path / f"{name}.jsonl")
    (tmp_path / "test.jsonl.gz").write_bytes(gzip.compress((tmp_path / "test.jsonl").read_bytes()))
    outcome = _make(tmp_path, _jsonl("train.jsonl"), _jsonl("test.jsonl.gz", name="test"))
    assert len(_rows(outcome)) == 7473 + 1319
    assert 300 < len(_rows(outcome, "validation")) < 600
    assert any("####" in row["response"] for row in _rows(outcome, "validation"))


def _documents(folder: Path) -> Documents:
    """Ten documents in English, ten in Chinese, and some that make no example."""
    begins = "holds mercury. It is made of glass. Its lid"
    english = [(f"Vessel {n}", f"Vessel {n}\nVessel {n} {begins}") for n in range(10)]
    chinese = [(f"第{n}章 坩埚", f"第{n}章\n坩埚用于熔化金属，号码为{n}。它很重！然后") for n in range(10)]
    useless = [("Vessel 3", "Another vessel of this name. It counts no more."), (None, "A text without a title. Good.")]
    useless.append(("Menu", "Home\nAbout us\nNews"))
    rows = [
        {"id": document_id("web", str(number)), "url": f"{number}.html", "title": title, "text": text}
        for number, (title, text) in enumerate([*english, *chinese, *useless])
    ]
    full = [{"source": "web", "first_seen": 1, **row} for row in rows]
    write_table(table_of(full, DOCUMENTS_SCHEMA), folder / "00000.parquet")
    return Documents.of_folder(folder)


def test_titles_ask_for_the_beginnings_of_texts(tmp_path: Path) -> None:
    documents = _documents(tmp_path / "documents")
    source = {"kind": "titles", "documents": "unique", "max_characters": 45}
    task = MakeExamples(sources=[source], template="{prompt}\n", validation_fraction=0.3)  # type: ignore[list-item]
    assert list(task.inputs()) == ["sources[0].documents"]
    outcome = run_task(task, {"sources[0].documents": documents}, tmp_path)
    rows = {row["prompt"]: row for row in _rows(outcome)}
    assert len(rows) == 20
    assert rows["Vessel 3\n"]["response"] == "Vessel 3 holds mercury. It is made of glass."
    assert rows["第7章 坩埚\n"]["response"] == "坩埚用于熔化金属，号码为7。它很重！"
    dropped = {name: count for name, count in outcome.result.metrics.items() if name.startswith("dropped.")}
    assert dropped == {"dropped.title_repeated": 1, "dropped.title_missing": 1, "dropped.answer_too_short": 1}
    held_out = {row["document_id"] for row in _rows(outcome, "validation")}
    assert held_out
    assert held_out <= {row["id"] for table in documents.tables() for row in table.to_pylist()}
    assert all(is_validation(document, 0.3) for document in held_out)
