"""One request, made in a well-behaved way."""

from __future__ import annotations

import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Protocol

import httpcore
import httpx

from tasks.sources.http.addresses import Refused
from tasks.sources.http.bodies import Broken, TooLarge, UnknownCoding, body_of
from tasks.sources.http.network import CheckedBackend, deadline
from tasks.sources.http.pace import Pace

_REDIRECTS = (301, 302, 303, 307, 308)
_AGAIN = (408, 425, 429, 500, 502, 503, 504)
"""Statuses that may be others a moment later."""


class Failed(Exception):
    """No page came; ``reason`` is a word to count it by."""

    def __init__(
        self, reason: str, detail: str = "", *, bad: bool, again: bool = False, after: float | None = None
    ) -> None:
        super().__init__(detail or reason)
        self.reason = reason
        self.detail = detail
        self.bad = bad
        """Whether something is broken; else it is simply no page (not found, too large, a picture)."""
        self.again = again
        """Whether another try may do better."""
        self.after = after
        """Seconds that the server asks to wait before it."""


@dataclass(frozen=True)
class Answer:
    """What a server said."""

    url: str
    """Where it was found in the end, redirects followed."""
    status: int
    headers: Mapping[str, str]
    """By their names in lower case."""
    content: bytes


@dataclass(frozen=True)
class Wanted:
    """What is asked for."""

    most: int
    """Bytes; more are not read …"""
    cut: bool = False
    """… and what was read so far will do."""
    types: tuple[str, ...] = ()
    """Media types that are read; empty for all."""
    accept: str = "*/*"
    held: Mapping[str, str] = field(default_factory=dict)
    """Headers of a conditional request …"""
    held_from: str = ""
    """… which concern only what lies at this URL."""


class Manners(Protocol):
    """Says whether a URL may be asked for; see ``tasks.sources.http.robots``."""

    def check(self, url: httpx.URL) -> None:
        """Raises Failed if it may not."""


@dataclass(frozen=True)
class Limits:
    """How long and how often to try."""

    timeout_seconds: float
    max_redirects: int
    retries: int
    retry_seconds: float
    max_wait_seconds: float


class Client:
    """Asks for URLs at a host's pace, follows redirects, tries again, and reads no more than is wanted."""

    def __init__(self, user_agent: str, pace: Pace, limits: Limits, allow_private: bool, connections: int) -> None:
        self.user_agent, self.pace, self.limits = user_agent, pace, limits
        self._pool = httpcore.ConnectionPool(
            ssl_context=httpx.create_ssl_context(),
            max_connections=connections,
            keepalive_expiry=15.0,
            network_backend=CheckedBackend(allow_private),
        )

    def close(self) -> None:
        self._pool.close()

    def get(self, url: str, wanted: Wanted, manners: Manners | None = None) -> Answer:
        """The answer, of status 200, 203 or 304. Raises Failed, or Stopped when all is over."""
        tries = 0
        while True:
            try:
                return self._follow(url, wanted, manners)
            except Failed as failed:
                wait = self.limits.retry_seconds * 2**tries if failed.after is None else failed.after
                tries += 1
                if not failed.again or tries > self.limits.retries or wait > self.limits.max_wait_seconds:
                    raise
                if failed.after is not None:
                    self.pace.hold(parsed(url).netloc.decode(), wait)
                self.pace.sleep(wait)

    def _follow(self, url: str, wanted: Wanted, manners: Manners | None) -> Answer:
        """Go from redirect to redirect; every one is checked like the first URL."""
        visited: set[str] = set()
        while url not in visited:
            if len(visited) > self.limits.max_redirects:
                raise Failed("too_many_redirects", f"more than {self.limits.max_redirects}, now at {url}", bad=True)
            visited.add(url)
            place = parsed(url)
            if manners is not None:
                manners.check(place)
            self.pace.wait(place.netloc.decode())
            answer = self._ask(place, wanted)
            if answer.status not in _REDIRECTS:
                return answer
            try:
                url = str(place.join(answer.headers.get("location", "")).copy_with(fragment=None))
            except httpx.InvalidURL as error:
                raise Failed("redirect", f"{place} leads to an invalid URL: {error}", bad=True) from error
        raise Failed("redirect_loop", f"{url} leads back to itself", bad=True)

    def _ask(self, place: httpx.URL, wanted: Wanted) -> Answer:
        headers: dict[bytes | str, bytes | str] = {"Host": place.netloc.decode(), "User-Agent": self.user_agent}
        headers |= {"Accept": wanted.accept, "Accept-Encoding": "gzip"}
        if str(place) == wanted.held_from:
            headers.update(wanted.held.items())
        target = httpcore.URL(
            scheme=place.raw_scheme, host=place.raw_host, port=place.port, target=place.raw_path or b"/"
        )
        seconds = self.limits.timeout_seconds
        timeouts = {"connect": seconds, "read": seconds, "write": seconds, "pool": seconds}
        try:
            with (
                deadline(seconds),
                self._pool.stream("GET", target, headers=headers, extensions={"timeout": timeouts}) as response,
            ):
                return _read(str(place), response, wanted)
        except Refused as error:
            raise Failed("private_address", str(error), bad=False) from error
        except httpcore.TimeoutException as error:
            raise Failed("timeout", f"{place}: {error or 'no answer'} ({seconds:g} s)", bad=True, again=True) from error
        except httpcore.NetworkError as error:
            if isinstance(error.__context__, ssl.SSLError):
                raise Failed("tls", f"{place}: {error}", bad=True) from error
            raise Failed("unreachable", f"{place}: {error}", bad=True, again=True) from error
        except httpcore.ProtocolError as error:
            cut = "peer closed" in str(error) or "incomplete" in str(error)
            raise Failed("truncated" if cut else "protocol", f"{place}: {error}", bad=True, again=True) from error


