"""Collections grow without moving what is there."""

from __future__ import annotations

import gzip
import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from storage.corpus import Pages, document_id
from storage.errors import SourceError
from tasks.collect import Collect
from tasks.context import PlainWorld
from tasks.sources.places import LocalFile
from tests.helpers import Outcome, run_task


def _page(text: str) -> bytes:
    return f"<!doctype html><html><body><p>{text}</p></body></html>".encode()


def _site(folder: Path, pages: dict[str, str]) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    for name, text in pages.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(_page(text))


def _collect(
    tmp_path: Path, name: str = "step", previous: Any = None, limit: int | None = None, **settings: Any
) -> Outcome:
    settings = {"sources": [{"kind": "files", "path": "site"}], "partition_pages": 3} | settings
    return run_task(Collect(**settings), {}, tmp_path, name=name, previous=previous, limit=limit)


def _layout(artifact: Any) -> dict[str, list[tuple[str, int]]]:
    return {
        partition.name: list(zip(table["url"].to_pylist(), table["first_seen"].to_pylist(), strict=True))
        for partition, table in zip(artifact.partitions, artifact.tables(), strict=True)
    }


def _content(artifact: Pages) -> dict[str, bytes]:
    tables = artifact.tables(["url", "content"])
    return {row["url"]: row["content"] for table in tables for row in table.to_pylist()}


def test_pages_are_ordered_and_cut_into_partitions(tmp_path: Path) -> None:
    _site(tmp_path / "site", {f"{name}.html": name for name in "edcba"} | {"诗/静夜思.html": "床前明月光"})
    outcome = _collect(tmp_path)
    assert _layout(outcome.artifact) == {
        "00000.parquet": [("a.html", 1), ("b.html", 1), ("c.html", 1)],
        "00001.parquet": [("d.html", 1), ("e.html", 1), ("诗/静夜思.html", 1)],
    }
    assert outcome.result.counts == {"rows": 6, "refresh": 1}
    row = next(iter(outcome.artifact.tables())).to_pylist()[0]  # type: ignore[attr-defined]
    assert row["id"] == document_id("files", "a.html")
    assert (row["source"], row["license"], row["collected_at"]) == ("files", None, None)
    assert _content(outcome.artifact)["诗/静夜思.html"] == _page("床前明月光")  # type: ignore[arg-type]


def test_a_collection_grows_in_new_partitions(tmp_path: Path) -> None:
    site = {f"{name}.html": name for name in "bdfhj"}
    _site(tmp_path / "site", site)
    first = _collect(tmp_path, "first")
    changed = {k: v for k, v in site.items() if k != "d.html"} | {"f.html": "new words", "a.html": "a", "z.html": "z"}
    _site(tmp_path / "site", changed)
    second = _collect(tmp_path, "second", previous=first.artifact)
    assert _layout(second.artifact) == {
        "00000.parquet": [("b.html", 1), ("f.html", 1)],
        "00001.parquet": [("h.html", 1), ("j.html", 1)],
        "00002.parquet": [("a.html", 2), ("z.html", 2)],
    }
    assert _content(second.artifact)["f.html"] == _page("new words")  # type: ignore[arg-type]
    assert second.artifact.manifest.files["00001.parquet"] == first.artifact.manifest.files["00001.parquet"]
    assert second.result.counts == {"rows": 6, "refresh": 2}
    assert second.result.metrics["pages_new"] == 2
    assert second.result.metrics["pages_vanished"] == 1


def test_collecting_the_same_again_gives_the_same_artifact(tmp_path: Path) -> None:
    _site(tmp_path / "site", {f"{number}.html": "字" * number for number in range(10)})
    first = _collect(tmp_path, "first")
    again = _collect(tmp_path, "again")
    refreshed = _collect(tmp_path, "refreshed", previous=first.artifact)
    assert first.artifact.digest == again.artifact.digest == refreshed.artifact.digest


