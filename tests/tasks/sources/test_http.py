"""Pages from a web server, good and bad, through the front door of ``collect``."""

from __future__ import annotations

import gzip
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from storage.errors import SourceError
from tasks.collect import Collect
from tasks.sources.http import addresses
from tasks.sources.http.source import Http
from tests.helpers import Outcome, run_task
from tests.ports import closed_port
from tests.tasks.sources.web import Request, Web, certificate, served

QUICK = {"requests_per_second": 10_000.0, "retry_seconds": 0.001, "timeout_seconds": 60.0, "max_bad_fraction": 1.0}
ROOT = Path(__file__).parents[3]


@pytest.fixture
def web() -> Iterator[Web]:
    with served() as server:
        yield server


def collect(tmp_path: Path, name: str = "step", previous: Outcome | None = None, **source: Any) -> Outcome:
    source = {"kind": "http", "allow_private": True} | QUICK | source
    before = previous.artifact if previous else None
    return run_task(Collect(sources=[source]), {}, tmp_path, name=name, previous=before)  # type: ignore[list-item]


def rows(outcome: Outcome) -> dict[str, dict[str, Any]]:
    """The rows of an artifact by the last part of their URLs."""
    tables = outcome.artifact.tables()  # type: ignore[attr-defined]
    return {row["url"].rsplit("/", 1)[-1]: row for table in tables for row in table.to_pylist()}


def reasons(outcome: Outcome) -> dict[str, float]:
    """Counts of what was passed over and of what was bad."""
    metrics = outcome.result.metrics
    return {n.split(".", 1)[1]: c for n, c in metrics.items() if n.startswith(("dropped.", "quarantined."))}


def sitemap(*urls: str) -> str:
    entries = "".join(f"<url><loc>{url}</loc></url>" for url in urls)
    return f'<?xml version="1.0"?><urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">{entries}</urlset>'


# What is named


def test_lists_sitemaps_and_feeds_name_pages(web: Web, tmp_path: Path) -> None:
    for name in ("listed", "filed", "mapped", "packed", "text", "rss", "atom"):
        web.page(f"/{name}", f"<p>{name} 网页</p>", Content_Type="text/html; Charset=UTF-8")
    index = "".join(f"<sitemap><loc>{web.url(p)}</loc></sitemap>" for p in ("/a.xml", "/b.xml.gz", "/c.txt"))
    web.page("/robots.txt", f"Sitemap: {web.url('/index.xml')}\n", Content_Type="text/plain")
    space = 'xmlns="http://www.sitemaps.org/schemas/sitemap/0.9"'
    web.page("/index.xml", f"<sitemapindex {space}>{index}</sitemapindex>", Content_Type="text/xml")
    web.page("/a.xml", sitemap(web.url("/mapped")), Content_Type="application/xml")
    web.page("/b.xml.gz", gzip.compress(sitemap(web.url("/packed")).encode()), Content_Type="application/gzip")
    web.page("/c.txt", f"{web.url('/text')}\n", Content_Type="text/plain")
    rss = f"<rss version='2.0'><channel><item><link>{web.url('/rss')}</link></item></channel></rss>"
    web.page("/feed.rss", rss, Content_Type="application/rss+xml")
    atom = "<feed xmlns='http://www.w3.org/2005/Atom'><entry><link href='/atom'/></entry></feed>"
    web.page("/feed.atom", atom, Content_Type="application/atom+xml")
    (tmp_path / "urls.txt").write_text(f"# ours\n\n{web.url('/filed#part')}\n")
    outcome = collect(
        tmp_path,
        urls=[web.url("/listed")],
        url_file="urls.txt",
        sitemaps=[web.url("/")],
        feeds=[web.url("/feed.rss"), web.url("/feed.atom")],
    )
    found = rows(outcome)
    assert sorted(found) == ["atom", "filed", "listed", "mapped", "packed", "rss", "text"]
    assert found["filed"]["url"] == web.url("/filed")
    assert found["rss"]["content"] == "<p>rss 网页</p>".encode()
    assert found["rss"]["content_type"] == "text/html; charset=utf-8"
    assert found["rss"]["collected_at"] is not None
    assert reasons(outcome) == {}


