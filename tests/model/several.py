"""Training runs one after the other in the same processes: starting them takes longer than a small run."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Collection, Sequence
from pathlib import Path

from model.request import Request

ROOT = Path(__file__).resolve().parents[2]
_QUIET = {"OMP_NUM_THREADS": "1", "TORCHDYNAMO_DISABLE": "1", "PYTHONPATH": str(ROOT)}


def run_one_after_the_other(
    requests: Sequence[Request], folder: Path, set_back: Collection[int] = (), processes: int = 1
) -> list[str]:
    """Train each request; what each one failed with (class and message), empty where it did not.

    ``set_back``: numbers of requests that go on from what the one before them left, as if it had been killed after
    its last checkpoint but one. Of several ``processes``, all must fail with the same, or with nothing.
    """
    place = Path(tempfile.mkdtemp(dir=folder))
    asked, told = place / "asked.json", place / "told.json"
    described = [(request.model_dump_json(), number in set_back) for number, request in enumerate(requests)]
    asked.write_text(json.dumps(described))
    command = [sys.executable, "-m", "tests.model.several", str(asked), str(told)]
    started = []
    for rank in range(processes):
        place_of = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(processes)}
        with (place / f"log-{rank}").open("wb") as log:
            environment = {**os.environ, **_QUIET, **place_of}
            started.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=ROOT))
    try:
        for rank, process in enumerate(started):
            status = process.wait(timeout=600)
            assert status == 0, (place / f"log-{rank}").read_text()[-3000:]
    finally:
        for process in started:
            process.kill()
    found: list[str] = json.loads(told.read_text())
    return found


def main(asked: Path, told: Path) -> None:
    import torch.distributed as dist

    from model.launching.group import join_process_group

    rank, processes = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    dist.init_process_group("gloo", f"file://{asked}.meeting", rank=rank, world_size=processes)
    device = join_process_group("cpu")
    from model.training import train_here

    failures = []
    for described, is_set_back in json.loads(asked.read_text()):
        try:
            request = Request.model_validate_json(described)
            request.run.scratch.mkdir(parents=True, exist_ok=True)
            if is_set_back and rank == 0:
                shutil.rmtree(max((request.run.scratch / "checkpoints").iterdir()))
            dist.barrier()
            train_here(request, device)
            failures.append("")
        except Exception as error:  # noqa: BLE001  # the test looks at it
            failures.append(f"{type(error).__name__}: {error}")
    of_all: list[list[str]] = [[]] * processes
    dist.all_gather_object(of_all, failures)
    if rank == 0:
        told.write_text(json.dumps([" / ".join(sorted(set(same))) for same in zip(*of_all, strict=True)]))
    dist.destroy_process_group()


if __name__ == "__main__":
    from model.worker import leave

    main(Path(sys.argv[1]), Path(sys.argv[2]))
    leave()