def test_a_partition_left_by_all_its_pages_goes_and_its_number_is_not_taken_up(tmp_path: Path) -> None:
    _site(tmp_path / "site", {f"{name}.html": name for name in "abcdefg"})
    first = _collect(tmp_path, "first")
    _site(tmp_path / "site", {f"{name}.html": name for name in "abcg"})
    second = _collect(tmp_path, "second", previous=first.artifact)
    _site(tmp_path / "site", {f"{name}.html": name for name in "abcdg"})
    third = _collect(tmp_path, "third", previous=second.artifact)
    assert _layout(third.artifact) == {
        "00000.parquet": [("a.html", 1), ("b.html", 1), ("c.html", 1)],
        "00002.parquet": [("g.html", 1)],
        "00003.parquet": [("d.html", 2)],
    }


@settings(max_examples=15, deadline=None)
@given(st.lists(st.dictionaries(st.sampled_from("abcdefghij"), st.integers(0, 2), min_size=1), min_size=2, max_size=4))
def test_any_history_keeps_places_and_first_seen(
    tmp_path_factory: pytest.TempPathFactory, states: list[dict[str, int]]
) -> None:
    folder = tmp_path_factory.mktemp("history")
    previous: Any = None
    seen_in: dict[str, tuple[str, int]] = {}
    refresh = 0
    for number, state in enumerate(states):
        _site(folder / "site", {f"{name}.html": f"{name} {version}" for name, version in state.items()})
        previous = _collect(folder, f"step{number}", previous=previous).artifact
        assert _content(previous) == {f"{n}.html": _page(f"{n} {v}") for n, v in state.items()}
        places = {url: (part, first) for part, rows in _layout(previous).items() for url, first in rows}
        new = set(places) - set(seen_in)
        refresh += bool(new)
        assert {places[url][1] for url in new} <= {refresh}
        assert all(places[url] == seen_in[url] for url in places if url in seen_in)
        seen_in = places


def test_partitions_are_bounded_in_bytes(tmp_path: Path) -> None:
    rng = random.Random(0)
    sizes = {"a.html": 400_000, "b.html": 400_000, "c.html": 400_000, "d.html": 3_000_000, "e.html": 10}
    _site(tmp_path / "site", {name: "".join(rng.choices("ab", k=size)) for name, size in sizes.items()})
    outcome = _collect(tmp_path, partition_pages=100, partition_megabytes=1)
    assert [[url for url, _ in rows] for rows in _layout(outcome.artifact).values()] == [
        ["a.html", "b.html"],
        ["c.html"],
        ["d.html"],
        ["e.html"],
    ]


def test_sources_have_names_and_keep_their_order(tmp_path: Path) -> None:
    _site(tmp_path / "site", {"b.html": "b"})
    _site(tmp_path / "more", {"a.html": "a"})
    sources = [
        {"kind": "files", "path": "site", "license": "MIT"},
        {"kind": "files", "path": "more"},
        {"kind": "files", "path": "site", "name": "files-2"},
    ]
    outcome = _collect(tmp_path, sources=sources)
    (table,) = outcome.artifact.tables()  # type: ignore[attr-defined]
    assert table["source"].to_pylist() == ["files", "files-3", "files-2"]
    assert table["license"].to_pylist() == ["MIT", None, None]
    with pytest.raises(ValidationError, match="'x' is taken"):
        Collect(sources=[{"kind": "files", "path": path, "name": "x"} for path in "ab"])  # type: ignore[list-item]
    with pytest.raises(ValidationError):
        Collect(sources=[])


def test_paths_are_no_part_of_the_settings_and_contents_are(tmp_path: Path) -> None:
    _site(tmp_path / "one", {"a.html": "a"})
    _site(tmp_path / "two", {"a.html": "a"})
    tasks = [Collect(sources=[{"kind": "files", "path": name}]) for name in ("one", "two")]  # type: ignore[list-item]
    assert tasks[0].settings() == tasks[1].settings()
    assert tasks[0].outside(PlainWorld(tmp_path)) == tasks[1].outside(PlainWorld(tmp_path))
    assert tasks[0].outside(PlainWorld(tmp_path, limit=1)) != tasks[0].outside(PlainWorld(tmp_path))