def test_patterns_and_a_number_bound_what_is_taken(web: Web, tmp_path: Path) -> None:
    for path in ("/docs/a", "/docs/b", "/docs/c", "/docs/old/d", "/blog/e"):
        web.page(path, "<p>x</p>")
    web.page("/map.xml", sitemap(*(web.url(path) for path in web.routes)), Content_Type="text/xml")
    patterns = {"allow": [web.url("/docs/*")], "deny": ["*/old/*"]}
    outcome = collect(tmp_path, sitemaps=[web.url("/map.xml")], **patterns)
    assert sorted(rows(outcome)) == ["a", "b", "c"]
    assert reasons(outcome) == {"denied": 2}
    two = collect(tmp_path, "two", sitemaps=[web.url("/map.xml")], max_pages=2, **patterns)
    assert sorted(rows(two)) == ["a", "b"]


def test_a_limited_run_fetches_little_more_than_it_takes(web: Web, tmp_path: Path) -> None:
    for number in range(30):
        web.page(f"/{number:02}", "<p>x</p>", status=404 if number == 1 else 200)
    task = Collect(sources=[{"kind": "http", "urls": [web.url(p) for p in web.routes], "allow_private": True} | QUICK])  # type: ignore[list-item]
    outcome = run_task(task, {}, tmp_path, limit=3)
    assert sorted(rows(outcome)) == ["00", "02", "03"]
    assert len(web.asked) == 6


@pytest.mark.parametrize(
    "url", ["ftp://example.org/x", "file:///etc/passwd", "http://user:word@example.org/", "no address", "http://"]
)
def test_what_is_no_address_of_a_page_is_passed_over(web: Web, tmp_path: Path, url: str) -> None:
    web.page("/a", "<p>x</p>")
    assert reasons(collect(tmp_path, urls=[url, web.url("/a")])) == {"url": 1}


@pytest.mark.parametrize(
    ("path", "content", "reason"),
    [
        ("/feed", "<html><body>a page</body></html>", "not_a_feed"),
        ("/map", "<html><body>a page</body></html>", "not_a_sitemap"),
        ("/map", sitemap("http://127.0.0.1:9/b")[:-9], "broken_xml"),
        ("/feed", '<!DOCTYPE x [<!ENTITY a "aa"><!ENTITY b "&a;&a;">]><rss version="2.0">&b;</rss>', "entities"),
        ("/map", '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><urlset>&a;</urlset>', "entities"),
        ("/map.gz", gzip.compress(b"<urlset>" * 99, mtime=0)[:-9], "truncated"),
        ("/nowhere", None, "http_404"),
    ],
)
def test_a_list_that_cannot_be_read_is_counted(
    web: Web, tmp_path: Path, path: str, content: str | bytes | None, reason: str
) -> None:
    web.page("/a", "<p>x</p>")
    if content is not None:
        web.page(path, content, Content_Type="text/xml")
    lists = {"feeds" if path == "/feed" else "sitemaps": [web.url(path)]}
    outcome = collect(tmp_path, urls=[web.url("/a")], deny=["*:9/*"], **lists)
    assert reasons(outcome) in ({reason: 1}, {reason: 1, "denied": 1})


def test_nothing_to_fetch_is_an_error_in_one_line(web: Web, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"source http: no page is named .*/map: http_404.*correct") as caught:
        collect(tmp_path, sitemaps=[web.url("/map")], retries=0)
    assert "\n" not in str(caught.value)
    with pytest.raises(SourceError, match=r"url_file 'urls.txt': there is no such file"):
        collect(tmp_path, url_file="urls.txt")
    with pytest.raises(ValidationError, match="name at least one of urls"):
        Http()


