"""Digests of local files, remembered by inode, size and time of change."""

from __future__ import annotations

import os
import sqlite3
import sys
import threading
import time
import weakref
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from storage.identity import digest_of_file

PLUMBING = "it answers what digest_of_file would"

SETTLED_SECONDS = 2.0
"""A file changed less than this ago is not remembered: it could change again within the clock's grain."""


MOST_AT_ONCE = 200_000
"""Rows that are read at once where files are asked for in no order: some 60 MB."""
_WRITTEN_AT_ONCE = 1000
"""Rows that are written together: each transaction costs as much as dozens of rows."""


def state_of(status: os.stat_result) -> str:
    """Changes whenever a file does."""
    return f"{status.st_dev}:{status.st_ino}:{status.st_size}:{status.st_mtime_ns}:{status.st_ctime_ns}"


class DigestCache:
    """A small SQLite table beside the store; several processes and threads may use it at once."""

    def __init__(self, path: Path, ahead: int | None = None) -> None:
        """``ahead``: how many digests are read at a time, where files are asked for in the order of their names.

        Each query costs more than looking at a file, and among busy threads a hundred times as much.
        Without it, files are asked for in no order: all that there are are read at once, but if they
        are too many to be held, each by itself.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._database = sqlite3.connect(path, timeout=60, check_same_thread=False, isolation_level=None)
        self._database.execute("PRAGMA journal_mode=WAL")
        self._database.execute("PRAGMA synchronous=OFF")  # losing it costs time only
        self._database.execute("CREATE TABLE IF NOT EXISTS digests (path TEXT PRIMARY KEY, state TEXT, digest TEXT)")
        (rows,) = self._database.execute("SELECT COUNT(*) FROM digests").fetchone() if ahead is None else (0,)
        self._at_once = ahead is None and rows <= MOST_AT_ONCE
        self._ahead = ahead or (MOST_AT_ONCE + 1 if self._at_once else 1)
        self._read = _Stretch("", "", {})
        self._unwritten: list[tuple[str, str, str]] = []
        weakref.finalize(self, _write, self._database, self._unwritten)  # at the end of the process, too

    def digest_of_file(self, path: str | Path) -> str:
        """Digest of the file's content."""
        status, place = os.stat(path), _text(os.path.abspath(path))
        state = state_of(status)
        stretch = self._read
        if not stretch.covers(place):
            stretch = self._read_from(place)
        known = stretch.rows.get(place)
        if known is not None and known[0] == state:
            return known[1]
        digest = digest_of_file(Path(path))
        if time.time() - status.st_mtime > SETTLED_SECONDS:
            self._remember(place, state, digest)
        return digest

    def note(self, path: Path, digest: str) -> None:
        """Remember the digest of a file that is complete, and that nobody will write to any more."""
        self._remember(_text(os.path.abspath(path)), state_of(os.stat(path)), digest)

    def write(self) -> None:
        """Let other processes know what was remembered; else they do when this one ends, or sooner."""
        with self._lock:
            _write(self._database, self._unwritten)

    def _remember(self, place: str, state: str, digest: str) -> None:
        with self._lock:
            if self._read.covers(place):
                self._read.rows[place] = (state, digest)
            self._unwritten.append((place, state, digest))
            if len(self._unwritten) >= _WRITTEN_AT_ONCE:
                _write(self._database, self._unwritten)

    def _read_from(self, place: str) -> _Stretch:
        with self._lock:
            if self._read.covers(place):  # another thread was faster
                return self._read
            _write(self._database, self._unwritten)
            first = "" if self._at_once else place
            query = "SELECT path, state, digest FROM digests WHERE path >= ? ORDER BY path LIMIT ?"
            rows = {
                name: (state, digest) for name, state, digest in self._database.execute(query, (first, self._ahead))
            }
            all_read = len(rows) < self._ahead
            self._read = _Stretch(first, chr(sys.maxunicode) if all_read else max(rows), rows)
            if self._at_once and not all_read:  # others have added many
                self._at_once, self._ahead = False, 1
            return self._read

    def forget(self) -> None:
        """Remember nothing, of files that have gone as well."""
        with self._lock:
            self._read = _Stretch("", "", {})
            self._unwritten.clear()
            self._database.execute("DELETE FROM digests")


def _write(database: sqlite3.Connection, rows: list[tuple[str, str, str]]) -> None:
    """Write these rows, and empty the list."""
    if rows:
        values = ", ".join(["(?, ?, ?)"] * len(rows))
        database.execute(f"INSERT OR REPLACE INTO digests VALUES {values}", list(chain.from_iterable(rows)))  # noqa: S608
        rows.clear()


@dataclass(frozen=True)
class _Stretch:
    """All that the table holds from one path to another."""

    first: str
    last: str
    rows: dict[str, tuple[str, str]]
    """Path → state and digest."""

    def covers(self, place: str) -> bool:
        return self.first <= place <= self.last


def _text(path: str) -> str:
    """The path as SQLite takes it: bytes that are not UTF-8 become escapes."""
    return path if path.isascii() else path.encode("utf-8", "backslashreplace").decode("utf-8")
