"""Who sends a run's records to MLflow: the process that ``athanor up`` has for all runs, or one of the run's own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import Any, Protocol

from flows.home import Home
from flows.journal import Journal, Progress
from flows.servers import mlflow_environment, running_up
from storage.locks import held_since

_DRAIN_SECONDS = 120.0
"""How long the end of a run waits for its records to be sent; the next run sends what is left."""
_POLL_SECONDS = 0.05


class Sender(Protocol):
    """Who sends the records of one run."""

    @property
    def process(self) -> int:
        """Number of its process."""

    def lives(self) -> bool:
        """Whether it is still at work."""

    def finish(self, journal: Journal) -> dict[str, Any]:
        """Wait until all that the journal holds is sent, and close it.

        Returns ``sent``: run → its ``experiment``, ``run`` and ``steps`` in MLflow; and ``failure``:
        why there is something left, or None.
        """

    def leave(self) -> None:
        """Let it go on by itself."""


def sender_for(home: Home) -> Sender:
    """That of a running ``athanor up`` if it writes to the same MLflow, else one that is started now."""
    up = running_up(home)
    if up is not None and up.sender and up.tracking == home.tracking_uri:
        return _OfUp(home, up.sender)
    return _Own(start_sender(home))


@dataclass(frozen=True)
class _Own:
    """A process of this run's own."""

    child: subprocess.Popen[bytes]

    @property
    def process(self) -> int:
        return self.child.pid

    def lives(self) -> bool:
        return self.child.poll() is None

    def finish(self, journal: Journal) -> dict[str, Any]:
        answer = finish_sender(self.child)
        journal.close()
        return answer

    def leave(self) -> None:
        if self.child.stdin is not None:
            self.child.stdin.close()


@dataclass(frozen=True)
class _OfUp:
    """The process that ``athanor up`` has for all runs: it has imported MLflow once."""

    home: Home
    process: int

    def lives(self) -> bool:
        return held_since(self.home.lock("up")) is not None

    def finish(self, journal: Journal) -> dict[str, Any]:
        end = time.monotonic() + _DRAIN_SECONDS
        while not (progress := Progress.of(journal.path)).done and self.lives() and time.monotonic() < end:
            if progress.failure:
                break
            time.sleep(_POLL_SECONDS)
        journal.close()
        if progress.done:
            sent = {"experiment": progress.experiment, "run": progress.parent, "steps": progress.steps}
            return {"sent": {journal.path.stem: sent}, "failure": None}
        if not self.lives():
            return finish_sender(start_sender(self.home))
        return {"failure": progress.failure or f"not sent within {_DRAIN_SECONDS:.0f} s"}

    def leave(self) -> None:
        """It notices that the run is over."""


def start_sender(home: Home, *, for_all: bool = False) -> subprocess.Popen[bytes]:
    """The process that sends what is in the outbox to MLflow until its standard input ends, ours included."""
    log = home.folder / "logs" / "mlflow-writer.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as errors:
        return subprocess.Popen(  # noqa: S603 - our own program
            [sys.executable, "-m", "flows.mlflow_writer", *(["--for-all"] if for_all else [])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=mlflow_environment() | {"ATHANOR_HOME": str(home.folder)},
            cwd=os.path.dirname(os.path.dirname(os.path.abspath(__file__))),
            start_new_session=True,
        )


def finish_sender(sender: subprocess.Popen[bytes]) -> dict[str, Any]:
    """Let the sender send what is left, and end; its last word."""
    try:
        output, _ = sender.communicate(timeout=_DRAIN_SECONDS)
    except subprocess.TimeoutExpired:
        sender.kill()
        sender.communicate()
        return {"failure": f"no answer within {_DRAIN_SECONDS:.0f} s"}
    lines = output.decode().splitlines()
    if not lines:
        return {"failure": f"its writer ended with status {sender.returncode}"}
    answer: dict[str, Any] = json.loads(lines[-1])
    return answer
