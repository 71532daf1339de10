"""One training process: ``python -m model.worker REQUEST.json``, started by torchrun (``model.launching.launch``)."""

from __future__ import annotations

import os
import sys
from functools import partial
from pathlib import Path
from typing import NoReturn

import torch

from model.launching import parent
from model.launching.failures import give_up, leave_failure
from model.launching.group import join_process_group
from model.launching.interface import use_interface
from model.launching.pulse import Pulse
from model.request import Request


def main(path: Path) -> None:
    """Train as the request in ``path`` says; a failure is left for the launcher to read."""
    parent.hold_on()
    request = Request.model_validate_json(path.read_text(encoding="utf-8"))
    try:
        with Pulse(request.run.hosts, partial(give_up, request.run.scratch)):
            work(request)
    except Exception as error:  # noqa: BLE001  # told by class and message to the launcher, whatever it is
        leave_failure(request.run.scratch, error)
        os._exit(1)  # at once: a process group that lost a member can hang at exit
    leave()


def leave() -> NoReturn:
    """End this process well, without taking Python apart.

    The threads of gloo outlive their group where anything still refers to it. One that is about to let go of a tensor
    when Python ends would end the process by SIGABRT: it can no longer be given the interpreter's lock.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def work(request: Request) -> None:
    """Join the run's other processes, and train."""
    use_interface(request.run.hosts)
    device = join_process_group(request.run.device)
    from model.training import train_here  # and with it DeepSpeed, which has been told by now what it runs on

    train_here(request, device)
    if request.run.hosts is None or request.run.hosts.launcher != "ray":  # whose process group is its own
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
