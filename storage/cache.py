"""Local copies of remote objects, bounded: the least recently used go first.

Several processes share the folder. A copy is whole or absent (renamed into place), one that is in
use stays readable when it goes (its readers hold it open), and copies whose path a process was
given for longer are pinned until it ends, or until it releases them: it holds a lock on a file that
lists them, those that were released with a ``-`` before them.
"""

from __future__ import annotations

import fcntl
import os
import stat
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from storage.disk import flush
from storage.environment import number_from

PLUMBING = "it keeps copies; what they hold is decided elsewhere"

DEFAULT_CACHE_GB = 100.0
_UNTOUCHED_SECONDS = 60.0
"""A copy used less than this ago is not removed: somebody may be about to open it."""
_SHARE_BETWEEN_LOOKS = 0.05
"""Share of the limit that one process adds before it looks at the folder again."""
_SHARE_LEFT = 0.9
"""Share of the limit that is left when copies are removed, so that not every new one removes another."""


def cache_limit() -> int:
    """Bytes that the copies may take: ``ATHANOR_CACHE_GB`` (gigabytes of 10⁹ bytes), 100 GB by default."""
    remedy = "give the gigabytes that copies of remote objects may take, as 50"
    gigabytes = number_from("ATHANOR_CACHE_GB", DEFAULT_CACHE_GB, 1e-9, remedy)
    return int(gigabytes * 1e9)


class ObjectCache:
    """Copies of objects in a local folder."""

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder = folder
        self.limit = limit
        """Bytes. It may be exceeded by copies that are pinned or just being used."""
        self._added: int | None = None
        """Bytes added since this process last looked; None if it never did."""
        self._pins: set[str] = set()
        self._held: Counter[str] = Counter()
        self._pin_file: int | None = None
        self._pinning = threading.Lock()

    def path(self, digest: str) -> Path:
        """Where the copy is, or would be."""
        return self.folder / digest[:2] / digest[2:]

    def digest_of(self, path: Path) -> str | None:
        """The object that ``path`` is the copy of, if it lies in this folder."""
        return "".join(path.relative_to(self.folder).parts) if path.is_relative_to(self.folder) else None

    def touch(self, digest: str) -> None:
        """Say that the copy is used now. Raises FileNotFoundError if there is none."""
        path = self.path(digest)
        # Only the time of use: that of change tells whether the content has been checked.
        os.utime(path, ns=(time.time_ns(), path.stat().st_mtime_ns))

    def add(self, digest: str, file: Path) -> Path:
        """Move a complete file, on the same disk, into its place; others go if there are too many."""
        target = self.path(digest)
        target.parent.mkdir(parents=True, exist_ok=True)
        file.chmod(stat.S_IRUSR | stat.S_IRGRP | stat.S_IROTH)
        os.utime(file, ns=(time.time_ns(), file.stat().st_mtime_ns))
        os.replace(file, target)
        flush(target.parent)
        size = target.stat().st_size
        if self._added is None or self._added + size > self.limit * _SHARE_BETWEEN_LOOKS:
            self._added = 0
            self._make_room()
        else:
            self._added += size
        return target

    def pin(self, digest: str) -> None:
        """Keep this copy, there or still to come, until this process ends."""
        with self._pinning:
            if digest not in self._pins:
                self._note(digest)
                self._pins.add(digest)

    def hold(self, digest: str) -> None:
        """Keep this copy, there or still to come, until it is released as often as it was held."""
        with self._pinning:
            self._held[digest] += 1
            if self._held[digest] == 1:
                self._note(digest)

    def release(self, digest: str) -> None:
        """See ``hold``."""
        with self._pinning:
            self._held[digest] -= 1
            if not self._held[digest]:
                del self._held[digest]
                if digest not in self._pins:
                    self._note(f"-{digest}")

    def _note(self, line: str) -> None:
        if self._pin_file is None:
            self._pin_file = self._locked_file()
        os.write(self._pin_file, f"{line}\n".encode())

    def _locked_file(self) -> int:
        """A file of this process's own, locked while the process lives."""
        folder = self.folder / "pins"
        folder.mkdir(parents=True, exist_ok=True)
        while True:
            path = folder / f"{os.getpid()}-{uuid.uuid4().hex}"
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if os.fstat(descriptor).st_nlink:
                return descriptor
            os.close(descriptor)  # it was removed between opening and locking

    def _make_room(self) -> None:
        """Remove what was used longest ago until the limit is kept; leave it to whoever is at it already."""
        self.folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.folder / ".removing", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        else:
            self._remove_oldest()
        finally:
            os.close(descriptor)

    def _remove_oldest(self) -> None:
        copies = sorted(self._copies())
        total = sum(size for _, size, _ in copies)
        if total <= self.limit:
            return
        pinned = self._pinned()
        latest = time.time() - _UNTOUCHED_SECONDS
        for used, size, path in copies:
            if total <= self.limit * _SHARE_LEFT or used > latest:
                return
            if self.digest_of(path) not in pinned:
                path.unlink(missing_ok=True)
                total -= size

    def _copies(self) -> Iterator[tuple[float, int, Path]]:
        """Time of last use, bytes and place of each copy; left-overs of killed downloads are among them."""
        for folder in self.folder.iterdir():
            if folder.is_dir() and folder.name != "pins":
                for path in folder.iterdir():
                    try:
                        status = path.stat()
                    except FileNotFoundError:  # another process was faster
                        continue
                    yield status.st_atime, status.st_size, path

    def _pinned(self) -> set[str]:
        """The copies that living processes have pinned; the pins of dead ones go."""
        found: set[str] = set()
        pins = self.folder / "pins"
        for path in pins.iterdir() if pins.is_dir() else ():
            descriptor = os.open(path, os.O_RDWR)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()
            except BlockingIOError:
                found |= _noted(path.read_text().split())
            finally:
                os.close(descriptor)
        return found


def _noted(lines: Iterable[str]) -> set[str]:
    """What is pinned after these notes, one after the other."""
    pinned: set[str] = set()
    for line in lines:
        if line.startswith("-"):
            pinned.discard(line[1:])
        else:
            pinned.add(line)
    return pinned
