"""Files at addresses: what is found, what changes a fingerprint, and what is said when nothing answers."""

from __future__ import annotations

import gzip
import threading
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import pytest
from pydantic import ValidationError

from flows.recipe import parse_recipe
from storage.errors import RecipeError, SourceError
from tasks.context import PlainWorld
from tasks.sources.files import Files
from tasks.sources.jsonl import Jsonl
from tasks.sources.parquet import Parquet
from tasks.sources.warc.source import Warc
from tests.s3 import S3, Request
from tests.tasks.sources.archives import Made, bad, members, pages, take

HTML = b"<!doctype html><html><body><p>Hello</p></body></html>"


@pytest.fixture
def memory() -> Iterator[Any]:
    fs = fsspec.filesystem("memory")
    fs.store.clear()
    fs.pseudo_dirs[:] = [""]
    yield fs
    fs.store.clear()


def test_folders_globs_and_files_mean_the_same_as_on_a_disk(memory: Any, tmp_path: Path) -> None:
    names = ["b.html", "a/x.htm", "a/b/y.html", "notes.txt", ".hidden.html", "a/页.html"]
    for name in names:
        memory.pipe_file(f"/site/{name}", HTML)
        (tmp_path / "site" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "site" / name).write_bytes(HTML)
    memory.pipe_file("/site-2/c.html", HTML)
    for path in (
        "site",
        "site/",
        "site/**/*.html",
        "site/*.html",
        "site/.*",
        "si*/a/?.htm",
        "site/a/x.htm",
        "site/notes.txt",
    ):
        local = pages(take(Files(path=path), tmp_path))
        assert pages(take(Files(path=f"memory://{path}"), tmp_path)) == local, path
    assert list(pages(take(Files(path=f"file://{tmp_path}/site/a"), tmp_path))) == ["b/y.html", "x.htm", "页.html"]


def test_a_fingerprint_follows_what_lies_at_the_address(bucket: str, tmp_path: Path) -> None:
    fs, root = fsspec.url_to_fs(bucket)
    fs.pipe_file(f"{root}/crawl/a.html", HTML)
    fs.pipe_file(f"{root}/crawl/b/c.html", HTML)
    source, world = Files(path=f"{bucket}/crawl"), PlainWorld(tmp_path)
    before = source.fingerprint(world)
    assert source.fingerprint(world) == before
    assert {url: page.content for url, page in pages(take(source, tmp_path)).items()} == {
        "a.html": HTML,
        "b/c.html": HTML,
    }
    fs.pipe_file(f"{root}/crawl/a.html", HTML[::-1])
    changed = source.fingerprint(world)
    assert changed != before
    fs.pipe_file(f"{root}/crawl/d.html", HTML)
    assert source.fingerprint(world) not in (before, changed)
    assert root not in str(changed)


def test_a_fingerprint_reads_no_file(s3: S3, tmp_path: Path) -> None:
    fs = fsspec.filesystem("s3")
    fs.pipe_file(f"{s3.bucket}/crawl/a.html", HTML)
    fs.pipe_file(f"{s3.bucket}/crawl/b/c.html", HTML)
    source, world = Files(path=f"{s3.url}/crawl"), PlainWorld(tmp_path)
    source.fingerprint(world)
    s3.requests.clear()
    source.fingerprint(world)
    assert len(s3.requests) < 5
    assert not any(request.method == "GET" and request.path.endswith(".html") for request in s3.requests)


