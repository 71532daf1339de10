"""What a page says about itself: in its head, in JSON-LD, and in links to a licence.

No tree is built. Tags of the head are found one by one (what stands in comments, scripts and
``noscript`` is passed over); the rest of the page is only searched for a few fixed words. Every
pattern is linear, and the number and the length of tags looked at are bounded.
"""

from __future__ import annotations

import html as html_entities
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import date, timedelta
from typing import Any
from urllib.parse import urldefrag, urljoin, urlsplit

from tasks.html.dates import LATEST, iso_date
from tasks.html.json_ld import stated_in_json_ld
from tasks.html.licenses import short_name
from tasks.text.unicode import normalise

_MOST_HEAD = 500_000
"""Characters of a head that are looked at, scripts included …"""
_HEADLESS = 50_000
"""… and characters looked at after the last tag that belongs into a head, where nothing ends it."""
_MOST_TAGS = 400
_MOST_TAG = 4_000
_MOST_TITLE = 500
_MOST_URL = 2_000
_MOST_LICENSE_LINKS = 50
_BYLINE = 5_000
"""Characters behind the first heading in which the first ``time`` is taken for the publication."""

_OPENING = re.compile(
    r"<(?:!--|(html|meta|link|base|title|script|style|noscript|template|body|/head)\b)", re.IGNORECASE
)
_ENDS = {
    name: re.compile(rf"</{name}\b", re.IGNORECASE) for name in ("title", "script", "style", "noscript", "template")
}
_ATTRIBUTE = re.compile(
    r"""([^\s"'<>/=]{1,60}+)(?:\s{0,9}+=\s{0,9}+(?:"([^"]*+)"|'([^']*+)'|([^\s"'<>]++)))?|(>)""", re.ASCII
)
_HEADING = re.compile(r"<h1\b[^<>]{0,500}+>", re.IGNORECASE)
_HEADING_END = re.compile(r"</h1|<h[2-6]|<p\b", re.IGNORECASE)
_REL = re.compile(r"\brel\s{0,9}=\s{0,9}[\"']?[a-z ]{0,60}$", re.IGNORECASE)
_LINK = re.compile(r"<(?:a|link)\b", re.IGNORECASE)
_START_OF_ARTICLE = re.compile(r"<(?:h1|article)\b", re.IGNORECASE)
_DAY_IN_PATH = re.compile(r"/((?:19|20)\d\d/(?:0[1-9]|1[0-2])/[0-3]\d)(?:/|$)")
_TIME = re.compile(r"<time\b", re.IGNORECASE)
_TAG = re.compile(r"<[^<>]*+>")
_LANGUAGE = re.compile(r"[a-z]{2,3}(?:-[a-z0-9]{2,8}){0,4}")
_URL = re.compile(r"https?://[^\s\x00-\x20\x7f-\x9f<>\"\\^`{|}\ud800-\udfff\ufffd]+", re.IGNORECASE)

_TITLES = ("og:title", "twitter:title", "dc.title", "citation_title")
_DATES = (
    *("article:published_time", "og:article:published_time", "datepublished", "citation_publication_date"),
    *("citation_online_date", "citation_date", "dc.date.issued", "dcterms.issued", "dc.date.created"),
    *("dcterms.created", "dc.date", "dcterms.date", "parsely-pub-date", "sailthru.date", "publish_date"),
    *("publishdate", "pubdate", "publication_date", "date"),
)
_LICENSES = ("license", "licence", "dcterms.license", "dc.license", "dc.rights.license")
_RIGHTS = ("dc.rights", "dcterms.rights", "copyright", "rights")
"""Free text: a licence only where it names a known one."""

_CRAWLER_NAMES = (
    "robots googlebot bingbot slurp duckduckbot yandex baiduspider applebot applebot-extended google-extended gptbot "
    "oai-searchbot chatgpt-user ccbot claudebot anthropic-ai amazonbot bytespider meta-externalagent facebookbot "
    "perplexitybot cohere-ai diffbot omgili"
)
_CRAWLERS = frozenset(_CRAWLER_NAMES.split())
"""Names of ``meta`` that address crawlers: all (``robots``), or the one that documents this name.
Who shuts out one crawler by name is taken to mean a corpus too."""
_WISHES = {"noai": "noai", "noimageai": "noimageai", "noindex": "noindex", "none": "noindex"}
"""Directives (``none`` is ``noindex, nofollow``)."""


@dataclass(frozen=True)
class PageMetadata:
    """What a page says about itself; the names are those of columns of DOCUMENTS_SCHEMA."""

    title: str | None = None
    canonical_url: str | None = None
    published: str | None = None
    declared_language: str | None = None
    license: str | None = None
    ai_opt_out: tuple[str, ...] = ()

    def columns(self) -> dict[str, Any]:
        """The values by column."""
        return {**asdict(self), "ai_opt_out": list(self.ai_opt_out)}


