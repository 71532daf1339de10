"""Modules of the tests that real training processes run together, and what they found."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


def found_by(module: str, processes: int, folder: Path, *arguments: str, **variables: str) -> dict[str, Any]:
    """What the module wrote to the file that is its last argument, run by so many processes of one thread each.

    ``variables`` go to their environment.
    """
    output = folder / "found.json"
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(processes)),
        *("--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0", "--local-addr", "127.0.0.1"),
        *("-m", "tests.model.launched", module, *arguments, str(output)),
    ]
    quiet = {"OMP_NUM_THREADS": "1", "TORCHDYNAMO_DISABLE": "1", "PYTHONPATH": str(ROOT)}
    environment = os.environ | quiet | variables
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=3600, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(output.read_text())
    return found


if __name__ == "__main__":
    from model.worker import leave

    module = sys.argv.pop(1)
    runpy.run_module(module, run_name="__main__", alter_sys=True)
    leave()
