"""What a run says about itself, as JSON lines in the outbox, where MLflow's writer picks it up.

The journal is the only thing a running build writes to: MLflow may be slow, down or not there at
all, and nothing is lost. One file a run; while the run lives, it holds a lock on the file beside.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from storage.artifact import JsonValue
from storage.locks import held_since, locked


class Journal:
    """Appends records to the journal of one run; safe to use from several threads."""

    def __init__(self, outbox: Path, run_id: str) -> None:
        outbox.mkdir(parents=True, exist_ok=True)
        self.path = outbox / f"{run_id}.jsonl"
        self._lock = threading.Lock()
        self._held = ExitStack()
        self._held.enter_context(locked(owner_lock(self.path)))
        self._file = self._held.enter_context(self.path.open("a", encoding="utf-8"))

    def append(self, event: str, **content: JsonValue) -> None:
        """Write one record, with the time it happened (milliseconds since 1970)."""
        line = json.dumps({"event": event, "at": int(time.time() * 1000), **content}, ensure_ascii=False)
        with self._lock:
            if not self._file.closed:
                self._file.write(line + "\n")
                self._file.flush()

    def close(self) -> None:
        """The run writes no more."""
        with self._lock:
            self._held.close()


def owner_lock(journal: Path) -> Path:
    """The file that the run locks as long as it lives."""
    return journal.with_suffix(".owner")


def is_alive(journal: Path) -> bool:
    """Whether the run that writes this journal still lives."""
    return held_since(owner_lock(journal)) is not None


def sender_of(journal: Path) -> int | None:
    """Process that is to send this journal while its run lives; None as long as it holds nothing."""
    for record, _ in read_from(journal, 0):
        return int(record["sender"])
    return None


def journals(outbox: Path) -> list[Path]:
    """Journals that wait in the outbox, oldest first."""
    return sorted(outbox.glob("*.jsonl"), key=lambda path: path.stat().st_mtime) if outbox.is_dir() else []


def waiting_records(outbox: Path) -> int:
    """How many records have not reached MLflow yet."""
    return sum(1 for path in journals(outbox) for _ in read_from(path, Progress.of(path).offset))


def read_from(journal: Path, offset: int) -> Iterator[tuple[dict[str, Any], int]]:
    """Every whole record behind ``offset``, with the offset after it. A last line without its end is left for later."""
    with journal.open("rb") as file:
        file.seek(offset)
        for line in file:
            if not line.endswith(b"\n"):
                return
            offset += len(line)
            yield json.loads(line), offset


class Progress:
    """How far a journal has been sent, and under which identifiers MLflow knows its runs. Kept beside the journal."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.offset = 0
        self.experiment: str | None = None
        self.parent: str | None = None
        self.steps: dict[str, str] = {}
        """Step → MLflow run."""
        self.done = False
        """Whether all of it was sent, the run's end included."""
        self.failure: str | None = None
        """Why the last try to send did not succeed."""

    @classmethod
    def of(cls, journal: Path) -> Progress:
        progress = cls(journal.with_suffix(".sent"))
        if progress.path.exists():
            progress.__dict__.update(json.loads(progress.path.read_text()))
        return progress

    def save(self) -> None:
        beside = self.path.with_suffix(".sent.new")
        beside.write_text(json.dumps({k: v for k, v in self.__dict__.items() if k != "path"}))
        beside.replace(self.path)


def remove(journal: Path) -> None:
    """All of it has been sent."""
    for path in (journal, journal.with_suffix(".sent"), owner_lock(journal)):
        path.unlink(missing_ok=True)


class Tail:
    """Follows a growing file of metrics while a step trains, and hands on each row once."""

    def __init__(self, path: Path, journal: Journal, step: str) -> None:
        self._path = path
        self._journal = journal
        self._step = step
        self._offset = 0
        self._latest: dict[str, float] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._follow, name=f"tail-{step}", daemon=True)

    def __enter__(self) -> Tail:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _follow(self) -> None:
        while not self._ended.wait(1.0):
            self._hand_on()
        self._hand_on()

    def _hand_on(self) -> None:
        if not self._path.exists():
            return
        if self._path.stat().st_size < self._offset:
            self._offset = 0  # a resumed build has gone back to its checkpoint
        rows = []
        for row, offset in read_from(self._path, self._offset):
            self._offset = offset
            fresh = self._fresh(row)
            if fresh:
                rows.append(fresh)
        for start in range(0, len(rows), 100):
            self._journal.append("points", step=self._step, rows=rows[start : start + 100])

    def _fresh(self, row: dict[str, Any]) -> dict[str, Any]:
        """The values of a row that were not handed on before."""
        number = row.get("step", 0)
        values = {
            name: value
            for name, value in row.items()
            if name != "step" and isinstance(value, (int, float)) and number > self._latest.get(name, -1)
        }
        self._latest.update(dict.fromkeys(values, number))
        return {"step": number, **values} if values else {}
