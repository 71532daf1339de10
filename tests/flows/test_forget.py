"""Forgetting documents: what every later run leaves out, what it need not do again, and what is destroyed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flows.cli import main
from flows.forget import forgotten_text
from flows.home import Home
from flows.outcome import StepOutcome
from storage.corpus import document_id
from storage.shards import Shards
from tests.flows.conftest import built, make_all, planner_of
from tests.flows.site import artifacts_of
from tests.s3 import S3

RECIPE = """\
name: toy
steps:
  pages: {task: collect, partition_pages: 4, sources: [{kind: files, path: site}]}
  documents: {task: clean_html, pages: pages, extractor: beautifulsoup}
  tokenizer: {task: train_tokenizer, documents: documents, vocab_size: 340}
  shards: {task: shard, documents: documents, tokenizer: tokenizer, validation_fraction: 0.2}
  base: {task: fits, data: [{shards: shards}]}
resources: {workers: 1}
"""
PAGES = 16
SECRET = "Ada Marie Lovelace lives at 12 Elm Street"
Command = Callable[..., Any]


def _page(number: int) -> str:
    words = " ".join(f"word{number * number % 97} tells of {letter}" for letter in "abcdefgh")
    return f"<html><head><title>Page {number}</title></head><body><p>This is page {number}: {words}.</p></body></html>"


@pytest.fixture
def site(home: Home) -> Path:
    folder = home.folder.parent / "site"
    folder.mkdir()
    for number in range(PAGES):
        (folder / f"{number:02}.html").write_text(_page(number))
    (folder / "05.html").write_text(_page(5).replace("</body>", f"<p>{SECRET}.</p></body>"))
    return folder


@pytest.fixture
def athanor(capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs a command; returns its exit status, and what it printed (as JSON with ``--json``)."""

    def command(*arguments: str) -> tuple[int, Any]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        said = capsys.readouterr()
        printed = json.loads(said.out) if "--json" in arguments and said.out else said.out + said.err
        return int(ended.value.code or 0), printed

    return command


def run(home: Home, text: str = RECIPE, **options: Any) -> dict[str, StepOutcome]:
    return make_all(planner_of(home, text, **options))


def ids(home: Home, outcomes: dict[str, StepOutcome], step: str) -> set[str]:
    """Ids of the documents in what a step made."""
    artifact = home.open_store().open(str(outcomes[step].artifact))
    if isinstance(artifact, Shards):
        return set(artifact.split("train").ids) | set(artifact.split("validation").ids)
    return {identity for table in artifact.tables(["id"]) for identity in table["id"].to_pylist()}  # type: ignore[attr-defined]


def changed(home: Home, before: dict[str, StepOutcome], after: dict[str, StepOutcome], step: str) -> list[str]:
    """Names of the partitions of a step's artifact that are others than before."""
    old, new = (home.open_store().manifest(str(outcomes[step].artifact)).files for outcomes in (before, after))
    names = {name for name in old.keys() | new.keys() if old.get(name) != new.get(name)}
    return sorted(name for name in names if name.endswith(".parquet"))


FIVE, SEVEN = (document_id("files", f"{number:02}.html") for number in (5, 7))


@pytest.mark.parametrize(
    ("asked", "gone", "first_changed"),
    [
        (["--url", "05.html"], FIVE, "pages"),
        (["--id", SEVEN], SEVEN, "pages"),
        (["--match", "ada  marie LOVELACE"], FIVE, "documents"),
        (["--match", "Page 7"], SEVEN, "documents"),
    ],
)
def test_what_was_asked_to_be_forgotten_leaves_everything(
    home: Home, site: Path, athanor: Command, asked: list[str], gone: str, first_changed: str
) -> None:
    before = run(home)
    assert gone in ids(home, before, "shards")
    status, said = athanor("forget", *asked, "--reason", "they asked", "--json")
    assert (status, said["request"], list(said["documents"])) == (0, 1, [gone])
    assert said["built_with"] == ["toy/base@1", "toy/shards@1", "toy/tokenizer@1"]

    after = run(home)
    assert "documents are to be forgotten" in after[first_changed].why
    for step in ("documents", "shards"):
        assert ids(home, after, step) == ids(home, before, step) - {gone}
    assert changed(home, before, after, first_changed) == ["00001.parquet"]
    assert changed(home, before, after, "documents") == ["00001.parquet"]
    assert after["documents"].metrics["partitions_reused"] == 3
    assert after["documents"].metrics["rows_reused"] == (15 if first_changed == "pages" else PAGES - 1)
    assert after[first_changed].metrics["dropped.forgotten"] == 1
    shown = json.dumps([outcome.samples for outcome in after.values()])
    assert SECRET not in shown or gone == SEVEN

    assert built(run(home)) == []
    fresh = run(home, rebuild=frozenset({"documents"}))
    assert fresh["documents"].artifact == after["documents"].artifact


