"""Collections grow without moving what is there."""

from __future__ import annotations

import gzip
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
