"""Pages that are left in large files, and the same documents from every form that pages can lie in."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from storage.artifact import Artifact
from storage.errors import SourceError
from tasks.clean_html import CleanHtml
from tasks.collect import Collect
from tasks.sources.in_place import Origins, Reader
from tasks.task import Input
from tests.helpers import Outcome, run_task
from tests.tasks.sources.archives import ARC_HEAD, Made, gzipped, members, zstd

PAGES = {
    f"https://a.example/{n}": f"<html lang=zh><body><h1>第{n}页</h1><p>{'炼金术士的炉子。' * (n + 5)}</p></body></html>"
    for n in range(7)
}


def _warc(pages: dict[str, str], pack: Any = gzipped) -> bytes:
    return b"".join(members([Made(url, text.encode()) for url, text in pages.items()], pack))


def _lines(pages: dict[str, str]) -> bytes:
    return b"".join(json.dumps({"u": url, "html": text}).encode() + b"\n" for url, text in pages.items())


def _parquet(pages: dict[str, str]) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"u": list(pages), "html": list(pages.values())}), sink, row_group_size=3)
    return sink.getvalue().to_pybytes()


COLUMNS = {"url": "u", "content": "html"}
FORMS: dict[str, tuple[str, Callable[[dict[str, str]], bytes], dict[str, Any], bool]] = {
    "warc.gz": ("warc", _warc, {}, True),
    "warc": ("warc", lambda pages: _warc(pages, bytes), {}, True),
    "arc.gz": (
        "warc",
        lambda pages: b"".join(map(gzipped, [ARC_HEAD, *(Made(u, t.encode()).arc() for u, t in pages.items())])),
        {},
        True,
    ),
    "warc.zst": ("warc", lambda pages: _warc(pages, zstd), {}, False),
    "one.warc.gz": ("warc", lambda pages: gzip.compress(_warc(pages, bytes)), {}, False),
    "jsonl": ("jsonl", _lines, COLUMNS, True),
    "jsonl.gz": ("jsonl", lambda pages: gzip.compress(_lines(pages)), COLUMNS, False),
    "parquet": ("parquet", _parquet, COLUMNS, True),
}
"""By a file's ending: kind of source, what writes it, settings, and whether its pages can be left in it."""


def _collect(tmp_path: Path, name: str, *, previous: Artifact | None = None, **source: Any) -> tuple[Collect, Outcome]:
    task = Collect(sources=[{"name": "web"} | source], partition_pages=3)  # type: ignore[list-item]
    return task, run_task(task, {}, tmp_path, name=name, previous=previous)


def _clean(tmp_path: Path, name: str, collected: tuple[Collect, Outcome]) -> Outcome:
    task, outcome = collected
    clean = CleanHtml(pages=Input("pages"), extractor="beautifulsoup")
    makers = {"pages": task}
    return run_task(clean, {"pages": outcome.artifact}, tmp_path, name=name, workers=1, makers=makers)


def _rows(outcome: Outcome, *columns: str) -> list[dict[str, Any]]:
    return [row for table in outcome.artifact.tables(columns or None) for row in table.to_pylist()]  # type: ignore[attr-defined]


def _contents(outcome: Outcome) -> set[bool]:
    return {row["content"] is None for row in _rows(outcome, "content")}


@pytest.mark.parametrize("ending", FORMS)
def test_every_form_gives_the_same_documents_copied_or_left_in_place(tmp_path: Path, ending: str) -> None:
    kind, written, columns, can_stay = FORMS[ending]
    (tmp_path / f"pages.{ending}").write_bytes(written(PAGES))
    source = {"kind": kind, "path": f"pages.{ending}", "language": "zh", "license": "CC0", **columns}
    copied = _collect(tmp_path, "copied", **source)
    left = _collect(tmp_path, "left", **source, in_place_megabytes=0)
    assert _contents(copied[1]) == {False}
    assert _contents(left[1]) == {can_stay}
    one, other = _clean(tmp_path, "clean-copied", copied), _clean(tmp_path, "clean-left", left)
    assert _rows(one) == _rows(other)
    assert {row["url"]: row["text"].count("炼金术士") for row in _rows(one)} == {u: n + 5 for n, u in enumerate(PAGES)}
    assert {(row["language"], row["license"], row["source"]) for row in _rows(one)} == {("zh", "CC0", "web")}


@settings(max_examples=3, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.dictionaries(
        st.integers(0, 99).map(lambda number: f"https://a.example/{number}"),
        st.text(st.characters(blacklist_categories=("Cs", "Cc")), min_size=1).map(lambda text: f"<html><p>x{text}</p>"),
        min_size=1,
        max_size=5,
    )
)
def test_whatever_the_pages_say_the_form_does_not_matter(
    tmp_path_factory: pytest.TempPathFactory, pages: dict[str, str]
) -> None:
    found = []
    for ending, (kind, written, columns, _) in FORMS.items():
        folder = tmp_path_factory.mktemp("form")
        (folder / f"pages.{ending}").write_bytes(written(pages))
        source = {"kind": kind, "path": ".", "in_place_megabytes": 0, **columns}
        clean = _clean(folder, "clean", _collect(folder, "pages", **source))
        found.append(sorted((row["id"], row["url"], row["text"]) for row in _rows(clean)))
    assert all(other == found[0] for other in found)


