"""The process that sends journals to MLflow; the only place that talks to it.

``python -m flows.mlflow_writer`` works until its standard input ends, then sends what is left and
says how it went as one JSON object on standard output. A run starts one for itself, unless ``athanor
up`` has one already for all runs, started with ``--for-all``. Sending a record twice does no harm (runs
are found by their tags, values carry the time they were measured), so after a crash it goes on
behind the last record known to be sent.
"""

from __future__ import annotations

import io
import json
import os
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from flows.home import Home
from flows.journal import Progress, is_alive, journals, read_from, remove, sender_of
from storage.locks import held_since, locked

_POLL_SECONDS = 0.1
"""The end of a run waits until its records are sent; to look whether there are any takes some 0.1 ms."""
_RETRY_SECONDS = 5.0


def main() -> int:
    ended = threading.Event()
    threading.Thread(target=_wait_for_end, args=(ended,), daemon=True).start()
    sender = Sender(Home.of_environment(), for_all="--for-all" in sys.argv[1:])
    _import_libraries()
    failure: str | None = None
    while True:
        last = ended.is_set()
        try:
            sender.send_all()
            failure = None
        except Exception as error:  # noqa: BLE001 - whatever keeps MLflow from being written, the records stay
            print(f"{time.strftime('%F %T')} {type(error).__name__}: {error}", file=sys.stderr, flush=True)  # noqa: T201
            failure = _one_line(error)
            sender.failed(failure)
        if last:
            break
        ended.wait(_RETRY_SECONDS if failure else _POLL_SECONDS)
    print(json.dumps({"sent": sender.sent, "failure": failure}), flush=True)  # noqa: T201
    os._exit(0)  # MLflow leaves threads behind that nobody waits for


def _import_libraries() -> None:
    """It takes seconds, the first picture a second more: before there is anything to send, so that no run waits."""
    import flows.mlflow_records  # noqa: F401
    from flows.pictures import draw_reasons

    picture = draw_reasons({"dropped.first": 1.0}, "the first picture")
    assert picture is not None
    picture.savefig(io.BytesIO())


def _wait_for_end(ended: threading.Event) -> None:
    """Standard input ends when the run is over, and also when its process was killed."""
    sys.stdin.buffer.read()
    ended.set()


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 200 else f"{text[:197]}…"


class Sender:
    """Sends the journals of runs that are over, and of those that count on it."""

    def __init__(self, home: Home, for_all: bool) -> None:
        """``for_all``: it outlives the runs that count on it. They read in their journals' progress how it goes."""
        self.home = home
        self.for_all = for_all
        self.sent: dict[str, dict[str, Any]] = {}
        """Run → its ``experiment``, ``run`` and ``steps`` in MLflow, for runs that were sent whole."""
        self._held: dict[Path, ExitStack] = {}
        self._records: Any = None

    def send_all(self) -> None:
        """Send all that waits. Raises whatever MLflow raises when it cannot be written."""
        if not self.for_all:
            self._connection()  # takes seconds, while the run has nothing to say yet
        for journal in journals(self.home.outbox):
            if self._hold(journal):
                self._send(journal)

    def failed(self, why: str) -> None:
        """Begin with a new connection next time, and say why to whoever waits."""
        self._records = None
        for journal in self._held:
            progress = Progress.of(journal)
            progress.failure = why
            progress.save()

    def _hold(self, journal: Path) -> bool:
        """Whether this process is the one that sends the journal."""
        if journal in self._held:
            return True
        lock = journal.with_suffix(".sending")
        if (is_alive(journal) and sender_of(journal) != os.getpid()) or held_since(lock) is not None:
            return False
        stack = ExitStack()
        stack.enter_context(locked(lock))
        if not journal.exists():
            stack.close()
            lock.unlink(missing_ok=True)
            return False
        self._held[journal] = stack
        return True

    def _send(self, journal: Path) -> None:
        alive = is_alive(journal)
        progress = Progress.of(journal)
        for record, offset in [] if progress.done else read_from(journal, progress.offset):
            self._connection().send(record, progress, journal)
            progress.offset, progress.failure = offset, None
            progress.done = record["event"] == "run_ended"
            progress.save()
        if not progress.done and alive:
            return
        if not progress.done:
            self._connection().close_killed(progress)
        if alive and self.for_all:
            return  # its run reads what it is called in MLflow, and lets go of it
        self.sent[journal.stem] = {
            "experiment": progress.experiment,
            "run": progress.parent,
            "steps": progress.steps,
        }
        remove(journal)
        self._held.pop(journal).close()
        journal.with_suffix(".sending").unlink(missing_ok=True)

    def _connection(self) -> Any:
        if self._records is None:
            from flows.mlflow_records import Records

            with locked(self.home.lock("mlflow")):  # creating the database is for one process at a time
                self._records = Records(self.home)
        return self._records


if __name__ == "__main__":
    sys.exit(main())