def metadata_of(html: str, url: str = "", collected: date | None = None) -> PageMetadata:
    """What the page ``html``, found at ``url``, says about itself.

    ``title``: og:title, else ``<title>``, else the first ``h1``, entities decoded, the site's name
    left in. ``canonical_url``: absolute, http or https; a relative one counts only where ``url`` is
    absolute. ``published``: an ISO date (JSON-LD, ``meta``, ``time``, else ``/2024/05/31/`` in the
    address), not later than the day after ``collected``.
    ``declared_language``: in lower case, ``zh-cn``. ``license``: a short name (``CC-BY-SA-4.0``),
    else an address. ``ai_opt_out``: ``noai``, ``noimageai``, ``noindex``, ``tdm-reservation``.
    """
    said = _Said(html, _http(url))
    latest = min(LATEST, collected + timedelta(days=1)) if collected else LATEST
    structured = stated_in_json_ld(html)
    return PageMetadata(
        title=said.title(),
        canonical_url=said.canonical_url(),
        published=said.published(structured.dates, latest),
        declared_language=said.language(),
        license=said.license(structured.licenses),
        ai_opt_out=said.ai_opt_out(),
    )


class _Said:
    """The tags of a page's head, read once."""

    def __init__(self, html: str, url: str | None) -> None:
        self._html = html
        self._url = self._base = url
        self._metas: dict[str, list[str]] = {}
        self._links: list[dict[str, str]] = []
        self._title = ""
        self._languages: list[str] = []
        for name, attributes, inside in _tags(html):
            self._take(name, attributes, inside)

    def _take(self, name: str, attributes: dict[str, str], inside: str) -> None:
        if name == "meta":
            content = attributes.get("content", "")
            for key in ("name", "property", "itemprop", "http-equiv"):
                if key in attributes:
                    self._metas.setdefault(attributes[key].strip().lower(), []).append(content)
        elif name == "link" and "href" in attributes:
            self._links.append(attributes)
        elif name == "base":
            self._base = _absolute(attributes.get("href", ""), self._base) or self._base
        elif name == "html":
            self._languages += [attributes[key] for key in ("lang", "xml:lang") if key in attributes]
        elif name == "title":
            self._title = self._title or _plain(inside)

    def _first(self, names: tuple[str, ...]) -> Iterator[str]:
        return (value for name in names for value in self._metas.get(name, ()) if value.strip())

    def title(self) -> str | None:
        for found in self._metas.get("og:title", ()):
            if title := _plain(found):
                return title
        if self._title:
            return self._title
        if heading := _HEADING.search(self._html):
            inside = _HEADING_END.split(self._html[heading.end() : heading.end() + _MOST_TAG], maxsplit=1)[0]
            if title := _plain(_TAG.sub(" ", inside)):
                return title
        return next((title for found in self._first(_TITLES) if (title := _plain(found))), None)

    def canonical_url(self) -> str | None:
        stated = [link["href"] for link in self._links if "canonical" in link.get("rel", "").lower().split()]
        for address in [*stated, *self._first(("og:url",))]:
            if found := _absolute(address, self._base):
                return urldefrag(found).url
        return None

    def language(self) -> str | None:
        stated = [*self._languages, *self._first(("content-language", "og:locale", "dc.language", "language"))]
        for language in stated:
            language = language.strip().replace("_", "-").lower()
            if _LANGUAGE.fullmatch(language):
                return language
        return None

    def published(self, structured: tuple[str, ...], latest: date) -> str | None:
        for text in [*structured, *self._first(_DATES)]:
            if found := iso_date(text, latest):
                return found
        if found := _time_of_publication(self._html, latest):
            return found
        in_path = _DAY_IN_PATH.search(self.canonical_url() or self._url or "")
        return iso_date(in_path[1], latest) if in_path else None

    def license(self, structured: tuple[str, ...]) -> str | None:
        links = [link["href"] for link in self._links if "license" in link.get("rel", "").lower().split()]
        marked, unmarked = _license_links(self._html)
        for text in [*links, *marked, *structured, *self._first(_LICENSES)]:
            if known := short_name(text):
                return known
            if address := _absolute(text, self._base):
                return address
        for text in self._first(_RIGHTS):
            if known := short_name(text):
                return known
        # Links to Creative Commons that nothing marks as the page's licence: they may be those of its pictures.
        names = {known for text in unmarked if (known := short_name(text))}
        return names.pop() if len(names) == 1 else None

    def ai_opt_out(self) -> tuple[str, ...]:
        found: set[str] = set()
        for name in _CRAWLERS & self._metas.keys():
            for content in self._metas[name]:
                words = re.split(r"[\s,;]+", content.lower())
                found.update(_WISHES[word] for word in words if word in _WISHES)
        # TDM Reservation Protocol (W3C community group, 2024), "tdm-reservation": 1 reserves the rights.
        if any(content.strip() == "1" for content in self._metas.get("tdm-reservation", ())):
            found.add("tdm-reservation")
        return tuple(sorted(found))


