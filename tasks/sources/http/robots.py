"""robots.txt, as RFC 9309 reads it."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

import httpx
from protego import Protego

from tasks.sources.http.client import Client, Failed, Wanted

_MOST_BYTES = 512_000
"""RFC 9309, section 2.5: at least 500 KiB are read."""


@dataclass
class _Rules:
    """What one host says, once it was asked."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    known: bool = False
    text: Protego | None = None
    """None: the host has no rules."""
    unreachable: Failed | None = None
    """Why the rules cannot be had; then nothing is allowed (section 2.3.1.4)."""
    delay: float = 0.0


class Robots:
    """The rules of every host that is asked, each read once. Safe to use from several threads."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._name = client.user_agent.split("/")[0].split()[0]
        """The product token (section 2.2.1)."""
        self._rules: dict[str, _Rules] = {}
        self._lock = threading.Lock()

    def check(self, url: httpx.URL) -> None:
        """Raises Failed if the host does not want this URL asked for."""
        rules = self._of(url)
        if rules.unreachable is not None:
            failed = rules.unreachable
            reason = "robots_unreachable" if failed.bad else failed.reason
            raise Failed(reason, f"robots.txt: {failed.reason} {failed.detail}", bad=failed.bad)
        if rules.text is not None and not rules.text.can_fetch(str(url), self._name):
            raise Failed("robots", str(url), bad=False)
        if rules.delay > self._client.limits.max_wait_seconds:
            raise Failed("crawl_delay", f"{url.host} asks for {rules.delay:g} s between requests", bad=False)

    def sitemaps(self, url: httpx.URL) -> list[str]:
        """The sitemaps that the host's rules name."""
        text = self._of(url).text
        return list(text.sitemaps) if text is not None else []

    def _of(self, url: httpx.URL) -> _Rules:
        origin = f"{url.scheme}://{url.netloc.decode()}"
        with self._lock:
            rules = self._rules.setdefault(origin, _Rules())
        with rules.lock:
            if not rules.known:
                self._ask(origin, url.netloc.decode(), rules)
                rules.known = True
        return rules

    def _ask(self, origin: str, host: str, rules: _Rules) -> None:
        try:
            wanted = Wanted(most=_MOST_BYTES, cut=True, accept="text/plain")
            content = self._client.get(f"{origin}/robots.txt", wanted).content
        except Failed as failed:
            # "Unavailable" (a 4xx status) means that there are no rules, "unreachable" that they are not known.
            # 429 is no answer to the question either, so it counts as the latter.
            if not failed.reason.startswith("http_4") or failed.reason == "http_429":
                rules.unreachable = failed
            return
        rules.text = Protego.parse(content.decode("utf-8-sig", "replace"))
        rate = rules.text.request_rate(self._name)
        asked = [rules.text.crawl_delay(self._name) or 0.0, rate.seconds / rate.requests if rate else 0.0]
        rules.delay = max(asked)
        if rules.delay:
            self._client.pace.slow(host, rules.delay)
