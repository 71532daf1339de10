"""Manners: robots.txt, and hosts that ask for time."""

from __future__ import annotations

from pathlib import Path

import pytest

from storage.errors import SourceError
from tests.tasks.sources.http.collected import collect, reasons, redirects, rows
from tests.tasks.sources.web import Web


def test_robots_are_obeyed_at_every_step(web: Web, tmp_path: Path) -> None:
    rules = "User-agent: *\nDisallow: /\n\nUser-agent: our-crawler\nDisallow: /private\nAllow: /private/open\n"
    web.page("/robots.txt", rules, Content_Type="text/plain")
    for path in ("/a", "/private/b", "/private/open"):
        web.page(path, "<p>x</p>")
    web.routes["/leads"] = redirects("/private/b")
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
