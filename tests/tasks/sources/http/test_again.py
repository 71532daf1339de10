"""The next collection asks only for what has changed, and goes on where a killed one was."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

from tasks.collect import Collect
from tests.helpers import run_task
from tests.tasks.sources.http.collected import QUICK, collect, reasons, redirects, rows, sitemap
from tests.tasks.sources.web import Request, Web

ROOT = Path(__file__).parents[4]


def test_unchanged_pages_cost_no_more_than_a_question(web: Web, tmp_path: Path) -> None:
    web.page("/tag", "<p>one</p>", ETag='"1"')
    web.page("/date", "<p>two</p>", Last_Modified="Mon, 02 Jan 2023 03:04:05 GMT")
    web.page("/plain", "<p>three</p>")
    web.page("/changes", "<p>four</p>", ETag='"4"')
    web.page("/gone", "<p>five</p>", ETag='"5"')
    web.page("/target", "<p>six</p>", ETag='"6"')
    web.routes["/leads"] = redirects("/target")
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
