"""What modules say, remembered by the state of their files: parsing them all takes most of a second."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from storage.filecache import SETTLED_SECONDS, state_of
from storage.identity import digest_of_file

PLUMBING = "it answers what parsing would"


class CodeCache:
    """A JSON file that several processes may use at once; losing it costs time only."""

    def __init__(self, path: Path, reader: Path) -> None:
        """``reader`` is the module that makes what is remembered: when it changes, nothing counts any more."""
        self._path = path
        self._reader = digest_of_file(reader)
        self._lock = threading.Lock()
        self._known: dict[str, tuple[str, Any]] = {}
        self._grown = False
        try:
            content = json.loads(path.read_bytes())
            if content["reader"] == self._reader:
                self._known = {name: (state, value) for name, (state, value) in content["known"].items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):  # none yet, or one that was cut short
            pass

    def get(self, file: Path, made: Callable[[], Any]) -> Any:
        """What was remembered of a file as it is now, else what is ``made`` of it (a JSON value)."""
        status, name = file.stat(), str(file)
        state = state_of(status)
        found = self._known.get(name)
        if found is not None and found[0] == state:
            return found[1]
        value = made()
        if time.time() - status.st_mtime > SETTLED_SECONDS:
            with self._lock:
                self._known[name] = (state, value)
                self._grown = True
        return value

    def save(self) -> None:
        """Write down what is known, if that has become more."""
        with self._lock:
            if not self._grown:
                return
            self._grown = False
            self._path.parent.mkdir(parents=True, exist_ok=True)
            beside = self._path.with_suffix(f".{os.getpid()}")
            beside.write_text(json.dumps({"reader": self._reader, "known": self._known}), encoding="utf-8")
            beside.replace(self._path)
