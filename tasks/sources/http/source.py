"""Pages from the web: URL lists, sitemaps and feeds."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from storage.artifact import JsonValue
from storage.errors import SourceError
from tasks.sources.base import NO_PAST, Bad, Item, Page, PassedOver, Past, Same, Source
from tasks.task import Outside, World

if TYPE_CHECKING:
    from tasks.sources.http.client import Failed
    from tasks.sources.http.journal import Fetched, Journal
    from tasks.sources.http.listings import Listings, Named, Unread

_END = chr(0x10FFFF)
"""Sorts behind every URL."""


class Http(Source):
    """Pages fetched from the web, as robots.txt (RFC 9309) allows, a host at a time and at its pace.

    A later collection asks only for what has changed (``ETag``, ``Last-Modified``): a page that has
    not costs a ``304`` and keeps its content and ``collected_at``; so does one whose bytes came out
    the same. A page that cannot be had now (time-out, status 5xx, its host down) is kept as it was
    and counted as bad; one that the server says is gone (404, 410), or that robots.txt now forbids,
    has vanished. A killed collection goes on with what it has, for a day.

    Redirects are followed, and every address is checked when it is connected to: private, loopback
    and other addresses that are not of the public internet are refused. Proxies named in the
    environment are not used, since behind one that check would be worth nothing.

    Memory: about 0.3 KB for each page of the previous collection, and ``concurrency`` pages. Disk:
    the pages fetched are held once more in scratch until the step is done.
    """

    libraries: ClassVar[tuple[str, ...]] = ("feedparser", "httpcore", "httpx", "protego", "ultimate-sitemap-parser")
    only_collecting_tells: ClassVar[bool] = True

    kind: Literal["http"] = "http"
    urls: list[str] = Field(default_factory=list)
    """Addresses of pages."""
    url_file: Annotated[str | None, Outside()] = None
    """A text file of such addresses, one a line; ``#`` begins a remark."""
    sitemaps: list[str] = Field(default_factory=list)
    """Addresses of sitemaps (XML, text or an index of others, gzipped or not), or of a site (``https://example.org/``)
    whose robots.txt names them, else its ``/sitemap.xml``."""
    feeds: list[str] = Field(default_factory=list)
    """Addresses of RSS or Atom feeds. A feed names the newest pages only, so what it named before is kept up too."""
    allow: list[str] = Field(default_factory=list)
    """Only URLs like one of these are fetched (``https://example.org/docs/*``; ``*`` is anything); empty for all."""
    deny: list[str] = Field(default_factory=list)
    """URLs like one of these are not fetched, whatever ``allow`` says."""
    max_pages: int = Field(100_000, ge=1)
    """So many URLs are taken at most, in the order in which they are named."""
    max_page_bytes: int = Field(10_000_000, gt=0)
    """A larger page, unpacked, is passed over; no more of it is read."""
    requests_per_second: float = Field(1.0, gt=0)
    """Of each host, which may ask for less (``Crawl-delay``)."""
    connections_per_host: int = Field(1, ge=1)
    """Requests to one host at the same time."""
    concurrency: int = Field(16, ge=1, le=256)
    """Requests at the same time, to all hosts together."""
    timeout_seconds: float = Field(30.0, gt=0)
    """For a whole answer, from connecting to its last byte."""
    max_redirects: int = Field(5, ge=0)
    """Redirects followed for one page."""
    retries: int = Field(3, ge=0)
    """How often a request is made again after a time-out, a lost connection, or status 408, 425, 429, 500 or 502 to
    504 …"""
    retry_seconds: float = Field(2.0, ge=0)
    """… the first time after so long, then after twice that, unless the server says when (``Retry-After``)."""
    max_wait_seconds: float = Field(120.0, ge=0)
    """A server that asks for a longer wait (``Retry-After``, ``Crawl-delay``) is left alone for this collection."""
    user_agent: str = Field("athanor", pattern=r"^[A-Za-z_-]+(/\S+)?( [ -~]*)?$")
    """Who asks: a name, by which robots.txt may speak to it, then a version and an address to complain to:
    ``our-crawler/1.0 (+https://example.org/crawler)``."""
    respect_robots: bool = True
    """False for servers of one's own alone."""
    allow_private: bool = False
    """Connect to addresses that are not of the public internet: for servers of one's own network."""
    max_bad_fraction: float = Field(0.1, ge=0, le=1)
    """The share of URLs out of reach from which the step fails; 404 and the like are not among them."""

    @model_validator(mode="after")
    def _names_something(self) -> Self:
        if not (self.urls or self.url_file or self.sitemaps or self.feeds):
            raise ValueError("name at least one of urls, url_file, sitemaps or feeds")
        return self

    def fingerprint(self, world: World) -> JsonValue:
        if self.url_file is None:
            return {}
        return {"url_file": world.digest_of_file(self._url_file(world, self.url_file))}

    def pages(self, world: World, past: Past = NO_PAST) -> Iterator[Item]:
        # Imported here, so that a recipe without pages from the web does not wait for the client.
        from tasks.sources.http.client import Client, Limits
        from tasks.sources.http.crawl import Crawl
        from tasks.sources.http.journal import Journal
        from tasks.sources.http.listings import Listings
        from tasks.sources.http.pace import Pace
        from tasks.sources.http.robots import Robots

        limits = Limits(
            self.timeout_seconds, self.max_redirects, self.retries, self.retry_seconds, self.max_wait_seconds
        )
        with ExitStack() as stack:
            folder = past.scratch or Path(stack.enter_context(tempfile.TemporaryDirectory()))
            journal = Journal(folder / "fetched.db")
            stack.callback(journal.close)
            pace = Pace(1 / self.requests_per_second)
            client = Client(self.user_agent, pace, limits, self.allow_private, 2 * self.concurrency)
            stack.callback(client.close)
            robots = Robots(client)
            yield from self._list(world, past, journal, Listings(client, robots, self.respect_robots))
            obeyed = robots if self.respect_robots else None
            crawl = Crawl(client, obeyed, journal, past.versions, self.max_page_bytes)
            after = ""
            # With a limit on pages, so many are fetched at a time until there are enough.
            while (upto := journal.last_of(world.limit or self.max_pages, after)) is not None:
                crawl.fetch(after, upto, self.concurrency, self.connections_per_host, past.progress)
                for fetched in journal.results(after, upto):
                    yield from _items(fetched, past)
                after = upto
            for fetched in journal.results(after, _END):
                yield from _items(fetched, past)

    def _list(self, world: World, past: Past, journal: Journal, listings: Listings) -> Iterator[Bad]:
        """Put on the journal's list what is to be fetched. SourceError if that is nothing."""
        if journal.is_listed:
            return
        unread: list[tuple[str, Failed]] = []
        taken = _Taken(journal, self.max_pages, _like(self.allow or ["*"]), _like(self.deny), past.forgotten)
        for named in self._named(world, listings):
            if isinstance(named, tuple):
                unread.append(named)
            elif not taken.add(named):
                break
        if unread or self.feeds:
            for url in past.versions:
                taken.add(url)
        for url, failed in unread:
            yield Bad(url, failed.reason, failed.detail)
        if not taken.count:
            said = "; ".join(f"{url}: {failed.reason}" for url, failed in unread[:3])
            raise SourceError(
                f"source {self.name or self.kind}: no page is named that may be fetched{f' ({said})' if said else ''}; "
                "correct `urls`, `sitemaps` or `feeds`, or `allow` and `deny`"
            )
        if not unread:
            journal.listing_is_done()

    def _named(self, world: World, listings: Listings) -> Iterator[str | tuple[str, Failed]]:
        """The URLs in the order in which they are named, and the lists that cannot be read."""
        yield from self.urls
        if self.url_file is not None:
            with self._url_file(world, self.url_file).open(encoding="utf-8-sig", errors="replace") as lines:
                for line in lines:
                    if line.strip() and not line.lstrip().startswith("#"):
                        yield line.strip()
        for url in self.sitemaps:
            yield from map(_url_of, listings.of_sitemap(url))
        for url in self.feeds:
            yield from map(_url_of, listings.of_feed(url))

    def _url_file(self, world: World, name: str) -> Path:
        path = world.folder / name
        if not path.is_file():
            raise SourceError(
                f"source {self.name or self.kind}, url_file {name!r}: there is no such file in {world.folder}; "
                "correct `url_file`"
            )
        return path


