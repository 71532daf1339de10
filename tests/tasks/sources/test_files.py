"""Pages from files: what is taken, what is passed over, and what is quarantined."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
from pathlib import Path

import pyarrow as pa
import pytest

from storage.errors import SourceError
from tasks.context import PlainWorld
from tasks.sources.base import Bad, Page, PassedOver
from tasks.sources.files import Files

HTML = b"<!doctype html><html><body><p>Hello</p></body></html>"


def _write(folder: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def _take(folder: Path, path: str, **settings: object) -> list[Page | Bad | PassedOver]:
    return list(Files(path=path, **settings).pages(PlainWorld(folder)))  # type: ignore[arg-type]


def _pages(folder: Path, path: str) -> dict[str, Page]:
    return {item.url: item for item in _take(folder, path) if isinstance(item, Page)}


def test_a_folder_a_glob_and_a_file_have_urls_relative_to_their_root(tmp_path: Path) -> None:
    _write(tmp_path / "site", {"b.html": HTML, "a/x.htm": HTML, "a/b/y.html": HTML, "notes.txt": b"text"})
    assert list(_pages(tmp_path, "site")) == ["a/b/y.html", "a/x.htm", "b.html", "notes.txt"]
    assert list(_pages(tmp_path, "site/**/*.html")) == ["a/b/y.html", "b.html"]
    assert list(_pages(tmp_path, "site/*.html")) == ["b.html"]
    assert list(_pages(tmp_path, "si*/a/?.htm")) == ["site/a/x.htm"]
    assert list(_pages(tmp_path, str(tmp_path / "site/**/*.html"))) == ["a/b/y.html", "b.html"]
    assert list(_pages(tmp_path, "site/a/x.htm")) == ["x.htm"]


def test_pages_come_in_the_order_of_their_urls(tmp_path: Path) -> None:
    _write(tmp_path, {"a/b.html": HTML, "a.html": HTML, "a-b/c.html": HTML, "网页.html": HTML, "Z.html": HTML})
    urls = [item.url for item in _take(tmp_path, ".") if isinstance(item, Page)]
    assert urls == sorted(urls)
    assert len(urls) == 5


def test_types_come_from_the_name_and_else_from_the_content(tmp_path: Path) -> None:
    _write(
        tmp_path,
        {
            "page.html": HTML,
            "page": b"\n <HTML><body>no ending</body>",
            "wide": "<html><body>宽</body></html>".encode("utf-16"),
            "wide-le": "<html><body>plain ASCII words here</body></html>".encode("utf-16-le"),
            "读我.md": "# 标题".encode(),
            "README": b"only words",
            "gb.html": "<p>中文网页</p>".encode("gb18030"),
        },
    )
    types = {url: page.content_type for url, page in _pages(tmp_path, ".").items()}
    html, text = "text/html", "text/plain"
    assert types == {
        "page.html": html,
        "page": html,
        "wide": html,
        "wide-le": html,
        "读我.md": text,
        "README": text,
        "gb.html": html,
    }


def test_what_is_no_page_is_passed_over(tmp_path: Path) -> None:
    _write(
        tmp_path, {"a.html": HTML, "style.css": b"p {}", "data.json": b"{}", "x.html": b"\x89PNG\r\n\x1a\n" + bytes(99)}
    )
    _write(tmp_path, {"program": b"\x7fELF" + bytes(100), "noise.bin": bytes(range(256)) * 40 + bytes(2000)})
    _write(tmp_path, {".git/config": b"[core]", ".hidden.html": HTML})
    passed = {item.name for item in _take(tmp_path, ".") if isinstance(item, PassedOver)}
    assert passed == {"style.css", "data.json", "x.html", "program", "noise.bin"}
    assert set(_pages(tmp_path, ".")) == {"a.html"}
    assert set(_pages(tmp_path, ".*.html")) == {".hidden.html"}


def test_compressed_files_are_opened(tmp_path: Path) -> None:
    zstandard = pa.compress(HTML, codec="zstd", asbytes=True)
    packed = {"a.html.gz": gzip.compress(HTML), "b.html.bz2": bz2.compress(HTML), "c.xz": lzma.compress(HTML)}
    _write(tmp_path, packed | {"d.html.zst": zstandard, "e.html.gz": gzip.compress(HTML) + gzip.compress(b"more")})
    pages = _pages(tmp_path, ".")
    assert {url: page.content for url, page in pages.items()} == {
        "a.html.gz": HTML,
        "b.html.bz2": HTML,
        "c.xz": HTML,
        "d.html.zst": HTML,
        "e.html.gz": HTML + b"more",
    }
    assert {page.content_type for page in pages.values()} == {"text/html"}


@pytest.mark.parametrize(
    ("suffix", "compressed"),
    [
        (".gz", gzip.compress(HTML * 999, mtime=0)),
        (".bz2", bz2.compress(HTML * 999)),
        (".xz", lzma.compress(HTML * 999)),
        (".zst", pa.compress(os.urandom(5000), codec="zstd", asbytes=True)),
    ],
    ids=["gz", "bz2", "xz", "zst"],
)
def test_a_truncated_or_false_file_is_quarantined(tmp_path: Path, suffix: str, compressed: bytes) -> None:
    _write(tmp_path, {f"cut{suffix}": compressed[: len(compressed) // 2], f"false{suffix}": b"<html> not compressed"})
    found = {item.name: item.reason for item in _take(tmp_path, ".") if isinstance(item, Bad)}
    assert found == {f"cut{suffix}": "truncated", f"false{suffix}": "corrupt"}


def test_a_file_too_large_is_passed_over_and_never_decompressed_whole(tmp_path: Path) -> None:
    _write(tmp_path, {"bomb.html.gz": gzip.compress(b"<p>" + bytes(20_000_000)), "a.html": HTML})
    taken = _take(tmp_path, ".", max_page_bytes=1000)
    assert [(item.name, item.reason) for item in taken if isinstance(item, PassedOver)] == [
        ("bomb.html.gz", "too_large")
    ]


def test_links_do_not_lead_out_of_the_root(tmp_path: Path) -> None:
    _write(tmp_path, {"site/a.html": HTML, "secret/key.txt": b"secret"})
    (tmp_path / "site/out.txt").symlink_to(tmp_path / "secret/key.txt")
    (tmp_path / "site/folder").symlink_to(tmp_path / "secret")
    (tmp_path / "site/loop").symlink_to(tmp_path / "site")
    (tmp_path / "site/within.html").symlink_to(tmp_path / "site/a.html")
    (tmp_path / "site/broken.html").symlink_to(tmp_path / "site/nothing.html")
    (tmp_path / "site/endless.txt").symlink_to("/dev/zero")
    os.mkfifo(tmp_path / "site/pipe.txt")
    (tmp_path / "link-to-site").symlink_to(tmp_path / "site")
    taken = _take(tmp_path, "site")
    assert [item.url for item in taken if isinstance(item, Page)] == ["a.html", "within.html"]
    assert {item.name: item.reason for item in taken if isinstance(item, PassedOver)} == {"out.txt": "link_out_of_root"}
    assert {item.name: item.reason for item in taken if isinstance(item, Bad)} == {"broken.html": "unreadable"}
    assert set(_pages(tmp_path, "link-to-site")) == {"a.html", "within.html"}
    assert set(_pages(tmp_path, "site/out.txt")) == {"out.txt"}
    assert Files(path="site").fingerprint(PlainWorld(tmp_path))["files"] == 4


def test_a_name_that_is_not_utf8_is_quarantined(tmp_path: Path) -> None:
    try:
        (tmp_path / os.fsdecode(b"bad\xff.html")).write_bytes(HTML)
    except OSError:
        pytest.skip("this file system takes only UTF-8 names")
    (item,) = _take(tmp_path, ".")
    assert isinstance(item, Bad)
    assert item.name == "bad\\xff.html" or "\\udcff" in item.name
    Files(path=".").fingerprint(PlainWorld(tmp_path))


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("nowhere", "no such file or folder"),
        ("nowhere/*.html", "no folder 'nowhere'"),
        ("empty", "the folder is empty"),
        ("site/*.htm", "no file matches"),
    ],
)
def test_a_path_that_leads_to_nothing_is_said_in_one_line(tmp_path: Path, path: str, said: str) -> None:
    _write(tmp_path, {"site/a.html": HTML})
    (tmp_path / "empty").mkdir()
    source = Files(path=path)
    for use in (source.fingerprint, lambda world: next(source.pages(world))):
        with pytest.raises(SourceError) as caught:
            use(PlainWorld(tmp_path))
        message = str(caught.value)
        assert said in message
        assert path in message
        assert "correct `path`" in message
        assert "\n" not in message


def test_the_fingerprint_follows_names_and_contents_not_the_place(tmp_path: Path) -> None:
    files = {"a.html": HTML, "b/c.html": HTML + b"!"}
    for place in ("one", "two"):
        _write(tmp_path / place, files)
    first = Files(path="one").fingerprint(PlainWorld(tmp_path))
    assert Files(path="two").fingerprint(PlainWorld(tmp_path)) == first
    _write(tmp_path, {"two/a.html": HTML + b" "})
    assert Files(path="two").fingerprint(PlainWorld(tmp_path)) != first
    (tmp_path / "one/a.html").rename(tmp_path / "one/z.html")
    assert Files(path="one").fingerprint(PlainWorld(tmp_path)) != first
