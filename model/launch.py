"""Starts the processes of a training run, watches them, and tells how far they are."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, Protocol

from model import parent
from model.request import Request, Run
from storage import errors

PLUMBING = "it starts model.worker, which a task names in also_runs"


class Progress(Protocol):
    """Told how far the run is."""

    def __call__(self, done: int, total: int | None, unit: str, note: str = "") -> None: ...


class Place(Protocol):
    """What a task's context says about where and how fast to run."""

    @property
    def output(self) -> Path: ...
    @property
    def scratch(self) -> Path: ...
    @property
    def metrics_file(self) -> Path: ...
    @property
    def resources(self) -> Any: ...


_POLL_SECONDS = 0.3
_PATIENCE_SECONDS = 10.0


def train(request: Request, progress: Progress, lock_fds: Sequence[int] = ()) -> dict[str, Any]:
    """Run the request to its end, continuing what an earlier run left in its scratch; returns the summary.

    ``lock_fds`` are held by every training process too. Raises UserError and BrokenError as a
    training process does, and TrainingFailed if one ends without saying why.
    """
    run = request.run
    run.scratch.mkdir(parents=True, exist_ok=True)
    for old in [*run.scratch.glob("failure-*.json"), run.scratch / "plan.json", run.scratch / "summary.json"]:
        old.unlink(missing_ok=True)
    described = run.scratch / "request.json"
    described.write_text(request.model_dump_json(indent=1), encoding="utf-8")
    log_path = run.scratch / "training.log"
    launcher = parent.Launcher(tuple(lock_fds))
    try:
        with log_path.open("ab") as log:
            torchrun = _start(described, run.processes, launcher.address, log)
            try:
                _watch(torchrun, run, progress)
            finally:
                _stop(torchrun)
    finally:
        launcher.close()
    if torchrun.returncode != 0:
        raise _failure(run.scratch, log_path, torchrun.returncode)
    summary: dict[str, Any] = json.loads((run.scratch / "summary.json").read_text(encoding="utf-8"))
    return summary


def run_of(place: Place) -> Run:
    """Where and how fast to run, from a task's context."""
    resources = place.resources
    return Run(
        processes=resources.processes,
        zero_stage=resources.zero_stage,
        micro_batch_sequences=resources.micro_batch_sequences,
        device=resources.device,
        scratch=place.scratch.absolute(),
        metrics_file=place.metrics_file.absolute(),
        output=place.output.absolute(),
    )


def _start(described: Path, processes: int, address: str, log: IO[bytes]) -> subprocess.Popen[bytes]:
    command = [
        *(sys.executable, "-m", "torch.distributed.run"),
        *("--nnodes", "1", "--nproc-per-node", str(processes)),
        *("--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0", "--local-addr", "127.0.0.1"),
        *("-m", "model.worker", str(described)),
    ]
    environment = {
        **os.environ,
        parent.ADDRESS: address,
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS") or str(max(1, _processors() // processes)),
        "TORCHDYNAMO_DISABLE": "1",  # nothing is compiled here; importing the compiler takes 2 s
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).resolve().parents[1]), os.environ.get("PYTHONPATH", "")]),
    }
    if sys.platform == "linux":
        environment.setdefault("GLOO_SOCKET_IFNAME", "lo")  # a host whose own name cannot be resolved is common
    return subprocess.Popen(  # noqa: S603
        command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
    )


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _watch(torchrun: subprocess.Popen[bytes], run: Run, progress: Progress) -> None:
    """Tell of the newest step until the processes have ended."""
    total: int | None = None
    told = -1
    while torchrun.poll() is None:
        if total is None and (run.scratch / "plan.json").is_file():
            total = json.loads((run.scratch / "plan.json").read_text(encoding="utf-8"))["tokens"]
        row = _newest(run.metrics_file) if total is not None else None
        if row is not None and row["step"] != told:
            told = row["step"]
            progress(int(row["tokens"]), total, "tokens", f"loss {row['loss']:.3f}")
        time.sleep(_POLL_SECONDS)


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


def _stop(torchrun: subprocess.Popen[bytes]) -> None:
    """End torchrun and its processes, if they still run (an exception here, such as a cancellation)."""
    if torchrun.poll() is None:
        torchrun.send_signal(signal.SIGTERM)
        try:
            torchrun.wait(_PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            torchrun.kill()  # the ranks end with it
            torchrun.wait()


def _failure(scratch: Path, log: Path, status: int) -> errors.AthanorError:
    """The error that a process left behind, or what can be told from the end of the log."""
    for path in sorted(scratch.glob("failure-*.json")):
        failure = json.loads(path.read_text(encoding="utf-8"))
        kind = getattr(errors, failure["error"], None)
        if isinstance(kind, type) and issubclass(kind, errors.AthanorError):
            return kind(failure["message"])
        first_line = next(iter(failure["message"].splitlines()), "")
        return errors.TrainingFailed(f"{failure['error']}: {first_line} (more in {log})")
    tail = log.read_text(encoding="utf-8", errors="replace")[-20_000:]
    killed = re.findall(r"exitcode\s*:\s*-(\d+)", tail)
    if killed:
        name = signal.Signals(int(killed[-1])).name
        hint = "; out of memory? fewer micro_batch_sequences need less" if name == "SIGKILL" else ""
        return errors.TrainingFailed(f"a training process was ended by {name}{hint} (more in {log})")
    return errors.TrainingFailed(f"training ended with status {status} (more in {log})")
