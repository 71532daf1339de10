"""What is answered, good and bad: each bad answer is counted by its reason and stops nothing."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import pytest

from storage.errors import SourceError
from tests.ports import closed_port
from tests.tasks.sources.http.collected import collect, reasons, redirects, rows
from tests.tasks.sources.web import Request, Web

BOMB = gzip.compress(bytes(30_000_000))
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n"
BAD: dict[str, tuple[Callable[[Request], None], str]] = {
    "a body that never ends": (lambda r: r.drip(HEAD + b"Content-Length: 999\r\n\r\n" + b"x" * 999, 0.1), "timeout"),
    "a head that never ends": (lambda r: r.drip(b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 999, 0.1), "timeout"),
    "less than was announced": (lambda r: r.raw(HEAD + b"Content-Length: 999\r\n\r\n<p>cut"), "truncated"),
    "chunks that break off": (
        lambda r: r.raw(HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\n<p>cu\r\n"),
        "truncated",
    ),
    "chunks of junk": (lambda r: r.raw(HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\njunk"), "protocol"),
    "no HTTP at all": (lambda r: r.raw(b"SSH-2.0-OpenSSH_9.2\r\n"), "protocol"),
    "nothing": (lambda r: r.raw(b""), "protocol"),
    "a redirect to itself": (redirects("/page"), "redirect_loop"),
    "a redirect to nowhere": (redirects("http://[::bad/"), "redirect"),
    "a redirect to a file": (redirects("file:///etc/passwd"), "url"),
    "a picture": (lambda r: r.answer(b"\x89PNG\r\n\x1a\n", Content_Type="image/png"), "wrong_type"),
    "a picture called a page": (lambda r: r.answer(b"\x89PNG\r\n\x1a\n" + bytes(99)), "not_a_page"),
    "a gzip bomb": (lambda r: r.answer(BOMB, Content_Encoding="gzip"), "too_large"),
    "gzip that breaks off": (lambda r: r.answer(BOMB[:-9][:900], Content_Encoding="gzip"), "truncated"),
    "gzip that is none": (lambda r: r.answer("<p>plain</p>", Content_Encoding="gzip"), "truncated"),
    "a coding unasked for": (lambda r: r.answer("<p>x</p>", Content_Encoding="br"), "content_encoding"),
    "a large page": (lambda r: r.answer("<p>" + "x" * 20_000_000), "too_large"),
    "a page large without saying so": (lambda r: r.raw(HEAD + b"\r\n" + b"x" * 11_000_000), "too_large"),
    "half a page": (lambda r: r.answer("<p>x</p>", 206), "http_206"),
    "no page any more": (lambda r: r.answer("gone", 410), "http_410"),
    "no page for us": (lambda r: r.answer("no", 403), "http_403"),
    "an error": (lambda r: r.answer("oops", 500), "http_500"),
    "not modified, unasked": (lambda r: r.answer(status=304), "protocol"),
}


@pytest.mark.parametrize("name", sorted(BAD))
def test_a_bad_answer_is_counted_by_its_reason_and_stops_nothing(web: Web, tmp_path: Path, name: str) -> None:
    web.routes["/page"], reason = BAD[name]
    web.page("/good", "<p>good</p>")
    urls = [web.url("/page"), web.url("/good")]
    # Long enough for the good page on a loaded machine; a second try at what never ends would show nothing more.
    patience = {"timeout_seconds": 4, "retries": 0} if reason == "timeout" else {"timeout_seconds": 60, "retries": 1}
    outcome = collect(tmp_path, urls=urls, concurrency=2, **patience)
    assert sorted(rows(outcome)) == ["good"]
    assert reasons(outcome) == {reason: 1}


def test_redirects_are_followed_as_far_as_allowed(web: Web, tmp_path: Path) -> None:
    for number in range(4):
        web.routes[f"/{number}"] = redirects(f"/{number + 1}")
    web.page("/4", "<p>here</p>")
    outcome = collect(tmp_path, urls=[web.url("/0")], max_redirects=4)
    assert rows(outcome)["0"]["content"] == b"<p>here</p>"
    with pytest.raises(SourceError, match="1 too_many_redirects"):
        collect(tmp_path, "fewer", urls=[web.url("/0")], max_redirects=3)
    both = collect(tmp_path, "both", urls=[web.url("/3"), web.url("/4")])
    assert sorted(rows(both)) == ["4"]
    assert reasons(both) == {"duplicate": 1}


def test_a_charset_that_is_wrong_is_kept_for_whoever_decodes(web: Web, tmp_path: Path) -> None:
    content = "<p>中文网页</p>".encode("gb18030")
    web.page("/a", content, Content_Type='text/html; charset="UTF-8"')
    web.page("/b", content, Content_Type="")
    found = rows(collect(tmp_path, urls=[web.url("/a"), web.url("/b")]))
    assert {row["content"] for row in found.values()} == {content}
    assert (found["a"]["content_type"], found["b"]["content_type"]) == ("text/html; charset=utf-8", "text/html")


def test_compressed_answers_are_unpacked(web: Web, tmp_path: Path) -> None:
    import zlib

    content = "<p>packed 压缩</p>".encode() * 50
    raw = zlib.compressobj(wbits=-15)
    web.page("/gzip", gzip.compress(content[:100]) + gzip.compress(content[100:]) + bytes(8), Content_Encoding="gzip")
    web.page("/zlib", zlib.compress(content), Content_Encoding="deflate")
    web.page("/raw", raw.compress(content) + raw.flush(), Content_Encoding="deflate")
    found = rows(collect(tmp_path, urls=[web.url(path) for path in web.routes]))
    assert [row["content"] for row in found.values()] == [content] * 3


def test_what_may_be_otherwise_a_moment_later_is_tried_again(web: Web, tmp_path: Path) -> None:
    answers = {"/busy": [429, 503, 200], "/broken": [500, 502, 200], "/down": [503] * 9}

    def say(request: Request) -> None:
        request.answer("<p>x</p>", answers[request.path].pop(0), Retry_After="0")

    web.routes |= dict.fromkeys(answers, say)
    outcome = collect(tmp_path, urls=[web.url(path) for path in answers], retries=2)
    assert sorted(rows(outcome)) == ["broken", "busy"]
    assert reasons(outcome) == {"http_503": 1}
    assert web.asked_for("/down") == 3


@pytest.mark.parametrize("after", ["3600", "Fri, 31 Dec 2100 23:59:59 GMT"])
def test_who_asks_for_too_long_a_wait_is_left_alone(web: Web, tmp_path: Path, after: str) -> None:
    web.routes["/busy"] = lambda request: request.answer("later", 429, Retry_After=after)
    web.page("/good", "<p>x</p>")
    outcome = collect(tmp_path, urls=[web.url("/busy"), web.url("/good")])
    assert reasons(outcome) == {"http_429": 1}
    assert web.asked_for("/busy") == 1


def test_a_host_out_of_reach_is_given_up(web: Web, tmp_path: Path) -> None:
    nobody = closed_port()
    web.page("/good", "<p>x</p>")
    urls = [f"http://127.0.0.1:{nobody}/{number}" for number in range(20)]
    outcome = collect(tmp_path, urls=[*urls, web.url("/good")], retries=0, respect_robots=False)
    assert reasons(outcome) == {"unreachable": 5, "host_down": 15}
    with pytest.raises(SourceError, match=r"source http: 20 of 21 inputs cannot be read .*max_bad_fraction"):
        collect(tmp_path, "strict", urls=[*urls, web.url("/good")], retries=0, max_bad_fraction=0.1)
