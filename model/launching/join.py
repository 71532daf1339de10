"""Lend this host to training runs, until interrupted: ``python -m model.launching.join FOLDER --number N``.

FOLDER is the ``folder`` of the runs' ``resources.hosts``, which this host sees at the same path as
theirs; N counts the hosts beside the first one: 1, 2 …
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

from model.launching.processes import ANNOUNCED

PLUMBING = "who starts the processes cannot shape their result"

_POLL_SECONDS = 0.5
_OLD_SECONDS = 60.0
"""A run announced so long ago has begun, or ended, without this host."""


def main() -> None:
    """Wait for runs, and take part in one after the other."""
    options = argparse.ArgumentParser(description="Lend this host to training runs.")
    options.add_argument("folder", type=Path, help="resources.hosts.folder of the runs")
    options.add_argument("--number", type=int, required=True, help="1, 2 …: which of the other hosts this is")
    options.add_argument("--runs", type=int, default=0, help="end after so many runs; 0: go on until interrupted")
    given = options.parse_args()
    seen: set[str] = set()
    while not given.runs or len(seen) < given.runs:
        announced = _announced(given.folder / ANNOUNCED)
        if announced is None or announced["id"] in seen:
            time.sleep(_POLL_SECONDS)
            continue
        seen.add(announced["id"])
        command = [sys.executable, "-m", "model.launching.host", announced["request"], "--number", str(given.number)]
        ended = subprocess.run(command, check=False)  # noqa: S603  # the folder is trusted as the code is
        print(f"{announced['request']}: ended with status {ended.returncode}", file=sys.stderr)  # noqa: T201


def _announced(place: Path) -> dict[str, str] | None:
    try:
        if time.time() - place.stat().st_mtime > _OLD_SECONDS:
            return None
        found: dict[str, str] = json.loads(place.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return found


if __name__ == "__main__":
    main()
