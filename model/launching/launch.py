"""Starts the processes of a training run, watches them, and tells how far they are."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from model.launching import parent, processes
from model.launching.host import RENDEZVOUS
from model.parallel.spread import Spread
from model.request import COMPILING, PLAN, SUMMARY, Request, Run
from storage import errors

PLUMBING = "it starts model.worker, which a task names in also_runs"


class Progress(Protocol):
    """Told how far the run is."""

    def __call__(self, done: int, total: int | None, unit: str, note: str = "", begun: int = 0) -> None: ...


class Place(Protocol):
    """What a task's context says about where and how fast to run."""

    @property
    def output(self) -> Path: ...
    @property
    def scratch(self) -> Path: ...
    @property
    def compiled(self) -> Path | None: ...
    @property
    def metrics_file(self) -> Path: ...
    @property
    def resources(self) -> Spread: ...


_POLL_SECONDS = 0.3
_LEFT = (PLAN, SUMMARY, COMPILING, RENDEZVOUS)
"""What an earlier run that was killed may have left, and would mislead this one."""


def train(request: Request, progress: Progress, lock_fds: Sequence[int] = ()) -> dict[str, Any]:
    """Run the request to its end, continuing what an earlier run left in its scratch; returns the summary.

    ``lock_fds`` are held by every training process too. Raises UserError and BrokenError as a
    training process does, and TrainingFailed if one ends without saying why.
    """
    run = request.run
    run.scratch.mkdir(parents=True, exist_ok=True)
    for old in [*run.scratch.glob("failure-*.json"), *(run.scratch / name for name in _LEFT)]:
        old.unlink(missing_ok=True)
    described = run.scratch / "request.json"
    described.write_text(request.model_dump_json(indent=1), encoding="utf-8")
    log_path = run.scratch / "training.log"
    launcher = parent.Launcher(tuple(lock_fds))
    try:
        with log_path.open("ab") as log:
            before = log.tell()  # of an earlier run of this build
            started = processes.start(described, run, launcher.address, log)
            try:
                status = _watch(started, run, progress)
            finally:
                started.stop()
    finally:
        launcher.close()
    if status != 0:
        raise _failure(run, log_path, before, status, started.lost)
    summary: dict[str, Any] = json.loads((run.scratch / SUMMARY).read_text(encoding="utf-8"))
    return summary


def run_of(place: Place) -> Run:
    """Where and how fast to run, from a task's context."""
    return Run(
        **{name: getattr(place.resources, name) for name in Spread.model_fields},
        scratch=place.scratch.absolute(),
        metrics_file=place.metrics_file.absolute(),
        output=place.output.absolute(),
        compiled=place.compiled.absolute() if place.compiled is not None else None,
    )


def _watch(started: processes.Started, run: Run, progress: Progress) -> int:
    """Tell of the newest step until the processes have ended; returns their exit status."""
    plan: dict[str, int] | None = None
    begun, told = 0, -1
    while (status := started.status) is None:
        if plan is None and (run.scratch / PLAN).is_file():
            plan = json.loads((run.scratch / PLAN).read_text(encoding="utf-8"))
            begun, told = plan["begun"], plan["begun_step"]
            progress(begun, plan["tokens"], "tokens", "", begun)
        row = _newest(run.metrics_file)
        if plan is not None and (run.scratch / COMPILING).exists():
            progress(begun, plan["tokens"], "tokens", "compiling the network", begun)
        elif plan is not None and row is not None and row["step"] != told:
            if told == plan["begun_step"]:  # the first step takes longer than any other
                begun = int(row["tokens"])
            told = row["step"]
            progress(int(row["tokens"]), plan["tokens"], "tokens", f"loss {row['loss']:.3f}", begun)
        time.sleep(_POLL_SECONDS)
    return status


def _newest(metrics: Path) -> dict[str, Any] | None:
    """The last training step that is whole in the file."""
    try:
        with metrics.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 4096))
            lines = file.read().split(b"\n")[:-1]
    except FileNotFoundError:
        return None
    for line in reversed(lines):
        try:
            row: dict[str, Any] = json.loads(line)
        except ValueError:
            return None  # the first of the block may be cut
        if "loss" in row:
            return row
    return None


def _failure(run: Run, log: Path, before: int, status: int, lost: str | None) -> errors.AthanorError:
    """The error that a process left behind, or what can be told from the log, ``before`` left out."""
    left = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(run.scratch.glob("failure-*.json"))]
    resumes = "; started again, it continues from its last checkpoint" if any(run.scratch.glob("checkpoints/*")) else ""
    told = f"(more in {log}){resumes}"
    # A process that lost another says only what the end of that one did to it.
    for failure in [failure for failure in left if not failure["lost_another"]]:
        kind = getattr(errors, failure["error"], None)
        if isinstance(kind, type) and issubclass(kind, errors.AthanorError):
            return kind(failure["message"])
        first_line = next(iter(failure["message"].splitlines()), "")
        return errors.TrainingFailed(f"{failure['error']}: {first_line} {told}")
    said = log.read_bytes()[before:].decode("utf-8", errors="replace")[-20_000:]
    # Torchrun ends the others by SIGTERM, once some have ended for having lost one that was killed.
    killed = [int(number) for number in re.findall(r"exitcode\s*:\s*-(\d+)", said)]
    killed = [number for number in killed if not left or number != signal.SIGTERM]
    if killed:
        name = signal.Signals(killed[-1]).name
        hint = "; out of memory? fewer micro_batch_sequences need less" if name == "SIGKILL" else ""
        return errors.TrainingFailed(f"a training process was ended by {name}{hint} {told}")
    joined = re.findall(r"(\d+)/(\d+) clients joined", said)
    if run.hosts is not None and joined:
        wait = f"{run.hosts.join_seconds} s (hosts.join_seconds)"
        return errors.TrainingFailed(f"{joined[-1][0]} of {joined[-1][1]} hosts were there after {wait} {told}")
    for failure in left:
        return errors.TrainingFailed(f"{failure['message']} {told}")
    host = f"host {lost}: its part of the " if lost is not None else ""
    return errors.TrainingFailed(f"{host}training ended with status {status} {told}")
