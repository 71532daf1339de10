"""Making sure that what was written is on the disk."""

from __future__ import annotations

import os
from pathlib import Path

PLUMBING = "it waits for bytes; it makes none"


def flush(path: Path) -> None:
    """Wait until a file, or the names in a folder, have reached the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
