"""How often a host is asked."""

from __future__ import annotations

import threading
import time


class Stopped(Exception):
    """The collection is over; whoever waits for a turn may go home."""


class Pace:
    """Gives out turns, host by host, so many seconds apart; safe to use from several threads."""

    def __init__(self, seconds: float) -> None:
        """``seconds`` lie between two requests to one host, unless the host asks for more."""
        self._seconds = seconds
        self._own: dict[str, float] = {}
        """Seconds between requests, for hosts that asked for more."""
        self._next: dict[str, float] = {}
        """When the host may be asked next, by the monotonic clock."""
        self._lock = threading.Lock()
        self._over = threading.Event()

    def wait(self, host: str) -> None:
        """Take the host's next turn, and return when it has come. Raises Stopped."""
        with self._lock:
            now = time.monotonic()
            turn = max(now, self._next.get(host, now))
            self._next[host] = turn + max(self._seconds, self._own.get(host, 0.0))
        self.sleep(turn - now)

    def sleep(self, seconds: float) -> None:
        """Raises Stopped as soon as all is over."""
        if self._over.wait(max(0.0, seconds)):
            raise Stopped

    def slow(self, host: str, seconds: float) -> None:
        """Leave at least ``seconds`` between requests to this host."""
        with self._lock:
            self._own[host] = seconds

    def hold(self, host: str, seconds: float) -> None:
        """Ask this host nothing for ``seconds``."""
        with self._lock:
            self._next[host] = max(self._next.get(host, 0.0), time.monotonic() + seconds)

    def ready(self, host: str) -> float:
        """When the host may be asked next, by the monotonic clock; 0 for one that never was."""
        with self._lock:
            return self._next.get(host, 0.0)

    def stop(self) -> None:
        """End every wait."""
        self._over.set()