def test_a_domain_stands_for_all_below_it(home: Home, athanor: Command) -> None:
    from datetime import UTC, datetime

    from storage.takedown import Request, Takedowns

    asked = Takedowns([Request(at=datetime.now(UTC), domains=("Example.org",), urls=("HTTP://Other.net/a#part",))])
    assert asked.concern_page("x", "https://example.org/a")
    assert asked.concern_page("x", "https://www.EXAMPLE.org:8443/a?b")
    assert asked.concern_page("x", "http://other.net/a")
    assert not asked.concern_page("x", "https://notexample.org/a")
    assert not asked.concern_page("x", "https://other.org/example.org")
    assert not asked.concern_page("x", "example.org/a.html")
    assert not asked.concern_page("x", "http://other.net/A")
    assert not asked.concern_page("x", "http://[no/address")


def test_requests_without_effect_rebuild_nothing_that_follows(home: Home, site: Path, athanor: Command) -> None:
    before = run(home)
    status, said = athanor("forget", "--domain", "example.org", "--match", "nobody wrote this", "--json")
    assert (status, said["documents"], said["built_with"]) == (0, {}, [])
    after = run(home)
    assert built(after) == ["pages", "documents"]
    assert artifacts_of(after) == artifacts_of(before)
    assert after["documents"].metrics["rows_reused"] == PAGES


def test_a_page_that_comes_back_or_comes_new_is_left_out_too(home: Home, site: Path, athanor: Command) -> None:
    run(home)
    athanor("forget", "--url", "05.html", "--match", "Lovelace")
    (site / "05.html").write_text(_page(99))
    (site / "99.html").write_text(_page(99).replace("This is", f"{SECRET}. This is"))
    (site / "98.html").write_text(_page(98))
    after = run(home)
    expected = {document_id("files", f"{n:02}.html") for n in range(PAGES)} - {FIVE} | {document_id("files", "98.html")}
    assert ids(home, after, "documents") == expected


def test_the_run_says_what_was_built_with_the_documents(home: Home, site: Path, athanor: Command) -> None:
    run(home)
    athanor("forget", "--match", "Lovelace")
    planner = planner_of(home, RECIPE)
    metrics = [outcome.metrics for outcome in make_all(planner).values()]
    told = forgotten_text(planner.store, planner.takedowns, metrics)
    assert told == "forgotten: 1 document; built with them: toy/base@1, toy/shards@1, toy/tokenizer@1"
    assert forgotten_text(planner.store, planner.takedowns, [{"documents_out": 3.0}]) == ""


def test_a_purge_destroys_what_held_them_and_says_so(home: Home, site: Path, athanor: Command) -> None:
    before = run(home)
    held = {step: ids(home, before, step) for step in ("pages", "shards")}
    status, said = athanor("forget", "--match", "Lovelace", "--purge", "--json")
    assert (status, list(said["documents"])) == (0, [FIVE])
    assert (said["destroyed"]["files"], said["destroyed"]["running"]) == (4, 0)  # pages, their index, documents, shards
    everything = [path for path in home.folder.rglob("*") if path.is_file() and path.parent.name != "takedowns"]
    assert [path for path in everything if b"Lovelace" in path.read_bytes() or _holds(path, "Lovelace")] == []

    status, told = athanor("export", "toy/documents@1", str(home.folder / "copy"))
    assert status == 2
    assert "was destroyed on" in told
    assert "by request 1 to forget" in told
    assert told.count("\n") == 1
    assert athanor("verify")[0] == 0
    assert athanor("verify")[1].strip().endswith("but for 4 files that were destroyed on request")
    assert athanor("gc", "--dry-run")[0] == 0

    after = run(home)
    assert {step: ids(home, after, step) for step in held} == {step: those - {FIVE} for step, those in held.items()}
    assert changed(home, before, after, "pages") == ["00001.parquet"]
    assert changed(home, before, after, "documents") == ["00001.parquet"]
    assert after["documents"].metrics["partitions_reused"] == 3
    assert built(run(home)) == []
    assert athanor("show", "toy/base@1")[0] == 0  # a model is named, not destroyed
    assert athanor("verify")[0] == 0