# What is answered


def _redirects(target: str) -> Callable[[Request], None]:
    return lambda request: request.answer(status=302, Location=target)


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
    "a redirect to itself": (_redirects("/page"), "redirect_loop"),
    "a redirect to nowhere": (_redirects("http://[::bad/"), "redirect"),
    "a redirect to a file": (_redirects("file:///etc/passwd"), "url"),
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
        web.routes[f"/{number}"] = _redirects(f"/{number + 1}")
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


# Manners


def test_robots_are_obeyed_at_every_step(web: Web, tmp_path: Path) -> None:
    rules = "User-agent: *\nDisallow: /\n\nUser-agent: our-crawler\nDisallow: /private\nAllow: /private/open\n"
    web.page("/robots.txt", rules, Content_Type="text/plain")
    for path in ("/a", "/private/b", "/private/open"):
        web.page(path, "<p>x</p>")
    web.routes["/leads"] = _redirects("/private/b")
    urls = [web.url(path) for path in ("/a", "/private/b", "/private/open", "/leads")]
    outcome = collect(tmp_path, urls=urls, user_agent="our-crawler/1.0 (+https://example.org)")
    assert sorted(rows(outcome)) == ["a", "open"]
    assert reasons(outcome) == {"robots": 2}
    assert web.conditions["/a"]["User-Agent"] == "our-crawler/1.0 (+https://example.org)"
    assert "/private/b" not in web.asked
    with pytest.raises(SourceError, match="4 robots"):
        collect(tmp_path, "stranger", urls=urls)
    assert len(rows(collect(tmp_path, "rude", urls=urls, respect_robots=False))) == 3


@pytest.mark.parametrize(("status", "reason"), [(500, "robots_unreachable"), (429, "robots_unreachable"), (403, None)])
def test_rules_that_cannot_be_had_forbid_all_and_rules_that_are_not_there_nothing(
    web: Web, tmp_path: Path, status: int, reason: str | None
) -> None:
    web.page("/robots.txt", "no", status=status)
    web.page("/a", "<p>x</p>")
    if reason is None:
        assert list(rows(collect(tmp_path, urls=[web.url("/a")]))) == ["a"]
    else:
        with pytest.raises(SourceError, match=f"1 {reason}"):
            collect(tmp_path, urls=[web.url("/a")], retries=0)
        assert web.asked == []


def test_of_endless_rules_the_beginning_counts(web: Web, tmp_path: Path) -> None:
    rules = "User-agent: *\nDisallow: /a\n" + "# and so on\n" * 50_000 + "Disallow: /b\n"
    web.page("/robots.txt", rules, Content_Type="text/plain")
    for path in ("/a", "/b"):
        web.page(path, "<p>x</p>")
    assert list(rows(collect(tmp_path, urls=[web.url("/a"), web.url("/b")]))) == ["b"]


def test_a_host_may_ask_for_time(web: Web, tmp_path: Path) -> None:
    web.page("/robots.txt", "User-agent: *\nCrawl-delay: 0.5\n", Content_Type="text/plain")
    for number in range(3):
        web.page(f"/{number}", "<p>x</p>")
    urls = [web.url(f"/{number}") for number in range(3)]
    collect(tmp_path, urls=urls, connections_per_host=3)
    # Each may be late by as much as the machine is busy, so only the whole is measured: two delays, and half of one
    # to spare.
    assert max(web.times) - min(web.times) > 1.5 * 0.5
    web.page("/robots.txt", "User-agent: *\nCrawl-delay: 86400\n", Content_Type="text/plain")
    with pytest.raises(SourceError, match="3 crawl_delay"):
        collect(tmp_path, "sleepy", urls=urls)


# Again


