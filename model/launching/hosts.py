"""Which hosts a training run is spread over, and how its processes come to start there. Imports no torch."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Literal, Self

from pydantic import ConfigDict, Field, model_validator

from storage.described import Described
from storage.errors import UserError

PLUMBING = "where a run's processes are started cannot shape its result"


class Hosts(Described):
    """``{launcher: hostfile, hostfile: hosts.txt}``: the hosts that a training step is spread over.

    All of them see the store and the scratch at the same paths, and have the same code and libraries.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    launcher: Literal["join", "hostfile", "slurm", "ray"]
    """Who starts the processes on the other hosts: a person (``join``: there
    ``python -m model.launching.join FOLDER --number N`` waits for runs), the remote shell (``hostfile``), ``srun``
    inside a Slurm allocation, or Ray Train."""
    count: int | None = Field(None, ge=2)
    """``join``: hosts, this one included. The others know it themselves."""
    hostfile: Path | None = None
    """``hostfile``: DeepSpeed's form, a line ``HOST slots=PROCESSES`` for each host; the first is this one."""
    folder: Path | None = None
    """``join``: a folder that all hosts see, in which runs are announced."""
    remote_shell: str = "ssh -o BatchMode=yes"
    """``hostfile``: called with the host and a command line."""
    address: str | None = None
    """Where the other hosts reach this one; ``hostfile``: default its first host; ``slurm``: default the first
    node; ``ray``: the address of the Ray cluster (``HOST:6379``), default ``RAY_ADDRESS``, or one
    of this host's own."""
    port: int = Field(29_500, ge=1, le=65_535)
    """Of the rendezvous on this host."""
    interface: str | None = None
    """Network interface for the traffic between processes; default: the one through which ``address`` is reached."""
    join_seconds: int = Field(300, ge=1)
    """How long the hosts wait for each other at the start."""
    silence_seconds: float = Field(30.0, ge=1)
    """A host that is not heard from for so long counts as lost, and the run stops."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        needed = {"join": ("count", "folder", "address"), "hostfile": ("hostfile",)}.get(self.launcher, ())
        for name in needed:
            if getattr(self, name) is None:
                raise ValueError(f"hosts: launcher {self.launcher} needs {name}")
        for name, launcher in (("count", "join"), ("folder", "join"), ("hostfile", "hostfile")):
            if getattr(self, name) is not None and self.launcher != launcher:
                raise ValueError(f"hosts: {name} is for launcher {launcher}, not for {self.launcher}")
        return self

    def check(self, processes: int) -> None:
        """Raise ValueError if so many processes cannot be spread over these hosts."""
        if self.count is not None and processes % self.count:
            raise ValueError(f"processes {processes} cannot be shared evenly by {self.count} hosts: make it a multiple")

    def remote_command(self, host: str, command: list[str]) -> list[str]:
        """The command line that runs ``command`` on another host."""
        return [*shlex.split(self.remote_shell), host, shlex.join(command)]


def read_hostfile(path: Path) -> dict[str, int]:
    """Processes by host, in the file's order. Raises UserError for a line that is not ``HOST slots=N``."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise UserError(f"hosts.hostfile {path}: {error.strerror}") from error
    found: dict[str, int] = {}
    for number, line in enumerate(lines, 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        slots = words[1].removeprefix("slots=") if len(words) == 2 else ""
        if not slots.isdigit() or int(slots) < 1:
            raise UserError(f"{path}:{number}: {line.strip()!r} is not of the form 'HOST slots=PROCESSES'")
        if words[0] in found:
            raise UserError(f"{path}:{number}: host {words[0]} is there twice: add its slots up in one line")
        found[words[0]] = int(slots)
    if len(found) < 2:
        raise UserError(f"{path}: {len(found)} hosts: leave resources.hosts out to train on one")
    return found
