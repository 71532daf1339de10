"""The URLs that sitemaps and feeds name: fetched by our client, and only read by the parsers of others."""

from __future__ import annotations

import io
import logging
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from xml.parsers import expat

import httpx

from tasks.sources.http.bodies import GZIP, Broken, inflated
from tasks.sources.http.client import Client, Failed, Wanted, parsed
from tasks.sources.http.robots import Robots

_MOST_BYTES = 100_000_000
"""Of one sitemap or feed, unpacked; the protocol allows 50 MB."""
_MOST_LISTINGS = 50_000
"""Sitemaps read for one that is declared; the protocol allows as many in an index."""
_XML = "application/xml,text/xml,*/*;q=0.5"


@dataclass(frozen=True)
class Named:
    """A URL that was named."""

    url: str


@dataclass(frozen=True)
class Unread:
    """A list that could not be read."""

    url: str
    failed: Failed


class Listings:
    """Reads sitemaps and feeds with the manners and limits of any other page."""

    def __init__(self, client: Client, robots: Robots, obey: bool) -> None:
        self._client, self._robots, self._obey = client, robots, obey

    def of_sitemap(self, url: str) -> Iterator[Named | Unread]:
        """The URLs of a sitemap and of those that it names, or of all that a site's robots.txt names."""
        try:
            place = parsed(url)
            waiting = deque([url] if place.path not in ("", "/") else self._of_site(place))
        except Failed as failed:
            yield Unread(url, failed)
            return
        seen = set(waiting)
        while waiting:
            current = waiting.popleft()
            try:
                content = self._read(current)
                pages, below = urls_of_sitemap(content)
                yield from (Named(page) for page in pages)
                new = [inner for inner in dict.fromkeys(below) if inner not in seen][: _MOST_LISTINGS - len(seen)]
                seen.update(new)
                waiting.extend(new)
                _check_end(content)
            except Failed as failed:
                yield Unread(current, failed)

    def of_feed(self, url: str) -> Iterator[Named | Unread]:
        """The pages that the entries of a feed lead to."""
        try:
            yield from (Named(page) for page in urls_of_feed(self._read(url), url))
        except Failed as failed:
            yield Unread(url, failed)

    def _of_site(self, place: httpx.URL) -> list[str]:
        named = self._robots.sitemaps(place)
        return named or [str(place.copy_with(path="/sitemap.xml"))]

    def _read(self, url: str) -> bytes:
        wanted = Wanted(most=_MOST_BYTES, accept=_XML)
        content = self._client.get(url, wanted, self._robots if self._obey else None).content
        if not content.startswith(b"\x1f\x8b"):
            return content
        whole = bytearray()
        try:
            for piece in inflated([content], GZIP, _MOST_BYTES):
                whole += piece
                if len(whole) > _MOST_BYTES:
                    raise Failed("too_large", f"{url}: more than {_MOST_BYTES} bytes unpacked", bad=True)
        except Broken as error:
            raise Failed("truncated", f"{url}: {error}", bad=True) from error
        return bytes(whole)


def urls_of_sitemap(content: bytes) -> tuple[list[str], list[str]]:
    """Pages and further sitemaps that a sitemap (XML, text, RSS or Atom) names. Raises Failed for anything else."""
    from usp.objects.sitemap import AbstractIndexSitemap, InvalidSitemap
    from usp.tree import sitemap_from_str

    # It says on standard error what we say as an error.
    logging.getLogger("usp").setLevel(logging.CRITICAL)
    _refuse_entities(content)
    # The parser fetches nothing: sitemaps below this one come back as their addresses.
    sitemap = sitemap_from_str(content.decode("utf-8-sig", "replace"))
    if isinstance(sitemap, AbstractIndexSitemap):
        return [], [below.url for below in sitemap.sub_sitemaps]
    if isinstance(sitemap, InvalidSitemap):
        raise Failed("not_a_sitemap", content[:80].decode("utf-8", "replace"), bad=True)
    return [page.url for page in sitemap.all_pages()], []


def urls_of_feed(content: bytes, url: str) -> list[str]:
    """Links of a feed's entries (RSS, RDF, Atom). Raises Failed for what is no feed."""
    import feedparser  # type: ignore[import-untyped]

    _refuse_entities(content)
    # Given bytes or a text, the parser would take what looks like a path or a URL for one, and open it.
    feed = feedparser.parse(io.BytesIO(content), response_headers={"content-location": url})
    if not feed.version:
        raise Failed("not_a_feed", content[:80].decode("utf-8", "replace"), bad=True)
    return [entry.link for entry in feed.entries if entry.get("link")]


def _check_end(content: bytes) -> None:
    """Raises Failed for XML that breaks off: the parser takes what is there for all there is."""
    if not content.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
        return
    try:
        expat.ParserCreate().Parse(content, True)
    except expat.ExpatError as error:
        raise Failed("broken_xml", str(error), bad=True) from error


def _refuse_entities(content: bytes) -> None:
    """No sitemap or feed needs entities of its own, which can unfold to any size. Raises Failed."""
    if b"<!ENTITY" in content.replace(b"\x00", b""):
        raise Failed("entities", "it declares XML entities", bad=True)
