"""Files on a local disk: making sure that what was written is there, and linking to it."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import tempfile
import threading
import uuid
from functools import cache
from pathlib import Path
from typing import Any

PLUMBING = "it waits for bytes, and says where they are; it makes none"


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


def beside(path: Path) -> Path:
    """An empty hidden file in the folder where ``path`` will be, on the same disk hence renamed in one step."""
    try:
        handle, name = tempfile.mkstemp(prefix=".", dir=path.parent)
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=".", dir=path.parent)
    os.close(handle)
    return Path(name)


def write_json(path: Path, value: Any) -> None:
    """Write a file that others may read at any moment: it is there whole, or not at all."""
    beside = path.with_suffix(".partial")
    beside.write_text(json.dumps(value), encoding="utf-8")
    beside.rename(path)


def link(place: Path, target: Path) -> None:
    """Have a symbolic link to ``target`` at ``place``, whatever is there: made at once, or replaced in one step."""
    try:
        os.symlink(target, place)
        return
    except FileNotFoundError:
        place.parent.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        if os.path.islink(place) and os.readlink(place) == str(target):
            return
    beside = place.with_name(f".{place.name}.{os.getpid()}.{threading.get_ident()}")
    beside.unlink(missing_ok=True)
    os.symlink(target, beside)
    os.replace(beside, place)


REMOVED = ".removed"
"""Folder beside those that are removed: what they held, until it is gone."""
_REMOVER = "athanor removes"


def remove_later(folder: Path) -> None:
    """Remove a folder, if it is there: its name is free at once, what it holds goes while the caller goes on.

    Waiting for the disk to let go of thousands of small files takes seconds. A process that ends waits
    for that; one that is killed leaves them below ``REMOVED``.
    """
    gone = folder.parent / REMOVED / uuid.uuid4().hex
    gone.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.replace(folder, gone)
    except FileNotFoundError:
        return
    threading.Thread(target=shutil.rmtree, args=(gone,), kwargs={"ignore_errors": True}, name=_REMOVER).start()


def finish_removals() -> None:
    """Wait until everything that this process removes is gone."""
    for thread in threading.enumerate():
        if thread.name == _REMOVER:
            thread.join()


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None)
