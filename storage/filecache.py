"""Digests of local files, remembered by inode, size and time of change."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from pathlib import Path

from storage.identity import digest_of_file

PLUMBING = "it answers what digest_of_file would"

_SETTLED_SECONDS = 2.0
"""A file changed less than this ago is not remembered: it could change again within the clock's grain."""


class DigestCache:
    """A small SQLite table beside the store; several processes may use it at once."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._database = sqlite3.connect(path, timeout=60, check_same_thread=False, isolation_level=None)
        self._database.execute("PRAGMA journal_mode=WAL")
        self._database.execute("PRAGMA synchronous=OFF")  # losing it costs time only
        self._database.execute("CREATE TABLE IF NOT EXISTS digests (path TEXT PRIMARY KEY, state TEXT, digest TEXT)")

    def digest_of_file(self, path: Path) -> str:
        """Digest of the file's content."""
        status, place = os.stat(path), os.path.abspath(path)
        state = f"{status.st_dev}:{status.st_ino}:{status.st_size}:{status.st_mtime_ns}:{status.st_ctime_ns}"
        with self._lock:
            query = "SELECT digest FROM digests WHERE path = ? AND state = ?"
            row = self._database.execute(query, (place, state)).fetchone()
        if row:
            return str(row[0])
        digest = digest_of_file(path)
        if time.time() - status.st_mtime > _SETTLED_SECONDS:
            with self._lock:
                self._database.execute("INSERT OR REPLACE INTO digests VALUES (?, ?, ?)", (place, state, digest))
        return digest
