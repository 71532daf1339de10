"""Making sure that what was written is on the disk."""

from __future__ import annotations

import ctypes
import os
from functools import cache
from pathlib import Path

PLUMBING = "it waits for bytes; it makes none"


def flush(path: Path) -> None:
    """Wait until a file, or the names in a folder, have reached the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def flush_all(folder: Path) -> None:
    """Wait until everything written to the disk that holds ``folder`` has reached it: one wait for many files."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        if not hasattr(_libc(), "syncfs") or _libc().syncfs(descriptor) != 0:
            os.sync()
    finally:
        os.close(descriptor)


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None)
