"""What a collection has fetched so far, on disk: killed, it goes on where it was."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

STALE = timedelta(hours=24)
"""What an unfinished collection fetched longer ago than this is fetched again."""
_AT_ONCE = 200

Kind = Literal["page", "same", "passed", "bad"]


@dataclass(frozen=True)
class Fetched:
    """What became of one URL."""

    url: str
    kind: Kind
    reason: str = ""
    detail: str = ""
    content: bytes = b""
    content_type: str = ""
    version: str = ""
    at: datetime | None = None


class Journal:
    """An SQLite file with the URLs of a collection and what became of them; safe to use from several threads."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._database = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        for line in (
            "PRAGMA journal_mode=WAL",
            "PRAGMA synchronous=OFF",  # outlives a kill; after a loss of power pages are fetched again
            "CREATE TABLE IF NOT EXISTS listed (url TEXT PRIMARY KEY, host TEXT) WITHOUT ROWID",
            "CREATE INDEX IF NOT EXISTS listed_by_host ON listed (host, url)",
            "CREATE TABLE IF NOT EXISTS fetched (url TEXT PRIMARY KEY, kind TEXT, reason TEXT, detail TEXT, "
            "content BLOB, content_type TEXT, version TEXT, at TEXT)",
            "CREATE TABLE IF NOT EXISTS state (name TEXT PRIMARY KEY, value TEXT)",
        ):
            self._database.execute(line)
        self._forget_what_is_stale()

    def close(self) -> None:
        with self._lock:
            self._database.close()

    def _forget_what_is_stale(self) -> None:
        """Failures are tried again by whoever goes on, and what is old is asked for again."""
        since = (datetime.now(UTC) - STALE).isoformat()
        # A URL that was left out while listing is no failure to try again, so it has no time.
        self._database.execute("DELETE FROM fetched WHERE kind = 'bad' OR at < ?", (since,))
        listed = self._database.execute("SELECT value FROM state WHERE name = 'listed_at'").fetchone()
        if listed is None or listed[0] < since:
            for table in ("listed", "state"):
                self._database.execute(f"DELETE FROM {table}")  # noqa: S608 - names of ours
            self._database.execute("DELETE FROM fetched WHERE at IS NULL")

    # The list

    @property
    def is_listed(self) -> bool:
        """Whether the list of URLs is complete."""
        return bool(self._all("SELECT 1 FROM state WHERE name = 'listed_at'"))

    def add(self, url: str, host: str) -> bool:
        """Put a URL on the list; whether it is new there."""
        with self._lock:
            done = self._database.execute("INSERT OR IGNORE INTO listed VALUES (?, ?)", (url, host))
            return done.rowcount > 0

    def listing_is_done(self) -> None:
        with self._lock:
            now = datetime.now(UTC).isoformat()
            self._database.execute("INSERT OR REPLACE INTO state VALUES ('listed_at', ?)", (now,))

    def has(self, url: str) -> bool:
        """Whether the URL is on the list."""
        return bool(self._all("SELECT 1 FROM listed WHERE url = ?", url))

    def count(self) -> int:
        """How many URLs are on the list."""
        return int(self._all("SELECT count(*) FROM listed")[0][0])

    def last_of(self, pages: int, after: str) -> str | None:
        """The URL that ends the next ``pages`` behind ``after``; None if none are left."""
        rows = self._all(
            "SELECT max(url) FROM (SELECT url FROM listed WHERE url > ? ORDER BY url LIMIT ?)", after, pages
        )
        return str(rows[0][0]) if rows[0][0] is not None else None

    # What became of it

    def hosts(self, after: str, upto: str) -> list[str]:
        """Hosts of the URLs between, that have not been fetched."""
        return [
            str(host)
            for (host,) in self._all(
                "SELECT DISTINCT host FROM listed WHERE url > ? AND url <= ? AND url NOT IN (SELECT url FROM fetched)",
                *(after, upto),
            )
        ]

    def missing(self, host: str, after: str, upto: str) -> list[str]:
        """Some of the host's URLs between that have not been fetched, in order."""
        rows = self._all(
            "SELECT url FROM listed WHERE host = ? AND url > ? AND url <= ? AND url NOT IN (SELECT url FROM fetched) "
            "ORDER BY url LIMIT ?",
            *(host, after, upto, _AT_ONCE),
        )
        return [str(url) for (url,) in rows]

    def save(self, items: Iterable[Fetched]) -> None:
        """Note what became of these URLs."""
        with self._lock:
            self._database.executemany(
                "INSERT OR REPLACE INTO fetched VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                [
                    (
                        *(item.url, item.kind, item.reason, item.detail, item.content, item.content_type),
                        *(item.version, item.at.isoformat() if item.at else None),
                    )
                    for item in items
                ],
            )

    def results(self, after: str, upto: str) -> Iterator[Fetched]:
        """What became of the URLs between, in their order, one at a time."""
        while True:
            rows = self._all("SELECT * FROM fetched WHERE url > ? AND url <= ? ORDER BY url LIMIT 1", after, upto)
            if not rows:
                return
            url, kind, reason, detail, content, content_type, version, at = rows[0]
            when = datetime.fromisoformat(at) if at else None
            yield Fetched(url, kind, reason, detail, content, content_type, version, when)
            after = url

    def _all(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        with self._lock:
            return self._database.execute(query, values).fetchall()
