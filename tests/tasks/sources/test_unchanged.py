"""What a refresh reads again: files that have changed, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.context import PlainWorld
from tasks.sources.base import Item, Page, Past, Same, Source
from tasks.sources.files import Files, Markdown
from tasks.sources.jsonl import Jsonl
from tasks.sources.text import Text
from tests.tasks.sources.archives import write


def _items(source: Source, folder: Path, versions: dict[str, str] | None = None) -> list[Item]:
    return list(source.pages(PlainWorld(folder), Past(versions or {})))


def _versions(items: list[Item]) -> dict[str, str]:
    return {item.url: item.version for item in items if isinstance(item, Page) and item.version is not None}


def _same(items: list[Item]) -> list[str]:
    return [item.url for item in items if isinstance(item, Same)]


@pytest.mark.parametrize(
    "source", [Files(path="."), Text(path="."), Markdown(path=".")], ids=lambda source: source.kind
)
def test_of_files_that_are_pages_only_changed_ones_are_read(tmp_path: Path, source: Source) -> None:
    write(tmp_path, {f"{name}.md": b"same words" for name in "abcd"})
    versions = _versions(_items(source, tmp_path))
    assert len(set(versions.values())) == 4
    write(tmp_path, {"b.md": b"other words", "e.md": b"new"})
    (tmp_path / "c.md").unlink()
    items = _items(source, tmp_path, versions)
    assert _same(items) == ["a.md", "d.md"]
    assert list(_versions(items)) == ["b.md", "e.md"]


def test_other_settings_read_all_again_and_other_places_do_not(tmp_path: Path) -> None:
    write(tmp_path, {"one/a.jsonl": b'{"text": "x", "body": "y"}'})
    versions = _versions(_items(Jsonl(path="one"), tmp_path))
    (tmp_path / "one").rename(tmp_path / "two")
    assert _same(_items(Jsonl(path="two", name="other", license="MIT"), tmp_path, versions)) == ["a.jsonl#1"]
    assert _same(_items(Jsonl(path="two", text="body"), tmp_path, versions)) == []


def test_a_file_added_to_others_is_the_only_one_read(tmp_path: Path) -> None:
    def day(number: int, *urls: str) -> None:
        lines = [json.dumps({"text": f"{url} {number}", "url": url, "date": f"2024-05-0{number}"}) for url in urls]
        write(tmp_path, {f"{number}.jsonl": "\n".join(lines).encode()})

    source = Jsonl(path=".", url="url", date="date")
    day(1, "a", "b")
    day(2, "c")
    versions = _versions(_items(source, tmp_path))
    day(3, "b", "d")
    items = _items(source, tmp_path, versions)
    assert _same(items) == ["a", "b", "c"]
    assert [item.content for item in items if isinstance(item, Page)] == [b"b 3", b"d 3"]
    # With the day gone that had the newest version of a page, older ones count again: all is read.
    versions |= _versions(items)
    (tmp_path / "3.jsonl").unlink()
    assert _same(_items(source, tmp_path, versions)) == []


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.dictionaries(
            st.sampled_from("abc"), st.dictionaries(st.sampled_from("uvwx"), st.integers(1, 3)), min_size=1
        ),
        min_size=2,
        max_size=4,
    )
)
def test_with_a_past_the_same_pages_come_as_without(
    tmp_path_factory: pytest.TempPathFactory, states: list[dict[str, dict[str, int]]]
) -> None:
    folder = tmp_path_factory.mktemp("history")
    source = Jsonl(path=".", url="url", date="date")
    known: dict[str, tuple[int, bytes, str]] = {}
    for state in states:
        for old in folder.iterdir():
            old.unlink()
        for name, rows in state.items():
            lines = [
                json.dumps({"text": f"{name} {u} {d}", "url": u, "date": f"2024-05-0{d}"}) for u, d in rows.items()
            ]
            write(folder, {f"{name}.jsonl": "\n".join(lines).encode()})
        assert _newest(_items(source, folder), {}) == (
            known := _newest(_items(source, folder, {url: entry[2] for url, entry in known.items()}), known)
        )


def _newest(items: list[Item], known: dict[str, tuple[int, bytes, str]]) -> dict[str, tuple[int, bytes, str]]:
    """What remains of a URL's versions: the newest, and of equally new ones the later file's."""
    found: dict[str, tuple[int, bytes, str]] = {}
    for item in items:
        entry: Any = known[item.url] if isinstance(item, Same) else None
        if isinstance(item, Page):
            assert item.collected_at is not None
            entry = (item.collected_at.day, item.content, item.version)
        if entry and (item.url not in found or entry[:2] >= found[item.url][:2]):  # type: ignore[union-attr]
            found[item.url] = entry  # type: ignore[union-attr]
    return found
