"""``athanor run`` as a user starts it, seen from outside: its seconds and the memory of all its processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import psutil

_POLL_SECONDS = 0.25
_PATIENCE_SECONDS = 900.0


@dataclass(frozen=True)
class Run:
    """One ``athanor run``, seen from outside."""

    seconds: float
    """From the command's start to its end."""
    peak: int
    """Bytes of memory of the command and all its processes together, shared pages counted once."""
    peaks: Mapping[str, int]
    """The same by the step that was being built; of one too short to be seen nothing."""
    report: dict[str, Any]
    """What ``--json`` printed."""

    def step(self, name: str) -> float:
        return float(self.report["steps"][name]["seconds"])

    def total(self, metric: str) -> int:
        """A metric added up over the steps."""
        return int(sum(step["metrics"].get(metric, 0) for step in self.report["steps"].values()))

    @property
    def built(self) -> int:
        return sum(step["status"] == "built" for step in self.report["steps"].values())


@contextmanager
def served(home: Path) -> Iterator[dict[str, str]]:
    """``athanor up`` over a home; yields the environment for runs beside it."""
    environment = os.environ | {"ATHANOR_HOME": str(home)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # few users have all sources compiled anew in every process
    command = [str(Path(sys.executable).with_name("athanor")), "up"]
    with (home / "up.log").open("wb") as log:
        server = subprocess.Popen(command, cwd=home, env=environment, stdout=log, stderr=log)
        try:
            until = time.monotonic() + _PATIENCE_SECONDS
            while b"Ctrl-C" not in (home / "up.log").read_bytes():
                if server.poll() is not None or time.monotonic() > until:
                    raise RuntimeError(f"athanor up did not start: {(home / 'up.log').read_text()}")
                time.sleep(_POLL_SECONDS)
            yield environment
        finally:
            server.terminate()
            server.wait()


def run(recipe: Path, environment: dict[str, str], *options: str, before: Sequence[str] = ()) -> Run:
    """Run the recipe as a user would; ``before``: a command that runs the one behind it."""
    command = [*before, str(Path(sys.executable).with_name("athanor")), "run", str(recipe), "--json", *options]
    began = time.monotonic()
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        peak = _Peak(process.pid, process.stderr)
        output = process.stdout.read()
    seconds = time.monotonic() - began
    if process.returncode:
        raise RuntimeError(f"athanor run ended with {process.returncode}: {output.decode()[-2000:]}")
    peaks = peak.end()
    return Run(seconds, max(peaks.values()), {step: most for step, most in peaks.items() if step}, json.loads(output))


class _Peak:
    """Watches how much memory a process and all below it hold together, by the step that it says it is building."""

    def __init__(self, process: int, said: IO[bytes]) -> None:
        self._process = psutil.Process(process)
        self._peaks: dict[str, int] = defaultdict(int)
        self._step = ""
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._watch), threading.Thread(target=self._listen, args=(said,))]
        for thread in self._threads:
            thread.start()

    def _watch(self) -> None:
        while not self._ended.wait(_POLL_SECONDS):
            step = self._step
            with suppress(psutil.NoSuchProcess):
                tree = [self._process, *self._process.children(recursive=True)]
                self._peaks[step] = max(self._peaks[step], sum(map(_proportional_bytes, tree)))

    def _listen(self, said: IO[bytes]) -> None:
        for line in said:
            sys.stderr.buffer.write(line)
            sys.stderr.flush()
            step, _, rest = line.decode().strip().partition(" ")
            if rest.lstrip().startswith("building:"):
                self._step = step
            elif rest.lstrip().startswith("built in"):
                self._step = ""

    def end(self) -> Mapping[str, int]:
        """Step → the most bytes while it was built; "": between steps."""
        self._ended.set()
        for thread in self._threads:
            thread.join()
        return self._peaks


def _proportional_bytes(process: psutil.Process) -> int:
    try:
        return int(process.memory_full_info().pss)
    except psutil.NoSuchProcess:
        return 0
