"""The step from pages to documents."""

from __future__ import annotations

import gzip
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from storage.corpus import Documents, Pages, read_table, write_table
from storage.errors import StepFailed
from tasks.clean_html import CleanHtml, CleanPages, clean_pages
from tasks.rows import Worked
from tasks.task import DocumentLost, Guard
from tests.helpers import SHARED, Outcome, run_task
from tests.tasks.corpora import Page, make_pages, rows_of

HTML = "text/html"
ENGLISH = (
    "<html lang=en><head><title>Heat</title></head><body><p>"
    + "The furnace keeps an even heat. " * 9
    + "</p></body></html>"
)
CHINESE = (
    "<html><head><title>炉火</title></head><body><p>"
    + "炉火要保持均匀的温度，直到炼成为止。" * 9
    + "</p></body></html>"
)


def clean(
    tmp_path: Path, *partitions: dict[str, Page], name: str = "clean", workers: int = 1, **settings: object
) -> Outcome:
    pages = make_pages(tmp_path / f"{name}-pages", partitions)
    task = CleanHtml.model_validate({"pages": "pages", **settings})
    return run_task(task, {"pages": pages}, tmp_path, name=name, workers=workers)


def rows(outcome: Outcome) -> dict[str, dict[str, object]]:
    assert isinstance(outcome.artifact, Documents)
    return rows_of(outcome.artifact)


def test_good_pages_become_documents_in_their_order(tmp_path: Path) -> None:
    first = {"b": (ENGLISH.encode(), HTML), "a": (CHINESE.encode("gb18030"), "text/html; charset=gb2312")}
    second = {"c": (CHINESE.encode("big5", "ignore"), HTML)}
    outcome = clean(tmp_path, first, second, extractor="beautifulsoup", workers=2)
    documents = rows(outcome)
    assert list(documents) == ["b", "a", "c"]
    assert outcome.artifact.names() == ["00000.parquet", "00001.parquet"]
    assert documents["b"]["text"] == ("The furnace keeps an even heat. " * 9).strip()
    assert documents["a"]["text"] == "炉火要保持均匀的温度，直到炼成为止。" * 9
    assert documents["a"]["license"] == "CC0"
    assert documents["a"]["first_seen"] == 1
    assert documents["a"]["title"] == "炉火"
    assert documents["a"]["metadata"] == '{"encoding":"gb18030"}'
    assert documents["b"]["declared_language"] == "en"
    assert outcome.result.counts == {"documents": 3}
    assert outcome.result.metrics["documents_in"] == 3
    assert outcome.result.samples[0].after