def test_a_takedown_leaves_the_shards_of_other_partitions_as_they_are(home: Home, site: Path, athanor: Command) -> None:
    before = run(home)
    athanor("forget", "--url", "05.html")
    after = run(home)
    assert "shards" in built(after)
    old, new = (home.open_store().manifest(str(each["shards"].artifact)).files for each in (before, after))
    differing = {name for name in old.keys() | new.keys() if old.get(name) != new.get(name)}
    parts = {f"{split}-00001.arrow" for split in ("train", "validation")}
    assert "index.arrow" in differing
    assert len(differing & parts) == 1  # the document was in one of the two
    assert differing <= parts | {"index.arrow"}
    assert len(old) == len(new) == 12


def test_what_comes_of_a_domain_is_forgotten(home: Home, athanor: Command) -> None:
    hosts = ["example.org", "www.Example.org", "notexample.org", "other.net"]
    lines = [json.dumps({"url": f"https://{host}/{n}", "text": f"Page {n} of {host}."}) for host in hosts for n in "ab"]
    (home.folder.parent / "lines.jsonl").write_text("\n".join(lines))
    text = """\
name: toy
steps:
  pages: {task: collect, sources: [{kind: jsonl, path: lines.jsonl, url: url}]}
  documents: {task: clean_html, pages: pages}
"""
    before = run(home, text)
    status, said = athanor("forget", "--domain", "example.org", "--json")
    gone = {document_id("jsonl", f"https://{host}/{n}") for host in hosts[:2] for n in "ab"}
    assert (status, set(said["documents"])) == (0, gone)
    after = run(home, text)
    for step in ("pages", "documents"):
        assert len(ids(home, before, step)) == 8
        assert ids(home, after, step) == ids(home, before, step) - gone