def test_what_is_left_costs_no_room_and_a_refresh_follows_it(tmp_path: Path) -> None:
    source = {"kind": "warc", "path": "crawl", "in_place_megabytes": 0}
    (tmp_path / "crawl").mkdir()
    long = {url: text * 500 for url, text in PAGES.items()}
    (tmp_path / "crawl/1.warc.gz").write_bytes(_warc(long))
    first = _collect(tmp_path, "first", **source)
    assert sum(first[1].artifact.path(name).stat().st_size for name in first[1].artifact.names()) < 25_000
    newer = Made("https://a.example/3", "<p>新的页面，写着别的话。</p>".encode(), date="2025-01-01T00:00:00Z")
    (tmp_path / "crawl/2.warc.gz").write_bytes(b"".join(members([newer])))
    second = _collect(tmp_path, "second", previous=first[1].artifact, **source)
    assert second[1].result.metrics["pages_changed"] == 1
    assert second[1].result.metrics["partitions_reused"] == 2
    afresh = _collect(tmp_path, "afresh", **source)
    texts = {row["url"]: row["text"] for row in _rows(_clean(tmp_path, "a", second))}
    assert texts == {row["url"]: row["text"] for row in _rows(_clean(tmp_path, "b", afresh))}
    assert texts["https://a.example/3"] == "新的页面，写着别的话。"
    # A record that has moved within its file is found in its new place.
    (tmp_path / "crawl/1.warc.gz").write_bytes(_warc({"https://a.example/new": "<p>先</p>", **long}))
    third = _collect(tmp_path, "third", previous=second[1].artifact, **source)
    cleaned = {row["url"]: row["text"] for row in _rows(_clean(tmp_path, "c", third))}
    assert cleaned == texts | {"https://a.example/new": "先"}


def test_a_file_that_changes_behind_a_collection_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(_lines(PAGES))
    task, outcome = _collect(tmp_path, "pages", kind="jsonl", path="x.jsonl", in_place_megabytes=0, **COLUMNS)

    def read(task: Collect | None) -> list[bytes]:
        with Reader(Origins.of(task, tmp_path)) as reader:
            return [reader.content(row) for row in _rows(outcome)]

    assert [content.decode() for content in read(task)] == list(PAGES.values())
    said = r"^source web: x\.jsonl has changed since its pages were collected \(.*\); run again"
    for content in (_lines(PAGES).replace(b"lang=zh", b"lang=en"), b"", _lines(PAGES)[9:]):
        path.write_bytes(content)
        with pytest.raises(SourceError, match=said):
            read(task)
    with pytest.raises(SourceError, match="no source of that name is at hand"):
        read(None)
    path.unlink()
    with pytest.raises(SourceError, match=said):
        _clean(tmp_path, "gone", (task, outcome))


def test_pages_are_left_in_an_object_store(bucket: str, tmp_path: Path) -> None:
    fs, root = fsspec.url_to_fs(bucket)
    for ending, (kind, written, columns, can_stay) in FORMS.items():
        fs.pipe_file(f"{root}/{ending}/pages.{ending}", written(PAGES))
        if not can_stay:
            continue
        for path in (f"{bucket}/{ending}", f"{bucket}/{ending}/pages.{ending}"):
            name = f"{ending}-{len(path)}"
            collected = _collect(tmp_path, name, kind=kind, path=path, in_place_megabytes=0, **columns)
            assert _contents(collected[1]) == {True}
            with Reader(Origins.of(collected[0], tmp_path)) as reader:
                contents = {row["url"]: reader.content(row).decode() for row in _rows(collected[1])}
            assert contents == PAGES


def test_an_object_that_is_overwritten_behind_a_collection_is_one_line(bucket: str, tmp_path: Path) -> None:
    fs, root = fsspec.url_to_fs(bucket)
    fs.pipe_file(f"{root}/x.jsonl", _lines(PAGES))
    task, outcome = _collect(tmp_path, "pages", kind="jsonl", path=f"{bucket}/x.jsonl", in_place_megabytes=0, **COLUMNS)

    def read() -> list[str]:
        with Reader(Origins.of(task, tmp_path)) as reader:
            return [reader.content(row).decode() for row in _rows(outcome)]

    assert read() == list(PAGES.values())
    fs.pipe_file(f"{root}/x.jsonl", _lines(PAGES).replace(b"lang=zh", b"lang=en"))  # as long as it was
    with pytest.raises(SourceError, match=r"x\.jsonl has changed since its pages were collected") as said:
        read()
    assert "\n" not in str(said.value)