class _Taken:
    """Takes URLs into the list, in their one form, as far as they are wanted."""

    def __init__(
        self,
        journal: Journal,
        most: int,
        allowed: Callable[[str], bool],
        denied: Callable[[str], bool],
        forgotten: Callable[[str], bool],
    ) -> None:
        self._journal, self._most = journal, most
        self._allowed, self._denied, self._forgotten = allowed, denied, forgotten
        self.count = journal.count()

    def add(self, url: str) -> bool:
        """Take this one; False if there is room for no more."""
        from tasks.sources.http.client import Failed, normal, parsed
        from tasks.sources.http.journal import Fetched

        if self.count >= self._most:
            return False
        try:
            url = normal(url)
        except Failed as failed:
            self._journal.save([Fetched(url, "passed", failed.reason, failed.detail)])
            return True
        if self._forgotten(url):
            self._journal.save([Fetched(url, "passed", "forgotten")])
        elif self._denied(url) or not self._allowed(url):
            self._journal.save([Fetched(url, "passed", "denied")])
        elif self._journal.add(url, parsed(url).netloc.decode()):
            self.count += 1
        return True


def _url_of(named: Named | Unread) -> str | tuple[str, Failed]:
    from tasks.sources.http.listings import Unread

    return (named.url, named.failed) if isinstance(named, Unread) else named.url


def _items(fetched: Fetched, past: Past) -> Iterator[Item]:
    """What a source says of what became of a URL."""
    if fetched.kind == "page":
        yield Page(fetched.url, fetched.content, fetched.content_type, fetched.at, fetched.version)
    elif fetched.kind == "same":
        yield Same(fetched.url)
    elif fetched.kind == "passed":
        yield PassedOver(fetched.url, fetched.reason)
    else:
        yield Bad(fetched.url, fetched.reason, fetched.detail)
        if fetched.url in past.versions:
            yield Same(fetched.url)


def _like(patterns: list[str]) -> Callable[[str], bool]:
    """Whether a URL is like one of the patterns, in which ``*`` stands for anything."""
    whole = re.compile("|".join(".*".join(map(re.escape, pattern.split("*"))) for pattern in patterns), re.DOTALL)
    return lambda url: bool(patterns) and whole.fullmatch(url) is not None
