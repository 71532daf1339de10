"""Fetching many URLs: hosts side by side, each at its own pace."""

from __future__ import annotations

import heapq
import json
import threading
from collections.abc import Mapping
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from storage.identity import canonical_json, digest_of_bytes
from tasks.sources.http.client import Answer, Client, Failed, Wanted
from tasks.sources.http.journal import Fetched, Journal
from tasks.sources.http.pace import Stopped
from tasks.sources.http.robots import Robots
from tasks.sources.sniff import content_type_of
from tasks.task import Progress

TYPES = ("text/html", "application/xhtml+xml", "text/plain", "text/markdown")
"""Media types that pages have."""
_ACCEPT = "text/html,application/xhtml+xml,text/plain;q=0.8,text/markdown;q=0.8"
_DOWN = ("timeout", "unreachable", "robots_unreachable")
_MOST_IN_A_ROW = 5
"""A host that was out of reach so often in a row is not asked again in this collection."""
_TOLD_EVERY_SECONDS = 0.5


@dataclass(frozen=True)
class Version:
    """By what a version of a page is known again."""

    digest: str
    """Of content and content type."""
    at: str
    """The URL it was found at, redirects followed."""
    etag: str = ""
    modified: str = ""

    @classmethod
    def of(cls, text: str | None) -> Version | None:
        """The version that ``text`` says, if it says one."""
        try:
            return cls(**json.loads(text)) if text else None
        except (ValueError, TypeError):
            return None

    def said(self) -> str:
        return canonical_json(asdict(self))

    def conditions(self) -> dict[str, str]:
        """Headers that ask for another version only (RFC 9110, section 13.1)."""
        held = {"If-None-Match": self.etag, "If-Modified-Since": self.modified}
        return {name: value for name, value in held.items() if value}


class Crawl:
    """Fetches what a journal lists and notes there what became of it."""

    def __init__(
        self,
        client: Client,
        robots: Robots | None,
        journal: Journal,
        known: Mapping[str, str],
        most_bytes: int,
    ) -> None:
        """``known``: URL → version that the previous collection holds; ``robots`` None to ask for what it likes."""
        self._client, self._robots, self._journal = client, robots, journal
        self._known, self._most_bytes = known, most_bytes
        self._done = 0
        self._lock = threading.Lock()

    def fetch(self, after: str, upto: str, threads: int, per_host: int, progress: Progress) -> None:
        """Fetch the listed URLs between that are missing, with so many requests at a time, and so many per host."""
        total = self._journal.count()
        turns = _Turns(self._client, self._journal, after, upto, per_host)
        working: set[Future[None]] = set()
        pool = ThreadPoolExecutor(threads, thread_name_prefix="http")
        try:
            working |= {pool.submit(self._work, turns) for _ in range(threads)}
            while working:
                ended, working = wait(working, _TOLD_EVERY_SECONDS, FIRST_EXCEPTION)
                for future in ended:
                    future.result()
                progress(self._done, total, "pages fetched")
        finally:
            if working:  # an error, or nobody wants more
                self._client.pace.stop()
            pool.shutdown(wait=True, cancel_futures=True)

    def _work(self, turns: _Turns) -> None:
        while (turn := turns.take()) is not None:
            host, url = turn
            try:
                fetched = turns.given_up(host, url) or self.fetch_one(url)
            except Stopped:
                return
            self._journal.save([fetched])
            turns.give_back(host, fetched)
            with self._lock:
                self._done += 1

    def fetch_one(self, url: str) -> Fetched:
        """Ask for one URL. Raises Stopped."""
        version = Version.of(self._known.get(url))
        now = datetime.now(UTC)
        wanted = Wanted(
            most=self._most_bytes,
            types=TYPES,
            accept=_ACCEPT,
            held=version.conditions() if version else {},
            held_from=version.at if version else "",
        )
        try:
            answer = self._client.get(url, wanted, self._robots)
            if answer.url != url and self._journal.has(answer.url):
                raise Failed("duplicate", f"leads to {answer.url}, which is listed too", bad=False)
            if answer.status == 304:
                return _unchanged(url, version, now)
            content_type = _content_type(answer)
        except Failed as failed:
            return Fetched(url, "bad" if failed.bad else "passed", failed.reason, failed.detail, at=now)
        digest = digest_of_bytes(content_type.encode() + b"\n" + answer.content)
        if version is not None and version.digest == digest:
            return Fetched(url, "same", at=now)
        new = Version(digest, answer.url, answer.headers.get("etag", ""), answer.headers.get("last-modified", ""))
        return Fetched(url, "page", content=answer.content, content_type=content_type, version=new.said(), at=now)


def _unchanged(url: str, version: Version | None, now: datetime) -> Fetched:
    if version is None:
        return Fetched(url, "bad", "protocol", f"{url}: 304 without having been asked for another version", at=now)
    return Fetched(url, "same", at=now)


def _content_type(answer: Answer) -> str:
    """The stated type in its one form, or what the bytes look like. Raises Failed for what is no page."""
    stated, _, rest = answer.headers.get("content-type", "").partition(";")
    looks = content_type_of("", answer.content)
    if looks is None:
        raise Failed("not_a_page", f"{answer.url}: binary data", bad=False)
    parameters = [part.strip() for part in rest.split(";")]
    charset = next((part[8:].strip(" \"'") for part in parameters if part.lower().startswith("charset=")), "")
    kind = stated.strip().lower() or looks
    return f"{kind}; charset={charset.lower()}" if charset else kind


class _Turns:
    """Says which URL a thread fetches next: one of the host that has waited longest. Safe to use from threads.

    Every host has as many tokens as it may have requests at a time; a thread that works for it holds one.
    """

    def __init__(self, client: Client, journal: Journal, after: str, upto: str, per_host: int) -> None:
        self._client, self._journal, self._upto = client, journal, upto
        self._lock = threading.Lock()
        hosts = journal.hosts(after, upto)
        self._tokens = [(client.pace.ready(host), number, host) for host in hosts for number in range(per_host)]
        heapq.heapify(self._tokens)
        self._last = dict.fromkeys(hosts, after)
        self._waiting: dict[str, list[str]] = {host: [] for host in hosts}
        """The next few URLs of each host, the first of them last."""
        self._lost = dict.fromkeys(hosts, 0)
        """How often in a row a host was out of reach."""

    def take(self) -> tuple[str, str] | None:
        """A host's token and one of its URLs; None if none is left without a thread that works for its host."""
        with self._lock:
            while self._tokens:
                _, _, host = heapq.heappop(self._tokens)
                if not self._waiting[host]:
                    self._waiting[host] = self._journal.missing(host, self._last[host], self._upto)[::-1]
                if self._waiting[host]:
                    self._last[host] = self._waiting[host].pop()
                    return host, self._last[host]
            return None

    def given_up(self, host: str, url: str) -> Fetched | None:
        """What becomes of a URL whose host is not asked any more."""
        if self._lost[host] < _MOST_IN_A_ROW:
            return None
        return Fetched(url, "bad", "host_down", f"{host} was out of reach {_MOST_IN_A_ROW} times in a row")

    def give_back(self, host: str, fetched: Fetched) -> None:
        """Return the token."""
        with self._lock:
            if fetched.kind == "bad" and fetched.reason in _DOWN:
                self._lost[host] += 1
            elif fetched.reason != "host_down":
                self._lost[host] = 0
            heapq.heappush(self._tokens, (self._client.pace.ready(host), 0, host))
