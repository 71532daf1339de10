"""Starts what a training run consists of, on one host or on several, and ends it. Imports no torch."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO

from model.launching import host, parent
from model.launching.hosts import Hosts, read_hostfile
from model.request import Run
from storage.disk import write_json
from storage.errors import UserError

PLUMBING = "who starts the processes cannot shape their result"

ANNOUNCED = "gathering.json"
"""In the folder that all hosts see: the run that ``model.launching.join`` is to take part in."""
_PATIENCE_SECONDS = 10.0
_CHECKPOINT_SECONDS = 25.0
"""What a run that is told to stop has for its checkpoint: preempted machines and Prefect give 30 s or more."""
_running: list[Started] = []
"""The runs of this process."""


class Started:
    """The processes that stand for a run here: its torchrun (or what starts it), and a remote shell per other host."""

    def __init__(self, first: subprocess.Popen[bytes], others: Mapping[str, subprocess.Popen[bytes]]) -> None:
        self._first, self._others = first, others
        self.lost: str | None = None
        """The host that ended first, if one did while the first host went on."""
        self._lost_at = 0.0

    @property
    def status(self) -> int | None:
        """The exit status of the run; None while it goes on."""
        status = self._first.poll()
        if status is None and self.lost is None:
            for name, process in self._others.items():
                if process.poll():
                    self.lost, self._lost_at = name, time.monotonic()
        # The first host's processes mostly notice for themselves, and say more about it.
        if status is None and self.lost is not None and time.monotonic() - self._lost_at > _PATIENCE_SECONDS:
            status = self._others[self.lost].returncode
        return status

    def stop(self) -> None:
        """End what still runs (an exception in the launcher, such as a cancellation, or a host that is lost).

        The processes write a checkpoint first, if they can do so in time.
        """
        running = [process for process in (self._first, *self._others.values()) if process.poll() is None]
        if self._first.returncode == 0:
            _wait(running, _PATIENCE_SECONDS)  # the other hosts are about to end as well
        for process in running:
            process.send_signal(signal.SIGTERM)
        _wait(running, _PATIENCE_SECONDS if self.lost else _CHECKPOINT_SECONDS)
        for process in running:
            if process.poll() is None:
                process.kill()  # the ranks end with it
                process.wait()
        with suppress(ValueError):
            _running.remove(self)


def stop_all() -> None:
    """End all runs of this process, which is about to end itself; each writes a checkpoint if it can in time."""
    for started in list(_running):
        started.stop()


def _wait(running: list[subprocess.Popen[bytes]], seconds: float) -> None:
    until = time.monotonic() + seconds
    for process in running:
        try:
            process.wait(max(0.0, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            return


def start(described: Path, run: Run, launcher: str, log: IO[bytes]) -> Started:
    """Start the run that is described there. ``launcher`` is the address of ``parent.Launcher``.

    Raises UserError where the hosts cannot be used.
    """
    hosts = run.hosts
    if hosts is not None and hosts.launcher == "slurm":
        return _kept(Started(_open(_srun(described), run, launcher, log), {}))
    if hosts is not None and hosts.launcher == "ray":
        command = [sys.executable, "-m", "model.launching.ray_train", str(described)]
        return _kept(Started(_open(command, None, launcher, log), {}))
    first = _open(host.torchrun(described, run, 0), run, launcher, log)
    others = {}
    if hosts is not None and hosts.hostfile is not None:
        names = list(read_hostfile(hosts.hostfile))
        others = {name: _remote(hosts, name, described, number, log) for number, name in enumerate(names) if number}
    elif hosts is not None and hosts.folder is not None:
        _announce(hosts.folder, described)
    return _kept(Started(first, others))


def _kept(started: Started) -> Started:
    _running.append(started)
    return started


def _open(command: list[str], run: Run | None, launcher: str, log: IO[bytes]) -> subprocess.Popen[bytes]:
    added = host.environment(run, 0) if run is not None else {}
    values = {**os.environ, **added, parent.ADDRESS: launcher}
    return subprocess.Popen(  # noqa: S603
        command, env=values, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
    )


def _remote(hosts: Hosts, name: str, described: Path, number: int, log: IO[bytes]) -> subprocess.Popen[bytes]:
    """A remote shell starts the processes of one other host, with the Python and the code of this one."""
    code = Path(__file__).resolve().parents[2]
    kept = {"PYTHONPATH": str(code)}
    kept |= {key: value for key, value in os.environ.items() if key == "OMP_NUM_THREADS" or key.startswith("NCCL_")}
    variables = [f"{key}={value}" for key, value in kept.items()]
    there = [sys.executable, "-m", "model.launching.host", str(described), "--number", str(number)]
    command = hosts.remote_command(name, ["env", "-C", str(code), *variables, *there])
    try:
        return subprocess.Popen(  # noqa: S603
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    except FileNotFoundError as error:
        raise UserError(f"hosts.remote_shell {hosts.remote_shell!r}: there is no {command[0]} here") from error


def _srun(described: Path) -> list[str]:
    """One task of Slurm on each node of the allocation that this process runs in."""
    if "SLURM_JOB_ID" not in os.environ:
        raise UserError("resources.hosts: launcher slurm needs an allocation: start athanor inside sbatch or salloc")
    if shutil.which("srun") is None:
        raise UserError("resources.hosts: launcher slurm: there is no srun here")
    there = [sys.executable, "-m", "model.launching.host", str(described)]
    return ["srun", "--ntasks-per-node=1", f"--nodes={os.environ['SLURM_NNODES']}", "--kill-on-bad-exit=1", *there]


def _announce(folder: Path, described: Path) -> None:
    """Tell the hosts that wait in ``model.launching.join`` of a run."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / ANNOUNCED, {"id": uuid.uuid4().hex, "request": str(described)})
