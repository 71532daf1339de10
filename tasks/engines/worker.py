"""Work on one partition, in a process that a bad document may kill."""

from __future__ import annotations

import faulthandler
import gc
import importlib
import os
import pickle
import signal
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from storage.artifact import JsonValue
from storage.without_pandas import without_pandas
from tasks.task import DocumentLost, PartitionFunction

PLUMBING = "where a partition is worked on cannot shape its bytes: a function sees only its arguments"

_PARENT_POLL_SECONDS = 0.5


@dataclass(frozen=True)
class Work:
    """One partition to be worked on; small, and can be pickled."""

    function: PartitionFunction
    source: Path
    stage: Path
    """A folder that no other attempt has at the same time: unfinished files, and the marker of the document at hand."""
    name: str
    seconds: float
    """Time limit of one document."""
    lost: dict[str, str]
    """Document id → reason, of documents that must not be tried again."""


@dataclass(frozen=True)
class Done:
    """What came of it."""

    stats: dict[str, JsonValue]
    peak_bytes: int
    """The most memory that the process has held since it began."""


class WorkerDied(Exception):
    """The process ended before its work. ``document`` is the one it was at, for ``elapsed`` seconds; may be empty."""

    def __init__(self, exit_status: int | None, document: str = "", elapsed: float = 0.0, reason: str = "") -> None:
        super().__init__(exit_status, document, elapsed, reason)
        self.exit_status = exit_status
        """Negative: the signal; None: unknown, since its host went too."""
        self.document = document
        self.elapsed = elapsed
        self.reason = reason

    @property
    def killed(self) -> bool:
        """Whether it was ended from outside: for want of memory, by a person, with its host."""
        return self.exit_status is None or self.exit_status == -signal.SIGKILL


def work_on(work: Work, payload: bytes) -> Done:
    """Do it; the files lie in ``stage/output`` then. Runs in the worker."""
    output = work.stage / "output"
    output.mkdir(exist_ok=True)  # of an earlier attempt, whose files were taken
    with (work.stage / "current").open("wb", buffering=0) as marker:
        guard = _Guard(marker, work.seconds, work.lost)
        stats = work.function(pickle.loads(payload), work.source, output / work.name, guard)  # noqa: S301 - our own
    # Cycles hold a partition's texts until Python looks for them, which it may do only after many more partitions.
    # What is left is modules and tables of what was seen: they stay, and are not looked through again.
    gc.collect()
    gc.freeze()
    return Done(stats, _peak_bytes())


def death_of(work: Work, exit_status: int | None) -> WorkerDied:
    """What is known of a worker that died of this work; to be asked on the worker's host, by whose clock time went."""
    document, elapsed = _read_marker(work.stage / "current")
    return WorkerDied(exit_status, document, elapsed)


class _Guard:
    """See ``tasks.task.Guard``: a watchdog in C ends the process even when a library holds the interpreter's lock."""

    def __init__(self, marker: IO[bytes], seconds: float, lost: dict[str, str]) -> None:
        self._marker = marker
        self._seconds = seconds
        self._lost = lost
        self._silence = open(os.devnull, "w")  # noqa: SIM115 - lives as long as the guard

    def __call__(self, document: str, function: Callable[..., Any], *arguments: Any) -> Any:
        if document in self._lost:
            raise DocumentLost(self._lost[document])
        self._mark(f"{time.time()} {document}")
        faulthandler.dump_traceback_later(self._seconds, exit=True, file=self._silence)
        try:
            return function(*arguments)
        except (RecursionError, MemoryError) as error:
            raise DocumentLost("crash") from error
        finally:
            faulthandler.cancel_dump_traceback_later()
            self._mark("")

    def _mark(self, text: str) -> None:
        content = text.encode()
        os.pwrite(self._marker.fileno(), content, 0)
        os.ftruncate(self._marker.fileno(), len(content))


def _read_marker(path: Path) -> tuple[str, float]:
    """The document a dead worker was at, and for how many seconds; an empty name if it was at none."""
    if not path.exists() or not path.read_text():
        return "", 0.0
    started, document = path.read_text().split(" ", 1)
    return document, time.time() - float(started)


def _peak_bytes() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


def start_worker(parent: int, modules: Sequence[str] = ()) -> None:
    """What a worker does first; ``parent`` is the process that it must not outlive.

    ``modules`` are what it will need: it imports them before there is work for it.
    """
    # Ctrl-C in a terminal reaches every process of the group. A worker that dies of it would look
    # as if a document had killed it; the parent decides, and its end ends the workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    die_with_parent(parent)
    without_pandas()
    for module in modules:
        importlib.import_module(module)


def die_with_parent(parent: int | None = None) -> None:
    """End this process soon after its parent is gone, however the parent ended.

    ``parent`` is the parent's process number, for a child that may start only after its parent's end.
    """
    expected = os.getppid() if parent is None else parent

    def watch() -> None:
        while os.getppid() == expected:
            time.sleep(_PARENT_POLL_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, name="watch-parent", daemon=True).start()
