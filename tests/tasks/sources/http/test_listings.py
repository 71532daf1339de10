"""What is named: lists, sitemaps and feeds, and what is taken of them."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from pydantic import ValidationError

from storage.errors import SourceError
from tasks.collect import Collect
from tasks.sources.http.source import Http
from tests.helpers import run_task
from tests.tasks.sources.http.collected import QUICK, collect, reasons, rows, sitemap
from tests.tasks.sources.web import Web


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
