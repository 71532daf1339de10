"""Run a command that ends when the process that asked for it is gone, however that one ended.

``python -m flows.guard COMMAND…``: the command gets a process group of its own, so that what it
starts in turn ends with it, and so that Ctrl-C in a terminal reaches it only through us.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType

_POLL_SECONDS = 0.5
_GRACE_SECONDS = 8.0
"""What a command is given to end by itself after SIGTERM."""


def start_guarded(command: Sequence[str], log: Path, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Start ``command`` under a guard; what it prints goes to ``log``. ``stop`` ends it."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as file:
        return subprocess.Popen(  # noqa: S603 - our own commands
            [sys.executable, "-m", "flows.guard", *command],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            env=dict(environment),
            start_new_session=True,
        )


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a guarded command and all that it started."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(_GRACE_SECONDS + 2)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def main() -> int:
    parent = os.getppid()
    child = subprocess.Popen(sys.argv[1:], start_new_session=True)  # noqa: S603 - what start_guarded was given
    asked = threading.Event()

    def ask(number: int, frame: FrameType | None) -> None:
        asked.set()

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, ask)
    while child.poll() is None and os.getppid() == parent and not asked.is_set():
        asked.wait(_POLL_SECONDS)
    _end_group(child)
    return child.returncode or 0


def _end_group(child: subprocess.Popen[bytes]) -> None:
    """SIGTERM to the group, and SIGKILL to what is left of it."""
    for number, seconds in ((signal.SIGTERM, _GRACE_SECONDS), (signal.SIGKILL, 5.0)):
        try:
            os.killpg(child.pid, number)
        except ProcessLookupError:
            return
        try:
            child.wait(seconds)
        except subprocess.TimeoutExpired:
            continue


if __name__ == "__main__":
    sys.exit(main())
