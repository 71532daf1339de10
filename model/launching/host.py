"""The training processes of one host: ``python -m model.launching.host REQUEST.json --number N`` becomes its torchrun.

The first host's torchrun is started by ``model.launching.processes`` directly. Imports no torch.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import platform
import sys
from pathlib import Path

from model.launching import parent
from model.launching.hosts import read_hostfile
from model.request import Request, Run
from storage.errors import UserError

PLUMBING = "who starts the processes cannot shape their result"

_KEPT_MEMORY = {
    "MALLOC_MMAP_THRESHOLD_": str(1 << 32),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 32),
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
}
"""glibc (mallopt(3)): buffers freed in one training step serve the next. As it comes, each of more than 32 MB is new
memory from the kernel, which clears it page by page: some hundred thousand page faults a step. And they lie in huge
pages where the kernel gives them to those who ask: products of matrices read across thousands of rows, each in a page
of its own. Measured on one core (width 384, six layers, 16 rows of 256): 5 % less time for a step."""

CODE = str(Path(__file__).resolve().parents[2])
"""The folder that the project's packages lie in."""
RENDEZVOUS = "rendezvous"
"""In the scratch: the file by which the processes of one host find each other."""


def torchrun(described: Path, run: Run, number: int) -> list[str]:
    """The command that starts the processes of host ``number`` (the first is 0)."""
    # c10d's rendezvous unpickles what it finds in its store: on one host that is a file, which nobody else writes to;
    # between hosts the static one is used, which has no more to say than who is who.
    here, count = shares(run)[number], len(shares(run))
    if run.hosts is None:
        place = ["--rdzv-backend", "c10d", "--rdzv-conf", "store_type=file", "--local-addr", "127.0.0.1"]
        place += ["--rdzv-endpoint", str(run.scratch / RENDEZVOUS)]
    else:
        endpoint = f"{address(run)}:{run.hosts.port}"
        place = ["--rdzv-backend", "static", "--rdzv-endpoint", endpoint, "--node-rank", str(number)]
        place += ["--rdzv-id", run.scratch.parent.name, "--rdzv-conf", f"timeout={run.hosts.join_seconds}"]
    return [
        *(sys.executable, "-m", "torch.distributed.run", "--nnodes", str(count), "--nproc-per-node", str(here)),
        *place,
        *("-m", "model.worker", str(described)),
    ]


def environment(run: Run, number: int) -> dict[str, str]:
    """Variables for the processes of host ``number``, beside those that are set already."""
    threads = os.environ.get("OMP_NUM_THREADS") or str(max(1, _processors() // shares(run)[number]))
    found = everywhere(run) | {
        "OMP_NUM_THREADS": threads,
        "PYTHONPATH": os.pathsep.join([CODE, os.environ.get("PYTHONPATH", "")]),
    }
    if run.hosts is None and sys.platform == "linux":
        # A host whose own name cannot be resolved is common.
        found["GLOO_SOCKET_IFNAME"] = os.environ.get("GLOO_SOCKET_IFNAME", "lo")
    return found


def everywhere(run: Run) -> dict[str, str]:
    """Variables for every training process, whoever starts it."""
    # Importing the compiler takes 2 s, so it is left out where it can be.
    found = {"TORCHDYNAMO_DISABLE": "0" if run.compile else "1", "TOKENIZERS_PARALLELISM": "false"}
    if run.compile:
        # One after the other: processes that compile would outlive a killed one, and hold what it has locked.
        folder = (run.compiled or run.scratch / "compiled") / _kind_of_processor()
        found |= {"TORCHINDUCTOR_COMPILE_THREADS": "1", "TORCHINDUCTOR_CACHE_DIR": str(folder)}
    if run.device != "cuda":
        found |= {name: value for name, value in _KEPT_MEMORY.items() if name not in os.environ}
    return found


def shares(run: Run) -> list[int]:
    """Processes of each host. Raises UserError where the hosts and ``processes`` do not fit."""
    hosts = run.hosts
    if hosts is None:
        return [run.processes]
    if hosts.hostfile is not None:
        slots = list(read_hostfile(hosts.hostfile).values())
        if sum(slots) != run.processes:
            raise UserError(f"{hosts.hostfile} has {sum(slots)} slots, and resources have processes {run.processes}")
        return slots
    count = hosts.count if hosts.launcher == "join" else int(os.environ.get("SLURM_NNODES", "0"))
    if not count:
        raise UserError("resources.hosts: launcher slurm needs an allocation: start athanor inside sbatch or salloc")
    if run.processes % count:
        raise UserError(f"processes {run.processes} cannot be shared evenly by {count} hosts: make it a multiple")
    return [run.processes // count] * count


def address(run: Run) -> str:
    """Where the other hosts reach the first."""
    assert run.hosts is not None
    if run.hosts.address is not None:
        return run.hosts.address
    if run.hosts.hostfile is not None:
        return next(iter(read_hostfile(run.hosts.hostfile)))
    # A Slurm list of nodes: "node[01-04,07]" or "node01,node02"; the batch script runs on its first node.
    return os.environ["SLURMD_NODENAME"]


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _kind_of_processor() -> str:
    """A name for what its compiled code can rely on: hosts that share a folder may differ in it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    told = next((line for line in lines if line.lower().startswith(("flags", "features"))), platform.processor())
    return f"{platform.machine()}-{hashlib.sha256(told.encode()).hexdigest()[:12]}"


def main() -> None:
    """Become torchrun, on a host that is not the launcher's own (or, under Slurm, on any)."""
    options = argparse.ArgumentParser()
    options.add_argument("request", type=Path)
    options.add_argument("--number", type=int, default=os.environ.get("SLURM_NODEID"))
    given = options.parse_args()
    run = Request.model_validate_json(given.request.read_text(encoding="utf-8")).run
    values = {**os.environ, **environment(run, given.number)}
    if given.number != 0:
        values.pop(parent.ADDRESS, None)  # the launcher's socket is on the first host alone
    command = torchrun(given.request, run, given.number)
    os.execve(command[0], command, values)  # noqa: S606  # nothing here passes through a shell


if __name__ == "__main__":
    main()