def test_bad_pages_are_counted_and_harm_no_other(tmp_path: Path) -> None:
    deep = "<div>" * 100_000 + "deep down " * 30 + "</div>" * 100_000
    pages: dict[str, Page] = {
        "good": (ENGLISH.encode(), HTML),
        "large": (b"<p>" + b"x" * 3_000_000, HTML),
        "picture.html": (b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 20, HTML),
        "picture": (b"GIF89a", "image/gif"),
        "compressed": (gzip.compress(ENGLISH.encode()), HTML),
        "noise": (bytes((n * 7919 + n // 5) % 256 for n in range(5000)), HTML),
        "nothing": (b"", HTML),
        "script only": (b"<html><script>var x = 1;</script></html>", HTML),
        "deep": (deep.encode(), HTML),
        "broken": (ENGLISH.replace("even", "e\ud800ven").encode("utf-8", "surrogatepass") + b"\xff\xfe<<<>", HTML),
        "chinese": (CHINESE.encode(), HTML),
    }
    outcome = clean(tmp_path, pages, extractor="beautifulsoup", max_page_bytes=2_000_000)
    metrics = outcome.result.metrics
    assert list(rows(outcome)) == ["good", "deep", "broken", "chinese"]
    assert metrics["dropped.too_large"] == 1
    assert metrics["dropped.not_text"] == 4
    assert metrics["dropped.empty"] == 2
    dropped = sum(count for name, count in metrics.items() if name.startswith("dropped."))
    assert metrics["documents_out"] + dropped == metrics["documents_in"] == len(pages)
    assert {sample.title for sample in outcome.result.samples} >= {"cleaned", "dropped: not_text", "dropped: too_large"}


def test_what_a_page_says_goes_into_columns(tmp_path: Path) -> None:
    license_ = "https://creativecommons.org/licenses/by/4.0/deed.zh"
    said = (
        '<html lang="zh-CN"><head><title>炉火</title><link rel="canonical" href="/fire"><link rel="license" href="{}">'
        '<meta name="robots" content="noai"><meta property="article:published_time" content="2024-05-31T08:00:00Z">'
    )
    page = CHINESE.replace("<html><head><title>炉火</title>", said.format(license_)).encode()
    pages: dict[str, Page] = {"https://e.org/a": (page, HTML), "b.txt": (b"The furnace keeps a heat.", "text/plain")}
    task = CleanHtml.model_validate({"pages": "pages", "extractor": "resiliparse"})
    corpus = make_pages(tmp_path / "pages", [pages])
    table = read_table(corpus.partitions[0].path)
    licenses = table.column_names.index("license")
    unlicensed = table.set_column(licenses, "license", pa.array([None, None], pa.string()))
    write_table(unlicensed, tmp_path / "unlicensed" / "00000.parquet")
    for source, expected in ((corpus, "CC0"), (Pages.of_folder(tmp_path / "unlicensed"), "CC-BY-4.0")):
        documents = rows(run_task(task, {"pages": source}, tmp_path, name=expected, workers=1))
        found = documents["https://e.org/a"]
        assert [found[name] for name in ("title", "canonical_url", "published", "declared_language", "license")] == [
            *("炉火", "https://e.org/fire", "2024-05-31", "zh-cn", expected)
        ]
        assert found["ai_opt_out"] == ["noai"]
    assert documents["b.txt"]["license"] is documents["b.txt"]["title"] is None


@pytest.mark.parametrize("extractor", ["trafilatura", "resiliparse"])
def test_every_extractor_runs_as_a_step(tmp_path: Path, extractor: str) -> None:
    outcome = clean(tmp_path, {"a": (ENGLISH.encode(), HTML), "b": (CHINESE.encode(), HTML)}, extractor=extractor)
    assert all(len(str(row["text"])) > 100 for row in rows(outcome).values())


def test_text_is_not_extracted(tmp_path: Path) -> None:
    text = "# Title\r\n\r\n    if a < b and b > c:  <p>\r\n\t中文，文本。  \r\n\r\n\r\n\r\nend\x00"
    pages: dict[str, Page] = {
        "plain": (text.encode("gb18030"), "text/plain; charset=gb2312"),
        "markdown": (text.encode(), "text/markdown"),
        "unknown": (b"just words, no markup at all", "application/octet-stream"),
        "unknown page": (b"<!doctype html><body><p>one</p><p>two</p>", ""),
    }
    documents = rows(clean(tmp_path, pages, extractor="beautifulsoup"))
    expected = "# Title\n\n    if a < b and b > c:  <p>\n\t中文，文本。  \n\n\n\nend"
    assert documents["plain"]["text"] == documents["markdown"]["text"] == expected
    assert documents["unknown"]["text"] == "just words, no markup at all"
    assert documents["unknown page"]["text"] == "one\n\ntwo"


def test_a_page_that_takes_too_long_is_dropped(tmp_path: Path) -> None:
    pages: dict[str, Page] = {
        "before": (ENGLISH.encode(), HTML),
        "slow": (b"<p>x" * 400_000, HTML),
        "after": (CHINESE.encode(), HTML),
    }
    outcome = clean(tmp_path, pages, extractor="beautifulsoup", seconds_per_page=3.0)
    assert list(rows(outcome)) == ["before", "after"]
    assert outcome.result.metrics["dropped.timeout"] == 1


def test_pages_that_crash_or_raise_are_dropped(tmp_path: Path) -> None:
    pages = make_pages(tmp_path / "pages", [{str(n): (ENGLISH.encode(), HTML) for n in range(3)}])
    calls = iter([DocumentLost("crash"), ValueError("the library's own"), None])

    def guard(document, function, *arguments):  # type: ignore[no-untyped-def]
        error = next(calls)
        if error is not None:
            raise error
        return function(*arguments)

    task = CleanHtml.model_validate({"pages": "pages", "extractor": "resiliparse"})
    worked = CleanPages(task).work(read_table(pages.partitions[0].path), guard)
    assert worked.tally.counts["dropped.crash"] == {0: 1}
    assert worked.tally.counts["dropped.extractor_failed"] == {1: 1}
    assert worked.table["url"].to_pylist() == ["2"]
    assert worked.origin == [2]


def test_a_batch_that_fails_is_worked_on_page_by_page(tmp_path: Path) -> None:
    contents = [ENGLISH.encode(), b"%PDF-1.4", CHINESE.encode(), ENGLISH.encode()]
    pages = make_pages(tmp_path / "pages", [{str(n): (content, HTML) for n, content in enumerate(contents)}])
    table = read_table(pages.partitions[0].path)
    ids = table["id"].to_pylist()
    asked: list[str] = []

    def guard(document, function, *arguments):  # type: ignore[no-untyped-def]
        asked.append(document)
        if document == f"batch from {ids[0]}":
            raise DocumentLost("timeout")
        if document == ids[2]:
            raise DocumentLost("timeout")
        return function(*arguments)

    task = CleanHtml.model_validate({"pages": "pages"})
    worked = CleanPages(task).work(table, guard)
    assert asked[:5] == [f"batch from {ids[0]}", *ids]
    assert worked.tally.counts["dropped.not_text"] == {1: 1}
    assert worked.tally.counts["dropped.timeout"] == {2: 1}
    assert worked.origin == [0, 3]
    whole = CleanPages(task).work(table, lambda _, function, *arguments: function(*arguments))
    assert whole.origin == [0, 2, 3]
    assert whole.table.take([0, 2]).equals(worked.table)


class DeadlyPages(CleanPages):
    """Some pages take the worker with them, alone and with others."""

    def work(self, rows: pa.Table, guard: Guard) -> Worked:
        def risky(document: str, function: Callable[..., Any], *arguments: Any) -> Any:
            return guard(document, die_of_some, function, *arguments)

        return super().work(rows, risky)


def die_of_some(function: Callable[..., Any], *arguments: Any) -> Any:
    if function is clean_pages and any(b"Deadly" in page["content"] for page in arguments[1]):
        os.kill(os.getpid(), signal.SIGSEGV)
    return function(*arguments)


def test_a_page_that_kills_its_worker_costs_only_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pages: dict[str, Page] = {str(n): (ENGLISH.encode(), HTML) for n in range(5)}
    deadly: dict[str, Page] = pages | {"3": (ENGLISH.replace("Heat", "Deadly").encode(), HTML)}
    monkeypatch.setattr("tasks.clean_html.CleanPages", DeadlyPages)
    outcome = clean(tmp_path, deadly, {"after": (CHINESE.encode(), HTML)})
    assert list(rows(outcome)) == ["0", "1", "2", "4", "after"]
    assert outcome.result.metrics["dropped.crash"] == 1


def test_nothing_left_is_a_failure_that_says_why(tmp_path: Path) -> None:
    with pytest.raises(StepFailed, match=r"clean_html: none of 2 documents left; dropped for not_text \(2\)"):
        clean(tmp_path, {"a": (b"%PDF-1.4", HTML), "b": (b"\x1f\x8b\x08", HTML)})


def test_a_partition_may_become_empty(tmp_path: Path) -> None:
    outcome = clean(tmp_path, {"a": (b"%PDF-1.4", HTML)}, {"b": (ENGLISH.encode(), HTML)})
    assert outcome.artifact.names() == ["00000.parquet", "00001.parquet"]
    assert list(rows(outcome)) == ["b"]


def test_the_same_pages_give_the_same_bytes_whatever_the_workers(tmp_path: Path) -> None:
    partitions = [{f"{n}-{m}": ((ENGLISH + CHINESE * m).encode(), HTML) for m in range(3)} for n in range(3)]
    one = clean(tmp_path, *partitions, name="one", workers=1)
    two = clean(tmp_path, *partitions, name="two", workers=2)
    assert one.artifact.digest == two.artifact.digest


def test_real_pages(tmp_path: Path) -> None:
    archive = SHARED / "extraction" / "trafilatura_eval.tar.xz"
    if not archive.exists():
        pytest.skip(f"{archive} is not there")
    import tarfile

    pages: dict[str, Page] = {}
    with tarfile.open(archive) as tar:
        for member in tar:
            if member.name.endswith(".html") and len(pages) < 12:
                file = tar.extractfile(member)
                assert file is not None
                pages[member.name] = (file.read(), HTML)
    for extractor in ("beautifulsoup", "trafilatura", "resiliparse"):
        outcome = clean(tmp_path, pages, name=extractor, extractor=extractor, workers=2)
        assert outcome.result.metrics["documents_out"] >= 10
        assert not any("<div" in str(row["text"]) for row in rows(outcome).values())


def test_a_sample_shows_the_whole_page_as_text_beside_what_was_kept(tmp_path: Path) -> None:
    page = ENGLISH.replace("<body>", "<body><nav>Home News</nav>").encode()
    outcome = clean(tmp_path, {"a": (page, HTML), "b": (b"%PDF-1.4 \0\1\2" * 50, HTML)}, extractor="beautifulsoup")
    kept, dropped = outcome.result.samples
    assert "Home News" in kept.before
    assert "<" not in kept.before
    assert kept.after == ("The furnace keeps an even heat. " * 9).strip()
    assert dropped.title == "dropped: not_text"
    assert (dropped.before, dropped.after) == ("600 bytes of text/html", None)