@pytest.mark.slow
def test_a_purge_reaches_a_store_elsewhere_and_the_copies_of_it_here(
    home: Home, site: Path, athanor: Command, s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ATHANOR_STORE", f"{s3.url}/store")
    text = RECIPE.partition("  tokenizer:")[0] + "resources: {workers: 1}\n"
    before = run(home, text)
    held = ids(home, before, "documents")
    said = athanor("forget", "--url", "05.html", "--purge", "--json")[1]
    assert (list(said["documents"]), said["destroyed"]["files"]) == ([FIVE], 3)
    assert [path for path in home.folder.rglob("*") if path.is_file() and _holds(path, "Lovelace")] == []
    assert "was destroyed on" in athanor("export", "toy/documents@1", str(home.folder / "copy"))[1]
    assert ids(home, run(home, text), "documents") == held - {FIVE}
    assert athanor("verify")[0] == 0


@pytest.mark.parametrize("asked", [["--url", "05.html"], ["--match", "Lovelace"], ["--match", "Lovelace", "--purge"]])
def test_a_request_that_is_withdrawn_is_obeyed_no_more(
    home: Home, site: Path, athanor: Command, asked: list[str]
) -> None:
    everything = ids(home, run(home), "shards")
    athanor("forget", "--match", "Page 7")  # in the same partition, and still asked for
    athanor("forget", *asked)
    assert ids(home, run(home), "shards") == everything - {FIVE, SEVEN}
    status, said = athanor("forget", "--withdraw", "2", "--reason", "a mistake", "--json")
    assert (status, said["documents"], said["purged"]) == (0, [FIVE], "--purge" in asked)
    after = run(home)
    assert ids(home, after, "shards") == everything - {SEVEN}
    assert after["documents"].metrics["dropped.forgotten"] == 1
    assert built(run(home)) == []
    assert run(home, rebuild=frozenset({"documents"}))["documents"].artifact == after["documents"].artifact
    assert athanor("forget", "--withdraw", "1")[0] == 0
    assert ids(home, run(home), "shards") == everything


def test_what_is_no_longer_forgotten_comes_back_out_of_a_file_that_is_as_it_was(home: Home, athanor: Command) -> None:
    lines = [json.dumps({"url": f"https://example.org/{n}", "text": f"The furnace of page {n}."}) for n in range(9)]
    (home.folder.parent / "lines.jsonl").write_text("\n".join(lines))
    text = """\
name: toy
steps:
  pages: {task: collect, sources: [{kind: jsonl, path: lines.jsonl, url: url}], partition_pages: 3}
"""
    before = run(home, text)
    athanor("forget", "--url", "https://example.org/4")
    assert len(ids(home, run(home, text), "pages")) == 8
    athanor("forget", "--withdraw", "1")
    after = run(home, text)
    assert ids(home, after, "pages") == ids(home, before, "pages")
    assert after["pages"].metrics["pages_new"] == 1
    assert changed(home, before, after, "pages") == ["00001.parquet", "00003.parquet"]
    assert built(run(home, text)) == []


def test_a_withdrawal_says_what_comes_back_and_what_does_not(home: Home, site: Path, athanor: Command) -> None:
    run(home, until="documents")
    athanor("forget", "--url", "05.html", "--reason", "their letter")
    athanor("forget", "--match", "Lovelace", "--purge")
    assert "1 document stay left out by other requests (2)" in athanor("forget", "--withdraw", "1")[1]
    said = athanor("forget", "--withdraw", "2", "--reason", "another letter")[1]
    assert "were destroyed: the next run collects those anew that their sources still have" in said
    first, second = athanor("forget", "--list")[1].splitlines()
    assert "url 05.html (1 document, withdrawn 20" in first
    assert first.endswith("): their letter")
    assert second.endswith("(another letter))")
    assert [each["state"] for each in athanor("forget", "--list", "--json")[1]["requests"]] == ["withdrawn"] * 2
    for number, told in (("3", "there is no such request"), ("1", "it was withdrawn on")):
        status, said = athanor("forget", "--withdraw", number)
        assert (status, said.count("\n")) == (2, 1)
        assert told in said
    assert "in another command" in athanor("forget", "--withdraw", "1", "--url", "x")[1]


def _holds(path: Path, text: str) -> bool:
    """Whether a Parquet file (of the store, hence without an ending) holds a text, which is compressed there."""
    try:
        table = pq.read_table(path)
    except pa.ArrowInvalid:
        return False
    return text in str(table.to_pylist())


def test_examples_are_left_out_by_text_and_by_page(home: Home, site: Path, athanor: Command) -> None:
    pairs = [{"q": f"Question {n}", "a": "Ask Ada Lovelace" if n == 3 else f"Answer {n}"} for n in range(8)]
    (home.folder.parent / "pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    text = """\
name: toy
steps:
  pages: {task: collect, sources: [{kind: files, path: site}]}
  documents: {task: clean_html, pages: pages, extractor: beautifulsoup}
  questions:
    task: examples
    sources: [{kind: jsonl, path: pairs.jsonl, prompt: q, response: a}, {kind: titles, documents: documents}]
"""
    before = run(home, text)
    said = athanor("forget", "--match", "Lovelace", "--url", "07.html", "--json")[1]
    assert said["built_with"] == ["toy/questions@1"]
    after = run(home, text)
    assert before["questions"].metrics["examples"] - after["questions"].metrics["examples"] == 3
    assert after["questions"].metrics["dropped.forgotten"] == 1  # the others are not in the documents any more
    assert FIVE not in ids(home, after, "documents")


def test_requests_are_listed_and_numbered(home: Home, site: Path, athanor: Command) -> None:
    assert athanor("forget", "--list") == (0, "nothing was asked to be forgotten\n")
    run(home, until="pages")
    athanor("forget", "--url", "05.html", "--reason", "their letter of May")
    athanor("forget", "--domain", "example.org", "--purge")
    listed = athanor("forget", "--list")[1].splitlines()
    assert listed[0].startswith("1  ")
    assert listed[0].endswith("url 05.html (1 document): their letter of May")
    assert listed[1].endswith("domain example.org (0 documents, purged)")


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ([], "say what to forget"),
        (["--domain", "https://example.org/"], "give a host alone"),
        (["--match", " a "], "at least two characters"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_one_line(home: Home, athanor: Command, asked: list[str], said: str) -> None:
    status, told = athanor("forget", *asked)
    assert status == 2
    assert said in told
    assert told.count("\n") == 1