def test_unchanged_pages_cost_no_more_than_a_question(web: Web, tmp_path: Path) -> None:
    web.page("/tag", "<p>one</p>", ETag='"1"')
    web.page("/date", "<p>two</p>", Last_Modified="Mon, 02 Jan 2023 03:04:05 GMT")
    web.page("/plain", "<p>three</p>")
    web.page("/changes", "<p>four</p>", ETag='"4"')
    web.page("/gone", "<p>five</p>", ETag='"5"')
    web.page("/target", "<p>six</p>", ETag='"6"')
    web.routes["/leads"] = _redirects("/target")
    urls = [web.url(f"/{name}") for name in ("tag", "date", "plain", "changes", "gone", "leads")]
    first = collect(tmp_path, "first", urls=urls)
    web.page("/changes", "<p>4</p>", ETag='"44"')
    del web.routes["/gone"]
    second = collect(tmp_path, "second", first, urls=urls)
    before, after = rows(first), rows(second)
    assert sorted(after) == ["changes", "date", "leads", "plain", "tag"]
    for name in ("tag", "date", "plain", "leads"):
        assert after[name] == before[name]
    assert after["changes"]["content"] == b"<p>4</p>"
    assert after["changes"]["collected_at"] > before["changes"]["collected_at"]
    assert after["changes"]["first_seen"] == 1
    assert web.conditions["/tag"]["If-None-Match"] == '"1"'
    assert web.conditions["/date"]["If-Modified-Since"] == "Mon, 02 Jan 2023 03:04:05 GMT"
    assert web.conditions["/target"]["If-None-Match"] == '"6"'
    assert "If-None-Match" not in web.conditions["/leads"]
    assert (second.result.metrics["pages_vanished"], second.result.metrics["pages_new"]) == (1, 0)
    third = collect(tmp_path, "third", second, urls=urls)
    assert third.artifact.digest == second.artifact.digest
    assert third.result.metrics["bytes_out"] == second.result.metrics["bytes_out"]


def test_a_page_that_cannot_be_had_now_stays_as_it_was(web: Web, tmp_path: Path) -> None:
    urls = [web.url(f"/{number}") for number in range(20)]
    for number in range(20):
        web.page(f"/{number}", f"<p>{number}</p>", ETag=f'"{number}"')
    first = collect(tmp_path, "first", urls=urls)
    web.routes["/7"] = lambda request: request.answer("busy", 503)
    second = collect(tmp_path, "second", first, urls=urls, retries=0)
    assert second.artifact.digest == first.artifact.digest
    assert reasons(second) == {"http_503": 1}


def test_what_a_feed_named_before_is_kept_up_and_a_list_is_exact(web: Web, tmp_path: Path) -> None:
    def feed(*paths: str) -> str:
        entries = "".join(f"<item><link>{web.url(path)}</link></item>" for path in paths)
        return f"<rss version='2.0'><channel>{entries}</channel></rss>"

    for path in ("/old", "/new"):
        web.page(path, f"<p>{path}</p>")
    web.page("/feed", feed("/old"), Content_Type="text/xml")
    web.page("/map", sitemap(web.url("/old")), Content_Type="text/xml")
    first = collect(tmp_path, "first", feeds=[web.url("/feed")])
    first_mapped = collect(tmp_path, "first-mapped", sitemaps=[web.url("/map")])
    web.page("/feed", feed("/new"), Content_Type="text/xml")
    web.page("/map", sitemap(web.url("/new")), Content_Type="text/xml")
    assert sorted(rows(collect(tmp_path, "second", first, feeds=[web.url("/feed")]))) == ["new", "old"]
    assert sorted(rows(collect(tmp_path, "mapped", first_mapped, sitemaps=[web.url("/map")]))) == ["new"]
    # A list that cannot be read now says nothing about the pages that it named before.
    web.routes["/map"] = lambda request: request.answer("busy", 503)
    again = collect(tmp_path, "busy", first_mapped, urls=[web.url("/new")], sitemaps=[web.url("/map")], retries=0)
    assert sorted(rows(again)) == ["new", "old"]


