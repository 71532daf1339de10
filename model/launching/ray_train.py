"""A training run as a job of Ray Train: ``python -m model.launching.ray_train REQUEST.json``.

Ray places the processes on the nodes of its cluster, makes the process group, and notices nodes
that are lost; each process then does what a process of torchrun does.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from model.launching import parent
from model.launching.host import CODE, everywhere
from model.request import Request, Run
from storage.errors import UserError

PLUMBING = "who starts the processes cannot shape their result"


def main(path: Path) -> None:
    """Run the request on the cluster; a failure is left for the launcher to read."""
    from model.launching.failures import leave_failure

    parent.hold_on()
    run = Request.model_validate_json(path.read_text(encoding="utf-8")).run
    try:
        _fit(path, run)
    except Exception as error:  # noqa: BLE001  # told by class and message to the launcher, whatever it is
        leave_failure(run.scratch, error)
        os._exit(1)  # at once: Ray's threads may wait for nodes that are gone


def _fit(path: Path, run: Run) -> None:
    try:
        import ray
        from ray.train import RunConfig, ScalingConfig
        from ray.train.torch import TorchConfig, TorchTrainer
    except ImportError as error:
        raise UserError(f"resources.hosts: launcher ray needs {error.name}: pip install 'athanor[ray]'") from error

    hosts = run.hosts
    assert hosts is not None
    variables = everywhere(run) | {"PYTHONPATH": CODE}
    if hosts.interface is not None:
        variables |= {"GLOO_SOCKET_IFNAME": hosts.interface, "NCCL_SOCKET_IFNAME": hosts.interface}
    # With no address Ray would join any cluster that runs on this machine, whoever's it is.
    address = hosts.address or os.environ.get("RAY_ADDRESS") or "local"
    options: dict[str, Any] = {"num_cpus": run.processes} if address == "local" else {}
    ray.init(address=address, runtime_env={"env_vars": variables}, **options)
    gpus = ray.cluster_resources().get("GPU", 0)  # type: ignore[no-untyped-call]
    on_gpus = run.device == "cuda" or (run.device == "auto" and gpus >= run.processes)
    TorchTrainer(
        _process,
        train_loop_config={"request": str(path), "device": "cuda" if on_gpus else "cpu"},
        scaling_config=ScalingConfig(num_workers=run.processes, use_gpu=on_gpus, placement_strategy="SPREAD"),
        torch_config=TorchConfig(backend="nccl" if on_gpus else "gloo"),
        run_config=RunConfig(name="ray", storage_path=str(run.scratch)),
    ).fit()
    ray.shutdown()


def _process(config: dict[str, str]) -> None:
    """One training process, on some node of the cluster."""
    from model.launching.failures import leave_failure
    from model.worker import work

    request = Request.model_validate_json(Path(config["request"]).read_text(encoding="utf-8"))
    run = request.run.model_copy(update={"device": config["device"]})
    try:
        work(request.model_copy(update={"run": run}))
    except Exception as error:
        leave_failure(run.scratch, error)
        raise


if __name__ == "__main__":
    main(Path(sys.argv[1]))