def _read(url: str, response: httpcore.Response, wanted: Wanted) -> Answer:
    """Look at the head of a response, and read its body only if it is what is wanted."""
    headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers}
    status = response.status
    if status in _REDIRECTS or status == 304:
        return Answer(url, status, headers, b"")
    if status not in (200, 203):
        again = status in _AGAIN
        after = _seconds_asked_for(headers.get("retry-after", "")) if again else None
        raise Failed(f"http_{status}", url, bad=again or status >= 500, again=again, after=after)
    stated = headers.get("content-type", "").partition(";")[0].strip().lower()
    if wanted.types and stated and stated not in wanted.types:
        raise Failed("wrong_type", f"{url}: {stated}", bad=False)
    too_large = Failed("too_large", f"{url}: more than {wanted.most} bytes", bad=False)
    announced = headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > wanted.most and not wanted.cut:
        raise too_large
    try:
        content = body_of(response.iter_stream(), headers.get("content-encoding", ""), wanted.most)
    except TooLarge as error:
        if not wanted.cut:
            raise too_large from error
        content = error.beginning
    except UnknownCoding as error:
        raise Failed("content_encoding", f"{url}: {error}", bad=False) from error
    except Broken as error:
        raise Failed("truncated", f"{url}: {error}", bad=True, again=True) from error
    return Answer(url, status, headers, content)


def _seconds_asked_for(text: str) -> float | None:
    """What ``Retry-After`` says: seconds, or a date (RFC 9110, section 10.2.3); None for neither."""
    text = text.strip()
    if text.isdecimal():
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except ValueError:
        return None


def parsed(url: str) -> httpx.URL:
    """The URL taken apart. Raises Failed for one that is not of the web, or that holds a password."""
    try:
        place = httpx.URL(url)
    except (httpx.InvalidURL, ValueError) as error:
        raise Failed("url", f"{url[:200]!r}: {error}", bad=False) from error
    if place.scheme not in ("http", "https") or not place.host:
        raise Failed("url", f"{url[:200]!r}: not an address of the web (http, https)", bad=False)
    if place.userinfo:
        raise Failed("url", f"{place.host}: a URL with a password would make it part of the corpus", bad=False)
    return place


def normal(url: str) -> str:
    """The one form of a URL: lower-case host, no default port, no fragment, escapes where needed. Raises Failed."""
    place = parsed(url.strip()).copy_with(fragment=None)
    return str(place if place.path else place.copy_with(path="/"))
