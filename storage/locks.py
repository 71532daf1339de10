"""Locks that die with the processes that hold them."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

PLUMBING = "who waits for whom cannot shape bytes"

_POLL_SECONDS = 0.2


@contextmanager
def locked(path: Path, *, shared: bool = False, on_wait: Callable[[], None] | None = None) -> Iterator[int]:
    """Hold the lock file at ``path``; yields its descriptor, for child processes that are to hold it as well.

    The lock belongs to the open file, so it ends when the last process that inherited it has
    ended, however it ended. ``on_wait`` is called once if somebody else holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        _acquire(descriptor, fcntl.LOCK_SH if shared else fcntl.LOCK_EX, on_wait)
        os.utime(path)
        yield descriptor
    finally:
        os.close(descriptor)


def _acquire(descriptor: int, mode: int, on_wait: Callable[[], None] | None) -> None:
    told = False
    while True:
        try:
            fcntl.flock(descriptor, mode | fcntl.LOCK_NB)
        except BlockingIOError:
            if on_wait and not told:
                on_wait()
                told = True
            time.sleep(_POLL_SECONDS)
        else:
            return


def held_since(path: Path) -> float | None:
    """When the lock at ``path`` was taken (seconds since 1970), or None if nobody holds it."""
    try:
        descriptor = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return path.stat().st_mtime
    finally:
        os.close(descriptor)
    return None