def test_a_limit_takes_the_first_pages_of_every_source(tmp_path: Path) -> None:
    _site(tmp_path / "site", {f"{number}.html": "x" for number in range(9)})
    _site(tmp_path / "more", {f"{number}.html": "x" for number in range(9)})
    assert [url for rows in _layout(_collect(tmp_path, limit=4).artifact).values() for url, _ in rows] == [
        f"{number}.html" for number in range(4)
    ]
    sources = [{"kind": "files", "path": "site"}, {"kind": "files", "path": "more"}]
    outcome = _collect(tmp_path, "both", limit=5, sources=sources, partition_pages=9)
    assert [url for url, _ in _layout(outcome.artifact)["00000.parquet"]] == [
        *("0.html", "1.html", "2.html"),
        *("0.html", "1.html"),
    ]


def test_one_bad_file_is_quarantined_and_reported(tmp_path: Path) -> None:
    _site(tmp_path / "site", {"a.html": "a", "b.html": "b"})
    (tmp_path / "site/c.html.gz").write_bytes(gzip.compress(_page("c" * 9999))[:-20])
    (tmp_path / "site/style.css").write_text("p {}")
    result = _collect(tmp_path).result
    assert result.counts["rows"] == 2
    assert result.metrics["quarantined"] == result.metrics["quarantined.truncated"] == 1
    assert result.metrics["dropped.not_a_page"] == 1
    assert "c.html.gz" in result.samples[0].title


def test_too_many_bad_files_fail_the_step(tmp_path: Path) -> None:
    _site(tmp_path / "site", {f"{number}.html": "x" for number in range(20)})
    for name in "ab":
        (tmp_path / f"site/{name}.html.gz").write_bytes(b"\x1f\x8b not really")
    with pytest.raises(
        SourceError, match=r"source files: 2 of 22 inputs cannot be read \(a.html.gz: .*max_bad_fraction"
    ):
        _collect(tmp_path)
    sources = [{"kind": "files", "path": "site", "max_bad_fraction": 0.1}]
    assert _collect(tmp_path, "lenient", sources=sources).result.counts["rows"] == 20
    (tmp_path / "site/b.html.gz").unlink()
    with pytest.raises(SourceError, match="1 of 21"):
        _collect(tmp_path, "strict", sources=[{"kind": "files", "path": "site", "max_bad_fraction": 0}])