def _tags(html: str) -> Iterator[tuple[str, dict[str, str], str]]:
    """Name, attributes and (of a title) content of the tags in the head that say something about the page."""
    position = 0
    for _ in range(_MOST_TAGS):
        opening = _OPENING.search(html, position, min(position + _HEADLESS, _MOST_HEAD))
        if opening is None:
            return
        name, start = (opening[1] or "--").lower(), opening.end()
        if name in ("body", "/head"):
            return
        position = start if name in ("meta", "link", "base", "html") else _behind(html, name, start)
        if name == "title" and position > 0:
            yield name, {}, html[start : min(position, start + _MOST_TAG)].partition(">")[2]
        elif name in ("meta", "base", "html") or (name == "link" and _is_wanted(html, start)):
            yield name, _attributes(html, start), ""
        if position < 0:
            return


def _behind(html: str, name: str, start: int) -> int:
    """Where the content of the comment or element ends whose start tag's name ends at ``start``; -1 if nowhere."""
    if name == "--":
        return start if html.startswith((">", "->"), start) else html.find("-->", start)
    found = html.find(f"</{name}", start)
    if found < 0 and (closing := _ENDS[name].search(html, start)):
        found = closing.start()
    return found


def _is_wanted(html: str, start: int) -> bool:
    tag = html[start : html.find(">", start, start + _MOST_TAG)].lower()
    return "canonical" in tag or "license" in tag


def _attributes(html: str, position: int) -> dict[str, str]:
    """The attributes behind a tag's name, entities decoded; the first of a name counts."""
    found: dict[str, str] = {}
    for match in _ATTRIBUTE.finditer(html, position, position + _MOST_TAG):
        name, double, single, bare, end = match.groups()
        if end:
            break
        value = double or single or bare or ""
        found.setdefault(name.lower(), html_entities.unescape(value) if "&" in value else value)
    return found


def _license_links(html: str) -> tuple[list[str], list[str]]:
    """Addresses that links with ``rel="license"`` lead to, and addresses of Creative Commons' licences."""
    marked, unmarked = [], []
    position = 0
    for _ in range(_MOST_LICENSE_LINKS):
        position = html.find("license", position)
        if position < 0:
            break
        if html.endswith("creativecommons.org/", 0, position):
            unmarked.append(html[position - len("creativecommons.org/") : position + 60])
        elif _REL.search(html[max(0, position - 90) : position]):
            start = html.rfind("<", max(0, position - 1_000), position)
            if start >= 0 and (tag := _LINK.match(html[start : start + 6])):
                attributes = _attributes(html, start + tag.end())
                if "license" in attributes.get("rel", "").lower().split() and "href" in attributes:
                    marked.append(attributes["href"])
        position += len("license")
    if not marked and "creativecommons.org/publicdomain/" in html:
        position = html.find("creativecommons.org/publicdomain/")
        unmarked.append(html[position : position + 60])
    return marked, unmarked


def _time_of_publication(html: str, latest: date) -> str | None:
    """The day in a ``time`` element that is marked as the publication, is the page's only one, or its byline's."""
    days: list[tuple[int, str]] = []
    if "<time" not in html:
        return None
    for opening in _TIME.finditer(html):
        attributes = _attributes(html, opening.end())
        day = iso_date(attributes.get("datetime", ""), latest)
        if day is None:
            continue
        words = f"{attributes.get('itemprop', '')} {attributes.get('class', '')}".lower()
        if "pubdate" in attributes or "datepublished" in words or "publish" in words or "entry-date" in words:
            return day
        days.append((opening.start(), day))
        if len(days) >= _MOST_LICENSE_LINKS:
            break
    if len({day for _, day in days}) == 1:
        return days[0][1]
    if days and (start := _START_OF_ARTICLE.search(html)):
        return next((day for at, day in days if start.start() < at < start.start() + _BYLINE), None)
    return None


def _plain(text: str) -> str:
    """Text of markup without tags: entities decoded, white space collapsed, at most ``_MOST_TITLE`` characters."""
    return normalise(" ".join(html_entities.unescape(text).split()))[:_MOST_TITLE].strip()


def _http(url: str) -> str | None:
    """The URL if it is an absolute one of the web."""
    return url if _URL.fullmatch(url) and len(url) <= _MOST_URL else None


def _absolute(address: str, base: str | None) -> str | None:
    """The absolute http or https URL that ``address`` means on a page at ``base``; None if there is none."""
    address = "".join(address.split())
    try:
        found = urljoin(base, address) if base is not None else address
        if not address or not urlsplit(found).hostname:
            return None
    except ValueError:
        return None
    return _http(found)
