"""Which partitions a build has finished: a line for each, so that after a kill it goes on behind them."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from storage.artifact import JsonValue
from storage.corpus import Partition

PLUMBING = "it says what has been made; it makes nothing"


class Finished:
    """The notes of one call of ``map_partitions``, in one file. Several threads may add to them.

    A file for each partition would have to be made and removed again, which costs a refresh more
    than many a partition's work.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def of(self, partition: Partition) -> tuple[dict[str, JsonValue], list[str]] | None:
        """Stats and names of files of a partition that was finished before the build was killed."""
        note = self._noted.get(_name(partition))
        return (note["stats"], note["files"]) if note is not None else None

    @cached_property
    def _noted(self) -> dict[str, dict[str, Any]]:
        if not self.path.exists():
            return {}
        found = {}
        for line in self.path.read_bytes().splitlines():
            try:
                note = json.loads(line)
            except ValueError:  # the build was killed while it wrote this line
                continue
            found[note["partition"]] = note
        return found

    def add(self, partition: Partition, stats: dict[str, JsonValue], files: Sequence[str]) -> None:
        """Note that a partition is finished."""
        note = {"partition": _name(partition), "files": sorted(files), "stats": stats}
        # Each line begins with a line's end: what a killed build has left unfinished must not garble the next.
        line = b"\n" + json.dumps(note).encode()
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(descriptor, line)  # one write, appended as a whole
        finally:
            os.close(descriptor)


def _name(partition: Partition) -> str:
    return f"{partition.name}.{partition.digest[:16]}"