def test_no_page_at_all_is_an_error_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site/style.css").write_text("p {}")
    with pytest.raises(SourceError, match=r"no page came from files \(1 not_a_page\)") as caught:
        _collect(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_page_that_came_with_the_same_content_is_linked_not_written(tmp_path: Path) -> None:
    site = {f"{name}.html": name for name in "abcdef"}
    _site(tmp_path / "site", site)
    first = _collect(tmp_path, "first")
    _site(tmp_path / "site", site | {"b.html": "other words"})  # every file is written anew
    second = _collect(tmp_path, "second", previous=first.artifact)
    metrics = second.result.metrics
    assert (metrics["partitions"], metrics["partitions_reused"]) == (2, 1)
    assert (metrics["rows"], metrics["rows_reused"], metrics["pages_changed"]) == (6, 5, 1)
    assert second.artifact.path("00001.parquet").resolve() == first.artifact.path("00001.parquet").resolve()


def test_only_changed_files_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = {f"{name}.html": name for name in "abcdef"}
    _site(tmp_path / "site", site)
    first = _collect(tmp_path, "first")
    (tmp_path / "site/c.html").write_bytes(_page("changed"))
    opened: list[str] = []
    original = LocalFile.open

    def watched(self: LocalFile) -> Any:
        opened.append(self.name)
        return original(self)

    monkeypatch.setattr(LocalFile, "open", watched)
    second = _collect(tmp_path, "second", previous=first.artifact)
    assert opened == ["c.html"]
    assert _content(second.artifact)["c.html"] == _page("changed")  # type: ignore[arg-type]


def test_vanished_pages_are_kept_if_asked_for(tmp_path: Path) -> None:
    _site(tmp_path / "site", {f"{name}.html": name for name in "abcd"})
    _site(tmp_path / "more", {"z.html": "z"})
    both = [{"kind": "files", "path": "site"}, {"kind": "files", "path": "more", "name": "more"}]
    first = _collect(tmp_path, "first", sources=both)
    _site(tmp_path / "site", {"a.html": "a", "b.html": "changed", "e.html": "new"})
    second = _collect(tmp_path, "second", previous=first.artifact, vanished="keep", sources=both)
    assert _layout(second.artifact) == {
        "00000.parquet": [("a.html", 1), ("b.html", 1), ("c.html", 1)],
        "00001.parquet": [("d.html", 1), ("z.html", 1)],
        "00002.parquet": [("e.html", 2)],
    }
    assert second.result.metrics["pages_vanished"] == 2
    # A source that the recipe no longer names goes.
    third = _collect(tmp_path, "third", previous=second.artifact, vanished="keep", sources=both[:1])
    assert _layout(third.artifact)["00001.parquet"] == [("d.html", 1)]


def test_terms_of_a_source_follow_its_pages_when_they_change(tmp_path: Path) -> None:
    _site(tmp_path / "site", {f"{name}.html": name for name in "abcd"})
    first = _collect(tmp_path, "first")
    sources = [{"kind": "files", "path": "site", "license": "MIT", "language": "zh"}]
    second = _collect(tmp_path, "second", previous=first.artifact, sources=sources)
    fresh = _collect(tmp_path, "fresh", sources=sources)
    assert second.artifact.digest == fresh.artifact.digest
    assert {row["license"] for table in second.artifact.tables() for row in table.to_pylist()} == {"MIT"}  # type: ignore[attr-defined]


def _records(folder: Path, name: str, rows: list[tuple[str, str, str | None]]) -> None:
    folder.mkdir(exist_ok=True)
    lines = [json.dumps({"url": url, "text": text, "date": date}) for url, text, date in rows]
    (folder / name).write_text("\n".join(lines))


@pytest.mark.parametrize("first_too", [False, True], ids=["all at once", "as a refresh"])
def test_of_a_page_that_comes_more_than_once_the_newest_counts(tmp_path: Path, first_too: bool) -> None:
    sources = [{"kind": "jsonl", "path": "daily", "url": "url", "date": "date"}]
    _records(tmp_path / "daily", "1.jsonl", [("u/a", "old", "2024-01-01"), ("u/b", "b", "2024-01-01")])
    previous = _collect(tmp_path, "first", sources=sources).artifact if first_too else None
    _records(tmp_path / "daily", "2.jsonl", [("u/a", "newest", "2024-03-01"), ("u/c", "c", None)])
    _records(tmp_path / "daily", "3.jsonl", [("u/a", "in between", "2024-02-01"), ("u/c", "later", None)])
    outcome = _collect(tmp_path, "second", previous=previous, sources=sources)
    texts = {url: content.decode() for url, content in _content(outcome.artifact).items()}  # type: ignore[arg-type]
    assert texts == {"u/a": "newest", "u/b": "b", "u/c": "later"}
    assert [url for rows in _layout(outcome.artifact).values() for url, _ in rows] == ["u/a", "u/b", "u/c"]
    assert outcome.result.metrics["dropped.older_version"] >= 1


def test_small_partitions_at_the_end_are_merged(tmp_path: Path) -> None:
    site = {f"{number:03}.html": "a" for number in range(10)}
    _site(tmp_path / "site", site)
    settings = {"partition_pages": 10, "compact_partitions": 3}
    outcome = _collect(tmp_path, "0", **settings)
    shapes = []
    for day in range(1, 8):
        site[f"{100 + day}.html"] = f"day {day}"
        _site(tmp_path / "site", site)
        outcome = _collect(tmp_path, f"{day}", previous=outcome.artifact, **settings)
        shapes.append([len(rows) for rows in _layout(outcome.artifact).values()])
        assert _content(outcome.artifact) == {name: _page(text) for name, text in site.items()}  # type: ignore[arg-type]
    assert shapes == [
        *([10, 1], [10, 1, 1], [10, 1, 1, 1]),
        *([10, 4], [10, 4, 1], [10, 4, 1, 1], [10, 7]),
    ]
    assert _layout(outcome.artifact)["00000.parquet"] == [(f"{number:03}.html", 1) for number in range(10)]
    assert list(_layout(outcome.artifact).values())[1] == [(f"{100 + day}.html", 1 + day) for day in range(1, 8)]
    # What was merged is settled: a full partition is no longer touched.
    again = _collect(tmp_path, "again", previous=outcome.artifact, **settings)
    assert again.artifact.digest == outcome.artifact.digest
