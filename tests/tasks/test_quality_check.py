"""Documents are drawn for people, their judgements read back, and rules estimated from them."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from storage.corpus import DOCUMENTS_SCHEMA, Documents, Examples, document_id, is_validation, table_of, write_table
from storage.errors import SourceError, UserError
from tasks.context import PlainWorld
from tasks.quality_check import QualityCheck
from tasks.train_classifier import TrainClassifier
from tests.helpers import Outcome, run_task

Row = dict[str, Any]

FURNACE = "The furnace kept an even heat for weeks. "
POEM = "床前明月光，疑是地上霜。举头望明月，低头思故乡。"


def row_of(number: int, text: str, *tags: str, source: str = "web", language: str | None = "en") -> Row:
    url = f"{source}/{number}"
    return {
        "id": document_id(source, url),
        "text": text,
        "url": url,
        "source": source,
        "language": language,
        "first_seen": 1,
        "tags": list(tags) or None,
    }


def corpus(folder: Path, rows: Sequence[Row], partitions: int = 2) -> Documents:
    for number in range(partitions):
        write_table(table_of(rows[number::partitions], DOCUMENTS_SCHEMA), folder / f"{number:05}.parquet")
    return Documents.of_folder(folder)


def check(folder: Path, documents: Documents, name: str = "step", **settings: Any) -> Outcome:
    task = QualityCheck.model_validate({"documents": "d", **settings})
    return run_task(task, {"documents": documents}, folder, name=name, folder=folder)


def sample_of(outcome: Outcome) -> list[dict[str, str]]:
    with outcome.artifact.path("sample.csv").open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def agreement_of(outcome: Outcome) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(outcome.artifact.path("agreement.json").read_text("utf-8"))
    return found


def examples_of(outcome: Outcome) -> dict[str, list[Row]]:
    assert isinstance(outcome.artifact, Examples)
    return {split: outcome.artifact.split(split).to_pylist() for split in ("train", "validation")}


def judge(
    path: Path, rows: Sequence[Mapping[str, str]], verdict: Callable[[Mapping[str, str]], str], **more: str
) -> None:
    """Fill in the spreadsheet as a person would, and save it as a spreadsheet program does."""
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows([{**row, "verdict": verdict(row), **more} for row in rows])


@pytest.fixture
def rows() -> list[Row]:
    made = [row_of(n, f"{FURNACE * 3}{n}") for n in range(300)]
    made += [row_of(n, f"short {n}", "gopher.length", "c4") for n in range(300, 330)]
    made += [row_of(n, f"lorem ipsum {n}", "c4") for n in range(330, 340)]
    made += [row_of(n, f"{POEM * 4}{n}", source="诗", language="zh") for n in range(40)]
    made += [row_of(n, f"{POEM}{n}", "gopher.length", source="诗", language="zh") for n in range(40, 43)]
    return made


def test_every_stratum_is_in_the_sample(tmp_path: Path, rows: list[Row]) -> None:
    outcome = check(tmp_path, corpus(tmp_path / "documents", rows), per_stratum=5)
    sample = sample_of(outcome)
    strata = Counter((row["reasons"], row["source"], row["language"]) for row in sample)
    assert strata == {
        ("", "web", "en"): 5,
        ("gopher.length, c4", "web", "en"): 5,
        ("c4", "web", "en"): 5,
        ("", "诗", "zh"): 5,
        ("gopher.length", "诗", "zh"): 3,
    }
    assert {(row["decision"], bool(row["reasons"])) for row in sample} == {("keep", False), ("drop", True)}
    known = {row["id"]: row for row in rows}
    for row in sample:
        assert (row["text"], row["url"]) == (known[row["id"]]["text"], known[row["id"]]["url"])
        assert (row["verdict"], row["label"], row["judge"]) == ("", "", "")
    assert outcome.result.headline == "23 documents to judge, in 5 strata"
    assert examples_of(outcome) == {"train": [], "validation": []}


def test_the_sample_does_not_depend_on_order_or_partitions_and_hardly_on_growth(
    tmp_path: Path, rows: list[Row]
) -> None:
    first = check(tmp_path, corpus(tmp_path / "one", rows, 1), "first")
    second = check(tmp_path, corpus(tmp_path / "other", rows[::-1], 5), "second")
    assert first.artifact.digest == second.artifact.digest
    grown = check(
        tmp_path, corpus(tmp_path / "grown", rows + [row_of(n, f"new {n}") for n in range(1000, 1100)]), "grown"
    )
    before, after = ({row["id"] for row in sample_of(outcome)} for outcome in (first, grown))
    assert len(before & after) > 0.8 * len(before)


def test_fewer_are_drawn_where_there_would_be_too_many(tmp_path: Path, rows: list[Row]) -> None:
    documents = corpus(tmp_path / "documents", rows)
    assert len(sample_of(check(tmp_path, documents, "some", max_documents=12))) == 5 * 2
    assert len(sample_of(check(tmp_path, documents, "one", max_documents=1))) == 5
    assert len(sample_of(check(tmp_path, documents, "reasons", by=[], per_stratum=4))) == 3 * 4


def test_a_spreadsheet_shows_text_and_runs_nothing(tmp_path: Path) -> None:
    texts = [
        '=HYPERLINK("http://example.org")', "+1", "-2 degrees", "@cmd", "\n =1+1", "\tx", "＝1", "a\x00b\x07c\ud83d",
        "plain, with \"quotes\"\nand lines", "x" * 5_000,
    ]  # fmt: skip
    rows = [row_of(n, text.encode("utf-8", "replace").decode()) for n, text in enumerate(texts)]
    outcome = check(tmp_path, corpus(tmp_path / "documents", rows), text_characters=100)
    assert outcome.artifact.path("sample.csv").read_bytes().startswith(b"\xef\xbb\xbfid,url,source,")
    shown = {row["url"]: row["text"] for row in sample_of(outcome)}
    for number, text in enumerate(texts):
        found = shown[f"web/{number}"]
        assert not found.strip().startswith(tuple("=+-@＝"))
        if number < 7:
            assert found == f"'{text}"
    assert shown["web/7"] == "abc?"
    assert shown["web/8"] == texts[8]
    assert shown["web/9"] == "x" * 100 + " […4,900 more characters]"


def test_rules_are_estimated_from_judgements(tmp_path: Path, rows: list[Row]) -> None:
    documents = corpus(tmp_path / "documents", rows)
    sample = sample_of(check(tmp_path, documents, "drawn", per_stratum=10))
    # A person who likes poems of any length and does not mind "lorem ipsum".
    judge(tmp_path / "ann.csv", sample, lambda row: "reject" if row["text"].startswith("short") else "Accept ")
    outcome = check(tmp_path, documents, "judged", per_stratum=10, judgements="ann.csv")
    report = agreement_of(outcome)
    rules = report["rules"]
    assert rules["gopher.length"]["documents"] == 33
    # All ten of the 30 are right and all 3 poems wrong: 30 ÷ 33, not 10 ÷ 13.
    assert rules["gopher.length"]["precision"]["share"] == pytest.approx(30 / 33, abs=1e-6)
    assert rules["c4"]["precision"]["share"] == pytest.approx(30 / 40, abs=1e-6)
    assert rules["c4"]["precision"]["low"] < 0.75 < rules["c4"]["precision"]["high"]
    assert report["kept"]["documents"] == 340
    assert report["kept"]["rejected"]["share"] == 0
    assert report["filter"]["precision"]["share"] == pytest.approx(30 / 43, abs=1e-6)
    assert report["filter"]["recall"]["share"] == 1
    assert outcome.result.metrics["rule.c4.precision"] == pytest.approx(0.75)
    assert outcome.result.headline == "43 documents judged, 70% of drops right, 0% of kept bad"


def test_judged_documents_become_examples_that_a_classifier_learns_from(tmp_path: Path, rows: list[Row]) -> None:
    documents = corpus(tmp_path / "documents", rows)
    sample = sample_of(check(tmp_path, documents, "drawn", per_stratum=40))
    judge(tmp_path / "ann.csv", sample, lambda row: "accept" if row["decision"] == "keep" else "reject")
    outcome = check(tmp_path, documents, "judged", judgements="ann.csv")
    splits = examples_of(outcome)
    known = {row["id"]: row for row in rows}
    for split, examples in splits.items():
        for row in examples:
            assert row["prompt"] == known[row["id"]]["text"]
            assert row["response"] == ("reject" if known[row["id"]]["tags"] else "accept")
            assert is_validation(row["id"], 0.1) == (split == "validation")
    assert sum(map(len, splits.values())) == len(sample)
    trained = run_task(
        TrainClassifier.model_validate({"examples": "check"}), {"examples": outcome.artifact}, tmp_path, name="trained"
    )
    assert trained.result.metrics["f1"] > 0.9
    empty = check(tmp_path, documents, "empty")
    with pytest.raises(UserError, match="0 different labels among 0 training documents"):
        run_task(TrainClassifier.model_validate({"examples": "c"}), {"examples": empty.artifact}, tmp_path, name="no")


def test_several_judges_are_compared_and_most_of_them_decide(tmp_path: Path, rows: list[Row]) -> None:
    documents = corpus(tmp_path / "documents", rows)
    sample = sample_of(check(tmp_path, documents, "drawn", per_stratum=4))
    (tmp_path / "judged").mkdir()
    judge(tmp_path / "judged" / "ann.csv", sample, lambda row: "reject" if row["reasons"] else "accept")
    judge(tmp_path / "judged" / "bo.csv", sample, lambda row: "reject" if row["reasons"] else "accept")
    judge(tmp_path / "judged" / "other.csv", sample, lambda row: "accept", judge="cy", label="essay")
    outcome = check(tmp_path, documents, "judged-step", judgements=["judged"])
    verdict = agreement_of(outcome)["verdict"]
    assert verdict["judges"] == {"ann": len(sample), "bo": len(sample), "cy": len(sample)}
    by_pair = {tuple(pair["judges"]): pair for pair in verdict["pairs"]}
    assert by_pair["ann", "bo"]["kappa"] == 1
    assert by_pair["ann", "cy"]["kappa"] == 0
    assert {row["response"] for part in examples_of(outcome).values() for row in part} == {"accept", "reject"}
    assert any(sample.title == "judges differ: ann reject, bo reject, cy accept" for sample in outcome.result.samples)
    labelled = check(tmp_path, documents, "labelled", judgements=["judged"], response="label")
    assert {row["response"] for part in examples_of(labelled).values() for row in part} == {"essay"}
    two = check(tmp_path, documents, "two", judgements=["judged/ann.csv", "judged/other.csv"])
    report = agreement_of(two)
    assert report["judgements"]["disputed"] == 0  # a label is said of all
    assert {row["response"] for part in examples_of(two).values() for row in part} == {"accept"}


@pytest.mark.parametrize(
    ("encoding", "separator"), [("utf-8", ","), ("utf-8-sig", ";"), ("utf-16", "\t"), ("utf-8-sig", "\t")]
)
def test_files_are_read_as_spreadsheet_programs_write_them(
    tmp_path: Path, rows: list[Row], encoding: str, separator: str
) -> None:
    documents = corpus(tmp_path / "documents", rows)
    lines = [separator.join(["ID", "Text", "Verdict"]), *(separator.join([r["id"], "文", "reject"]) for r in rows[:7])]
    (tmp_path / "j.csv").write_bytes("\r\n".join([*lines, "", separator * 2]).encode(encoding))
    assert agreement_of(check(tmp_path, documents, judgements="j.csv"))["judgements"]["documents"] == 7


def test_what_cannot_be_understood_is_named_by_its_line(tmp_path: Path, rows: list[Row]) -> None:
    documents = corpus(tmp_path / "documents", rows)
    one, two = rows[0]["id"], rows[1]["id"]
    for content, message in {
        b"id,text\n": "j.csv:1: no column 'verdict' (there are: id, text)",
        b"": "j.csv:1: no column 'id'",
        f'id,text,verdict\n{one},"two\nlines",accept\n{two},b,maybe\n'.encode(): "j.csv:4: verdict 'maybe'",
        f"id,verdict\n,accept\n{one},accept\n".encode(): "j.csv:2: no id",
        f"id,verdict\n{one},accept\n{one},reject\n".encode(): "j.csv:3: 'j' says 'reject' of document",
        f"id,verdict\n{one},accept\n{two},\xff\n".encode("latin-1"): "j.csv:3: the file is not UTF-8",
        f'id,verdict\n{one},"accept"x\n'.encode(): "j.csv:2: not a table",
        b"id,verdict\n1.2E+31,accept\n": "j.csv:2: there is no document with id '1.2E+31' (1 of 1",
    }.items():
        (tmp_path / "j.csv").write_bytes(content)
        with pytest.raises(SourceError) as error:
            check(tmp_path, documents, judgements="j.csv")
        assert message in str(error.value)
        assert "\n" not in str(error.value)


def test_judgements_of_documents_that_have_gone_are_counted(tmp_path: Path, rows: list[Row]) -> None:
    content = "".join(f"{row['id']},accept\n" for row in rows[:10])
    (tmp_path / "j.csv").write_text("id,verdict\n" + content)
    outcome = check(tmp_path, corpus(tmp_path / "documents", rows[3:]), judgements="j.csv")
    assert outcome.result.metrics["judgements.unknown_document"] == 3
    assert outcome.result.metrics["judgements.documents"] == 7


def test_the_key_holds_what_was_judged_and_not_where_it_lies(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    for folder in ("a", "b"):
        (tmp_path / folder / "j.csv").write_text("id,verdict\n")
    tasks = [QualityCheck.model_validate({"documents": "d", "judgements": f"{f}/j.csv"}) for f in ("a", "b")]
    assert tasks[0].settings() == tasks[1].settings()
    world = PlainWorld(tmp_path)
    before = tasks[0].outside(world)
    assert before == tasks[1].outside(world)
    (tmp_path / "a" / "j.csv").write_text("id,verdict\n1,accept\n")
    assert tasks[0].outside(world) != before
    both = QualityCheck.model_validate({"documents": "d", "judgements": ["a/j.csv", "b/j.csv"]})
    with pytest.raises(SourceError, match="two files are called"):
        both.outside(world)
    with pytest.raises(SourceError, match="no such file"):
        QualityCheck.model_validate({"documents": "d", "judgements": "nowhere.csv"}).outside(world)
