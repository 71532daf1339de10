"""Metrics as JSON lines, one a step, that a tracker tails while training runs."""

from __future__ import annotations

import json
import os
from pathlib import Path

PLUMBING = "what is recorded about a run cannot shape its result"

EVALUATION = "validation_"
"""What the names of an evaluation's figures begin with; it has a line of its own."""


class Recorder:
    """Appends to a metrics file; only the first process has one."""

    def __init__(self, path: Path, step: int) -> None:
        """Continue after ``step``, with what was recorded later taken away, so that no step appears twice.

        An evaluation that belongs to ``step`` is taken away too: a checkpoint comes before it, so it is done again.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        with path.open("rb+") as file:
            kept = 0
            for line in file:
                if not line.endswith(b"\n") or not _belongs(line, step):
                    break
                kept += len(line)
            file.truncate(kept)
        self._file = path.open("ab", buffering=0)
        self.lost = 0
        """Lines that could not be written."""

    def record(self, step: int, **values: float) -> None:
        """Append one line; the file is whole after every one.

        Where the disk is full the line is lost, which is no reason to lose the training.
        """
        line, end = json.dumps({"step": step, **values}).encode() + b"\n", self._file.seek(0, os.SEEK_END)
        try:
            written = self._file.write(line)
        except OSError:
            written = 0
        if written != len(line):
            self.lost += 1
            self._file.truncate(end)


def _belongs(line: bytes, step: int) -> bool:
    """Whether a line was written before the checkpoint of ``step``."""
    row = json.loads(line)
    evaluation = any(name.startswith(EVALUATION) for name in row)
    return bool(row["step"] < step or (row["step"] == step and not evaluation))
