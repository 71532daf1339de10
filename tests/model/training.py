"""Small training runs for tests: made shards, a request for them, and a driver that can be killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from model.config import ModelConfig
from model.learning.optimizer_config import OptimizerConfig
from model.request import Opened, RandomNetwork, Request, Run, ShardsData, ShardsPart, SpecialTokens
from storage.shards import Shards, write_shard

ROOT = Path(__file__).resolve().parents[2]
VOCABULARY = 64


def made_shards(folder: Path, documents: int = 60, seed: int = 0) -> Shards:
    """Documents of very different lengths in which a token often follows from the one before."""
    random = np.random.default_rng(seed)
    for split, count in (("train", documents), ("validation", documents // 6)):
        arrays = []
        for _ in range(count):
            steps = random.choice([1, 1, 1, 5], int(random.integers(1, 120)))
            arrays.append(np.concatenate([[1], 4 + np.cumsum(steps) % (VOCABULARY - 4), [2]]))
        ids = [f"{split}-{index}" for index in range(count)]
        write_shard(folder / f"{split}-00000.arrow", ids, arrays, [len(array) for array in arrays], "uint16")
    return Shards.of_folder(folder)


def request(folder: Path, shards: Shards, **changes: Any) -> Request:
    """Two processes, ZeRO 2, five sequences a step (which two processes cannot share evenly)."""
    (folder / "output").mkdir(parents=True, exist_ok=True)
    run = {
        "processes": 2,
        "zero_stage": 2,
        "micro_batch_sequences": 2,
        "scratch": folder / "scratch",
        "metrics_file": folder / "scratch" / "metrics.jsonl",
        "output": folder / "output",
        "checkpoint_seconds": 0.0,
        "evaluations": 3,
        **changes.pop("run", {}),
    }
    values = {
        "network": RandomNetwork(
            shape=ModelConfig(layers=2, width=32, heads=4, kv_heads=2, context=16), vocabulary=VOCABULARY
        ),
        "data": ShardsData(parts=(ShardsPart(shards=Opened.of(shards), weight=1.0),)),
        "context": 16,
        "batch_tokens": 80,
        "tokens": 80 * 30,
        "optimizer": OptimizerConfig(
            name="muon", learning_rate=1e-2, warmup_tokens=800, skip_spikes=1.15, average_tokens=400
        ),
        "special_tokens": SpecialTokens(bos=1, eos=2, pad=3),
        "seed": 5,
        **changes,
    }
    return Request(run=Run(**run), **values)


def drive(described: Request, folder: Path, locked: Path, variables: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """A process that holds a lock and trains, so that it can be killed. ``variables`` go to its environment."""
    path = folder / "driven.json"
    path.write_text(described.model_dump_json())
    return subprocess.Popen(
        [sys.executable, "-m", "tests.model.training", str(path), str(locked)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **variables},
        start_new_session=True,
    )


def ranks(folder: Path) -> list[int]:
    """Process ids of all that works on the request in this folder, the driver left out."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes().decode()
            except OSError:
                continue
            if str(folder / "scratch" / "request.json") in command:
                found.append(int(entry.name))
    return found


def until(condition: Callable[[], bool], seconds: float, what: str) -> None:
    """Wait for something that must happen."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited {seconds} s in vain for: {what}"
        time.sleep(0.02)


def kill_all(pids: list[int]) -> None:
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def main(path: Path, locked: Path) -> None:
    from model.launching.launch import train
    from storage.locks import locked as lock
    from tasks.context import silent

    with lock(locked) as descriptor:
        train(Request.model_validate_json(path.read_text()), silent, (descriptor,))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
