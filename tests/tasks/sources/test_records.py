"""Pages from JSON lines, Parquet and plain text: columns, keys, and every fault."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from storage.errors import SourceError
from tasks.context import PlainWorld
from tasks.sources.base import Bad, Page, Terms
from tasks.sources.files import Markdown
from tasks.sources.jsonl import Jsonl
from tasks.sources.parquet import Parquet
from tasks.sources.text import Text
from tests.tasks.sources.archives import bad, gzipped, lz4, pages, passed, take, write, zstd

ROWS: list[dict[str, Any]] = [
    {"text": "火与水", "link": "https://a/1", "key": "k1", "when": "2024-05-06T07:08:09+02:00", "meta": {"n": "x"}},
    {"text": "gold", "link": "https://a/2", "key": "k2", "when": None, "meta": {"n": "y"}},
]
UTF8 = "text/plain; charset=utf-8"


def _jsonl(rows: list[Any]) -> bytes:
    return b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows)


def _source(tmp_path: Path, kind: str, rows: list[dict[str, Any]], **settings: Any) -> Jsonl | Parquet:
    if kind == "jsonl":
        write(tmp_path, {"data.jsonl": _jsonl(rows)})
        return Jsonl(path="data.jsonl", **settings)
    name = f"data.{kind}"
    table = pa.Table.from_pylist(rows)
    if kind == "parquet":
        pq.write_table(table, tmp_path / name, row_group_size=1)
    else:
        with pa.ipc.new_stream(str(tmp_path / name), table.schema) as writer:
            writer.write_table(table)
    return Parquet(path=name, **settings)


@pytest.mark.parametrize("kind", ["jsonl", "parquet", "arrow"])
def test_columns_are_named_by_settings(tmp_path: Path, kind: str) -> None:
    found = pages(take(_source(tmp_path, kind, ROWS), tmp_path))
    assert list(found) == [f"data.{kind}#1", f"data.{kind}#2"]
    assert [page.content.decode() for page in found.values()] == ["火与水", "gold"]
    assert {page.content_type for page in found.values()} == {UTF8}
    assert list(pages(take(_source(tmp_path, kind, ROWS, url="link"), tmp_path))) == ["https://a/1", "https://a/2"]
    assert list(pages(take(_source(tmp_path, kind, ROWS, id="key"), tmp_path))) == [
        f"data.{kind}#k1",
        f"data.{kind}#k2",
    ]
    both = pages(take(_source(tmp_path, kind, ROWS, url="link", id="meta.n", date="when"), tmp_path))
    assert list(both) == ["https://a/1#x", "https://a/2#y"]
    assert [page.collected_at for page in both.values()] == [datetime(2024, 5, 6, 5, 8, 9, tzinfo=UTC), None]
    named = pages(take(_source(tmp_path, kind, ROWS, text="meta.n"), tmp_path))
    assert [page.content for page in named.values()] == [b"x", b"y"]


def test_raw_pages_lie_in_columns_too(tmp_path: Path) -> None:
    html = "<html><meta charset=gb2312><p>中文</p></html>"
    rows = [
        {"html": html, "type": "text/html; charset=gb2312"},
        {"html": html, "type": None},
        {"html": "plain words", "type": None},
    ]
    for kind in ("jsonl", "parquet"):
        found = take(_source(tmp_path, kind, rows, content="html", content_type="type"), tmp_path)
        types = [page.content_type for page in pages(found).values()]
        assert types == ["text/html; charset=utf-8", "text/html; charset=utf-8", UTF8]
        assert next(iter(pages(found).values())).content.decode() == html
    encoded = [{"html": html.encode("gb2312"), "type": "text/html; charset=gb2312"}, {"html": b"\x89PNG", "type": ""}]
    items = take(_source(tmp_path, "parquet", encoded, content="html", content_type="type"), tmp_path)
    assert [page.content_type for page in pages(items).values()] == ["text/html; charset=gb2312"]
    assert passed(items) == {"data.parquet:2": "not_a_page"}


def test_what_is_wrong_with_a_record_is_counted_and_the_file_goes_on(tmp_path: Path) -> None:
    lines = [
        b'\xef\xbb\xbf{"text": "first"}',
        b'{"text": "cut o',
        b"[1]",
        b"",
        b'{"txt": "x"}',
        b'{"text": 7}',
        b'{"text": null}',
        b'{"text": ""}',
        b'{"text": "\xff\xfe"}',
        b"[" * 100_000,
        b'{"text": "' + b"x" * 7000 + b'"}',
        b'{"text": "' + b"x" * 1001 + b'"}',
        b'{"text": "\\ud800 half"}',
        b'{"text": "last"}',
    ]
    write(tmp_path, {"data.jsonl": b"\n".join(lines)})
    items = take(Jsonl(path="data.jsonl", max_page_bytes=1000), tmp_path)
    assert [page.content for page in pages(items).values()] == [b"first", b"? half", b"last"]
    assert list(pages(items)) == ["data.jsonl#1", "data.jsonl#13", "data.jsonl#14"]
    assert Counter(bad(items).values()) == {"bad_line": 3, "column_missing": 1, "column_type": 1, "line_too_long": 2}
    assert Counter(passed(items).values()) == {"empty": 2, "too_large": 1}
    assert bad(items)["data.jsonl:2"] == "bad_line"


@pytest.mark.parametrize("pack", [gzipped, zstd, lz4])
@settings(max_examples=15, deadline=None)
@given(share=st.floats(0.01, 0.99))
def test_a_cut_file_gives_every_whole_line_before_the_cut(
    tmp_path_factory: pytest.TempPathFactory, pack: Any, share: float
) -> None:
    folder = tmp_path_factory.mktemp("cut")
    suffix = {gzipped: "gz", zstd: "zst", lz4: "lz4"}[pack]
    parts = [pack(_jsonl([{"text": f"line {n} " + "词" * 40}])) for n in range(20)]
    content = b"".join(parts)[: int(share * sum(map(len, parts)))]
    write(folder, {f"data.jsonl.{suffix}": content})
    items = take(Jsonl(path=f"data.jsonl.{suffix}"), folder)
    ends = [sum(map(len, parts[: n + 1])) for n in range(20)]
    whole = sum(end <= len(content) for end in ends)
    assert len(pages(items)) - whole in (0, 1)
    if len(content) not in (0, *ends):
        assert list(bad(items).values()) == ["truncated"]


def test_parquet_files_that_are_wrong_are_quarantined(tmp_path: Path) -> None:
    table = pa.table({"text": [f"text {n} " + "words " * 50 for n in range(30)], "n": range(30)})
    pq.write_table(table, tmp_path / "good.parquet", row_group_size=10, compression="none", use_dictionary=False)
    whole = (tmp_path / "good.parquet").read_bytes()
    group = pq.ParquetFile(tmp_path / "good.parquet").metadata.row_group(1).column(0)
    start = group.data_page_offset
    (tmp_path / "inside.parquet").write_bytes(whole[:start] + b"\xff" * 64 + whole[start + 64 :])
    (tmp_path / "cut.parquet").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "false.parquet").write_bytes(b"<html>")
    (tmp_path / "empty.parquet").write_bytes(b"")
    pq.write_table(pa.table({"body": ["x"]}), tmp_path / "schema.parquet")
    pq.write_table(pa.table({"text": [[1, 2]]}), tmp_path / "type.parquet")
    (tmp_path / "cut.arrow").write_bytes(b"\xff\xff\xff\xff\x10")
    items = take(Parquet(path="."), tmp_path)
    assert bad(items) == {
        "cut.arrow": "corrupt",
        "cut.parquet": "truncated",
        "empty.parquet": "corrupt",
        "false.parquet": "corrupt",
        "inside.parquet:11": "corrupt",
        "schema.parquet": "schema",
        "type.parquet:1": "column_type",
    }
    urls = list(pages(items))
    assert [url for url in urls if url.startswith("good")] == [f"good.parquet#{n}" for n in range(1, 31)]
    inside = [url for url in urls if url.startswith("inside")]
    assert inside == [f"inside.parquet#{n}" for n in [*range(1, 11), *range(21, 31)]]
    (schema,) = [item for item in items if isinstance(item, Bad) and item.reason == "schema"]
    assert schema.detail == "there is no column 'text'; its columns are body"


def test_a_folder_of_a_dataset_gives_its_licence_and_language(tmp_path: Path) -> None:
    (tmp_path / "set/data").mkdir(parents=True)
    for name in ("train-00000-of-00001", "test-00000-of-00001"):
        pq.write_table(pa.table({"text": [name]}), tmp_path / f"set/data/{name}.parquet")
    card = "---\nlicense: cc-by-4.0\nlanguage:\n- zh\ntags: [a: b]\n---\n# A set\n"
    write(tmp_path, {"set/README.md": card.encode(), "set/dataset_infos.json": b"{}", "set/.cache/x.parquet": b""})
    world = PlainWorld(tmp_path)
    source = Parquet(path="set")
    assert [page.content for page in pages(take(source, tmp_path)).values()] == [
        b"test-00000-of-00001",
        b"train-00000-of-00001",
    ]
    assert source.terms(world) == Terms("cc-by-4.0", "zh")
    assert Parquet(path="set/data/train-*.parquet").terms(world) == Terms("cc-by-4.0", "zh")
    assert Parquet(path="set/data/train-00000-of-00001.parquet", license="MIT").terms(world) == Terms("MIT", "zh")
    before = source.fingerprint(world)
    write(tmp_path, {"set/README.md": card.replace("cc-by-4.0", "mit").encode()})
    assert source.fingerprint(world) != before
    for said in (b"# no card", b"---\n: [\n---\n", b"---\n- a\n---\n", b"\xff\xfe", b"---\nlanguage: [en, zh]\n---\n"):
        write(tmp_path, {"set/README.md": said})
        assert source.terms(world) == Terms()
    (tmp_path / "set/README.md").unlink()
    assert source.terms(world) == Terms()


def test_settings_that_contradict_each_other_are_refused() -> None:
    for settings_, said in (
        ({"text": "a", "content": "b"}, "not both"),
        ({"content_type": "a"}, "belongs to `content`"),
        ({"path": ""}, "empty"),
        ({"language": "English"}, "language"),
    ):
        with pytest.raises(ValidationError, match=said):
            Jsonl(**{"path": "x", **settings_})  # type: ignore[arg-type]


def test_text_is_a_file_a_line_or_a_block(tmp_path: Path) -> None:
    text = "\ufeff一\n二\r\n\n \n三\n".encode()
    write(tmp_path, {"a.log": text, "b.txt.gz": gzip.compress(b"four"), "c.txt": b"\x89PNG\r\n" + bytes(99)})
    whole = take(Text(path="."), tmp_path)
    assert {url: page.content for url, page in pages(whole).items()} == {"a.log": text, "b.txt.gz": b"four"}
    assert passed(whole) == {"c.txt": "not_a_page"}
    lines = pages(take(Text(path=".", each="line"), tmp_path))
    assert {url: page.content.decode() for url, page in lines.items()} == {
        "a.log#1": "一",
        "a.log#2": "二",
        "a.log#5": "三",
        "b.txt.gz#1": "four",
    }
    blocks = pages(take(Text(path="a.log", each="block"), tmp_path))
    assert {url: page.content.decode() for url, page in blocks.items()} == {"a.log#1": "一\n二", "a.log#5": "三"}


def test_blocks_too_large_or_cut_are_said(tmp_path: Path) -> None:
    write(tmp_path, {"a.txt": b"small\n\n" + b"line\n" * 99 + b"\nsmall too\n\n" + b"x" * 200 + b"\n\nlast"})
    items = take(Text(path="a.txt", each="block", max_page_bytes=100), tmp_path)
    assert [page.content for page in pages(items).values()] == [b"small", b"small too", b"last"]
    assert passed(items) == {"a.txt#3": "too_large"}
    assert list(bad(items).values()) == ["line_too_long"]
    write(tmp_path, {"b.txt.gz": gzipped(b"one\n\ntwo\n") + gzipped(b"\nthree\n" * 999)[:-9]})
    items = take(Text(path="b.txt.gz", each="line"), tmp_path)
    assert len(pages(items)) in (1000, 1001)
    assert bad(items) == {"b.txt.gz": "truncated"}


def test_markdown_is_kept_as_it_is(tmp_path: Path) -> None:
    write(tmp_path, {"a.md": "# 标题\n<b>x</b>".encode(), "b.html": b"<p>", "c/d.markdown.gz": gzip.compress(b"*d*")})
    found = pages(take(Markdown(path="."), tmp_path))
    assert {(url, page.content_type) for url, page in found.items()} == {
        ("a.md", "text/markdown"),
        ("c/d.markdown.gz", "text/markdown"),
    }
    assert isinstance(found["a.md"], Page)
    (tmp_path / "e").mkdir()
    write(tmp_path, {"e/x.html": b"<p>"})
    with pytest.raises(SourceError, match=r"path 'e': no file there ends with \.md, \.markdown, \.mdx"):
        take(Markdown(path="e"), tmp_path)