def test_a_source_may_change_its_licence_without_fetching_again(web: Web, tmp_path: Path) -> None:
    web.page("/a", "<p>x</p>", ETag='"1"')
    first = collect(tmp_path, "first", urls=[web.url("/a")])
    second = collect(tmp_path, "second", first, urls=[web.url("/a")], license="CC-BY-4.0")
    assert (rows(first)["a"]["license"], rows(second)["a"]["license"]) == (None, "CC-BY-4.0")


def test_a_killed_collection_goes_on_where_it_was(web: Web, tmp_path: Path) -> None:
    reached, let_go = threading.Event(), threading.Event()

    def hold(request: Request) -> None:
        reached.set()
        let_go.wait(300)
        request.answer("<p>held</p>")

    for number in range(6):
        web.page(f"/{number}", f"<p>{number}</p>")
    web.routes["/4"] = hold
    source = {"kind": "http", "urls": [web.url(f"/{n}") for n in range(6)], "allow_private": True, "concurrency": 1}
    source |= QUICK | {"timeout_seconds": 300.0}
    program = f"""
        from pathlib import Path
        from tasks.collect import Collect
        from tests.helpers import run_task
        run_task(Collect(sources=[{source!r}]), {{}}, Path({str(tmp_path)!r}))
    """
    child = subprocess.Popen([sys.executable, "-c", textwrap.dedent(program)], cwd=ROOT)
    assert reached.wait(120)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    let_go.set()
    outcome = run_task(Collect(sources=[source]), {}, tmp_path)  # type: ignore[list-item]
    assert sorted(rows(outcome)) == ["0", "1", "2", "3", "4", "5"]
    assert [web.asked_for(f"/{number}") for number in range(6)] == [1, 1, 1, 1, 2, 1]


# Where it may go


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "0"],
)
def test_private_addresses_are_refused_in_any_form(web: Web, tmp_path: Path, host: str) -> None:
    web.page("/a", "<p>secret</p>")
    with pytest.raises(SourceError, match=r"\(1 private_address\)|no page is named"):
        collect(tmp_path, urls=[f"http://{host}:{web.port}/a"], allow_private=False, respect_robots=False)
    assert web.asked == []


def test_a_redirect_to_a_private_address_is_refused(web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addresses, "is_public", lambda address: str(address) == "127.0.0.1")
    web.routes["/leads"] = _redirects(f"http://127.0.0.2:{web.port}/secret")
    web.page("/secret", "<p>secret</p>")
    web.page("/good", "<p>x</p>")
    outcome = collect(tmp_path, urls=[web.url("/leads"), web.url("/good")], allow_private=False)
    assert reasons(outcome) == {"private_address": 1}
    assert web.asked_for("/secret") == 0


def test_certificates_are_checked_against_the_name_though_an_address_is_connected_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def resolve(host: str, port: int, *options: Any, **named: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    monkeypatch.setattr(addresses.socket, "getaddrinfo", resolve)
    trusted, context = certificate(tmp_path, "pages.test")
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    with served(context) as web:
        web.page("/a", "<p>x</p>")
        urls = [f"https://{host}:{web.port}/a" for host in ("pages.test", "other.test")]
        outcome = collect(tmp_path, urls=urls, respect_robots=False)
        assert [row["url"] for row in rows(outcome).values()] == urls[:1]
        assert reasons(outcome) == {"tls": 1}
        assert web.conditions["/a"]["Host"] == f"pages.test:{web.port}"


def test_robots_and_sitemaps_are_fetched_with_the_same_care(web: Web, tmp_path: Path) -> None:
    web.page("/map", sitemap("https://example.org/"), Content_Type="text/xml")
    with pytest.raises(SourceError, match="private_address"):
        collect(tmp_path, sitemaps=[web.url("/map")], feeds=[web.url("/map")], allow_private=False)
    assert web.asked == []