def test_every_kind_reads_from_an_address(bucket: str, tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    fs, root = fsspec.url_to_fs(bucket)
    records = [Made(f"https://a/{n}", HTML) for n in range(3)]
    fs.pipe_file(f"{root}/x.warc.gz", b"".join(members(records)))
    fs.pipe_file(f"{root}/x.jsonl.gz", gzip.compress(b'{"text": "a"}\n{"text": "b"}\n'))
    with fs.open(f"{root}/set/data/x.parquet", "wb") as file:
        pq.write_table(pa.table({"text": ["a", "b"]}), file)
    fs.pipe_file(f"{root}/set/README.md", b"---\nlicense: mit\n---\n")
    assert len(pages(take(Warc(path=f"{bucket}/*.warc.gz"), tmp_path))) == 3
    assert list(pages(take(Jsonl(path=f"{bucket}/x.jsonl.gz"), tmp_path))) == ["x.jsonl.gz#1", "x.jsonl.gz#2"]
    source = Parquet(path=f"{bucket}/set")
    assert list(pages(take(source, tmp_path))) == ["data/x.parquet#1", "data/x.parquet#2"]
    assert source.terms(PlainWorld(tmp_path)).license == "mit"


def test_what_cannot_be_reached_is_one_line_and_no_fault_of_a_file(
    s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fs = fsspec.filesystem("s3")
    fs.pipe_file(f"{s3.bucket}/x.html", HTML)
    world = PlainWorld(tmp_path)

    def said(source: Files) -> str:
        with pytest.raises(SourceError) as first:
            source.fingerprint(world)
        with pytest.raises(SourceError) as second:
            list(source.pages(world))
        assert str(first.value) == str(second.value)
        assert "\n" not in str(first.value)
        assert source.path in str(first.value)
        return str(first.value)

    assert "correct `path`" in said(Files(path=f"{s3.url}/nowhere"))
    assert "correct `path`" in said(Files(path=f"{s3.url}/*.htm"))
    assert "correct `path`" in said(Files(path="s3://no-such-bucket/x"))
    assert "correct `path`" in said(Files(path="nonsense://x/y"))
    assert "try again" in said(Files(path="https://127.0.0.1:9/x.html", allow_private=True))

    def denied(request: Request) -> Any:
        from tests.s3 import Answer

        return Answer("403 Forbidden", "AccessDenied")

    s3.fault = denied
    assert "set the credentials in the environment" in said(Files(path=f"{s3.url}/*.html"))
    s3.fault = None


@pytest.mark.parametrize(
    "path",
    [
        "s3://KEY:SECRET@bucket/x",
        "https://user:word@host/x.jsonl",
        "https://host/x.jsonl?X-Amz-Signature=abc&X-Amz-Credential=def",
        "https://host/x.jsonl?token=abc",
    ],
)
def test_secrets_in_an_address_are_refused_and_not_repeated(path: str) -> None:
    with pytest.raises(ValidationError, match="carries credentials") as caught:
        Files(path=path)
    assert not any(secret in caught.value.errors()[0]["msg"] for secret in (":SECRET", "word@", "=abc"))


def test_a_recipe_error_does_not_repeat_them_either(tmp_path: Path) -> None:
    for path in ("s3://KEY:WORD@bucket/x", "https://host/x?a=1&X-Amz-Signature=WORD"):
        text = f"name: x\nsteps:\n  pages: {{task: collect, sources: [{{kind: files, path: '{path}'}}]}}\n"
        with pytest.raises(RecipeError, match=r"pages\.sources\[0\]\.path = .*carries credentials") as caught:
            parse_recipe(text, "x.yaml", tmp_path)
        assert "WORD@" not in str(caught.value)
        assert "=WORD" not in str(caught.value)


def test_what_could_reach_elsewhere_is_refused() -> None:
    for path, said in (("zip://*::s3://b/x.zip", "chained"), ("https://host/*.html", "one file")):
        with pytest.raises(ValidationError, match=said):
            Files(path=path)


class _Server(BaseHTTPRequestHandler):
    content: ClassVar[dict[str, bytes]] = {}
    moved: ClassVar[dict[str, str]] = {}

    def do_HEAD(self) -> None:
        self._answer(False)

    def do_GET(self) -> None:
        self._answer(True)

    def _answer(self, body: bool) -> None:
        if self.path in self.moved:
            self.send_response(302)
            self.send_header("Location", self.moved[self.path])
            self.end_headers()
            return
        content = self.content.get(self.path)
        self.send_response(200 if content is not None else 404)
        content = content or b""
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", f'"{len(content)}-{sum(content)}"')
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def web() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Server)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()
    _Server.content.clear()
    _Server.moved.clear()


def test_a_file_on_the_web_is_read(web: str, tmp_path: Path) -> None:
    _Server.content["/x.jsonl.gz"] = gzip.compress(b'{"text": "a"}\n{"text": "b"}\n')
    source, world = Jsonl(path=f"{web}/x.jsonl.gz", allow_private=True), PlainWorld(tmp_path)
    assert list(pages(take(source, tmp_path))) == ["x.jsonl.gz#1", "x.jsonl.gz#2"]
    before = source.fingerprint(world)
    assert source.fingerprint(world) == before
    _Server.content["/x.jsonl.gz"] = gzip.compress(b'{"text": "c"}\n')
    assert source.fingerprint(world) != before
    _Server.content["/x.jsonl.gz"] = gzip.compress(b'{"text": "a"}\n' * 99)[:-9]
    assert list(bad(take(source, tmp_path)).values()) == ["truncated"]


def test_private_addresses_are_refused_behind_names_and_redirects_too(
    web: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _Server.content["/x.html"] = HTML
    assert urllib.request.urlopen(f"{web}/x.html").read() == HTML
    port = web.rsplit(":", 1)[1]
    for url in (f"{web}/x.html", f"http://localhost:{port}/x.html"):
        with pytest.raises(SourceError, match="no public address; `allow_private: true` allows it"):
            Files(path=url).fingerprint(PlainWorld(tmp_path))
    _Server.moved["/moved.html"] = f"http://127.0.0.2:{port}/x.html"
    import tasks.sources.checked_client as client

    monkeypatch.setattr(client, "is_public", lambda address: str(address) == "127.0.0.1")
    assert list(pages(take(Files(path=f"{web}/x.html"), tmp_path))) == ["x.html"]
    with pytest.raises(SourceError, match=r"127\.0\.0\.2 is no public address"):
        Files(path=f"{web}/moved.html").fingerprint(PlainWorld(tmp_path))
