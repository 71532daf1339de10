"""Training runs one after the other in a single process: starting one takes longer than a small run."""

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
_ALONE = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "OMP_NUM_THREADS": "1", "TORCHDYNAMO_DISABLE": "1"}


def run_one_after_the_other(requests: Sequence[Request], folder: Path, set_back: Collection[int] = ()) -> list[str]:
    """Train each request; what each one failed with (class and message), empty where it did not.

    ``set_back``: numbers of requests that go on from what the one before them left, as if it had been killed after
    its last checkpoint but one.
    """
    place = Path(tempfile.mkdtemp(dir=folder))
    asked, told = place / "asked.json", place / "told.json"
    described = [(request.model_dump_json(), number in set_back) for number, request in enumerate(requests)]
    asked.write_text(json.dumps(described))
    command = [sys.executable, "-m", "tests.model.several", str(asked), str(told)]
    environment = {**os.environ, **_ALONE, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-3000:]
    found: list[str] = json.loads(told.read_text())
    return found


def main(asked: Path, told: Path) -> None:
    import torch.distributed

    from model.worker import join_process_group, train_here

    torch.distributed.init_process_group("gloo", f"file://{asked}.meeting", rank=0, world_size=1)
    device = join_process_group("cpu")
    failures = []
    for described, is_set_back in json.loads(asked.read_text()):
        try:
            request = Request.model_validate_json(described)
            request.run.scratch.mkdir(parents=True, exist_ok=True)
            if is_set_back:
                shutil.rmtree(max((request.run.scratch / "checkpoints").iterdir()))
            train_here(request, device)
            failures.append("")
        except Exception as error:  # noqa: BLE001  # the test looks at it
            failures.append(f"{type(error).__name__}: {error}")
    told.write_text(json.dumps(failures))
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
