"""Memory of a training process under each way to spread a network, beside what is foretold.

Two processes on the CPU, made anew for each way, and looked at by what the system says they hold.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.measure import Table
from benchmarks.training.progress import Progress
from model.config import ModelConfig
from model.learning.optimizer_config import OptimizerConfig
from model.planning.estimate import estimate
from tasks.task import Resources

SHAPE = ModelConfig(layers=8, width=512, heads=8, context=256)
VOCABULARY, SEQUENCES, STEPS = 8_192, 4, 2
PARTS = ("weights", "gradients", "optimizer", "activations", "host")
WAYS: dict[str, dict[str, Any]] = {
    "ZeRO 0": {"zero_stage": 0},
    "ZeRO 1": {"zero_stage": 1},
    "ZeRO 2": {"zero_stage": 2},
    "ZeRO 3": {"zero_stage": 3},
    "ZeRO 1, offload: cpu": {"zero_stage": 1, "offload": "cpu"},
    "ZeRO 1, offload: nvme": {"zero_stage": 1, "offload": "nvme"},
    "ZeRO 1, recompute": {"zero_stage": 1, "recompute": True},
    "ZeRO 1, sequence_processes: 2": {"zero_stage": 1, "sequence_processes": 2},
    "ZeRO 1, tensor_processes: 2": {"zero_stage": 1, "tensor_processes": 2},
    "ZeRO 1, pipeline_processes: 2": {"zero_stage": 1, "pipeline_processes": 2},
}


def measure() -> list[Table]:
    """Peak of resident memory from before the network is made to the end of the second step."""
    measured, progress = {}, Progress("memory", len(WAYS))
    for name, way in WAYS.items():
        measured[name] = _measured(way)
        progress.did(f"{name}, {measured[name] / 1e6:,.0f} MB")
    rows = []
    for name, way in WAYS.items():
        resources = Resources(processes=2, micro_batch_sequences=SEQUENCES, **way)
        memory = estimate(SHAPE, VOCABULARY, 1, "fp32", OptimizerConfig(), resources).memory
        foretold = sum(size for part, size in memory.items() if part != "disk")
        parts = [f"{memory.get(part, 0.0) / 1e6:.0f}" for part in PARTS]
        error = f"{foretold / measured[name] - 1:+.0%}"
        rows.append((name, *parts, f"{foretold / 1e6:.0f}", f"{measured[name] / 1e6:.0f}", error))
    weights = SHAPE.parameters(VOCABULARY) / 1e6
    notes = [
        f"{weights:.1f} M weights in float32, AdamW, 2 processes on the CPU, {SEQUENCES} sequences of {SHAPE.context} "
        f"tokens a process and micro-batch, two micro-batches a step, vocabulary {VOCABULARY:,}. Measured: the peak of "
        "resident memory of the process that needs most, less what it held before the network was made. With offload "
        "on a CPU, host and device are the same memory."
    ]
    return [Table("Memory of a training process (MB)", ("way", *PARTS, "foretold", "measured", "error"), rows, notes)]


def _measured(way: dict[str, Any]) -> float:
    """Bytes, in processes of their own, so that nothing is left of another way."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "measured"
        command = [
            *(sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--rdzv-backend", "c10d"),
            *("--rdzv-endpoint", "127.0.0.1:0", "--local-addr", "127.0.0.1", "-m", "benchmarks.training.memory"),
            *(json.dumps(way), str(output)),
        ]
        # Given back at once, memory that is freed for good is not counted in what comes later.
        values = {"MALLOC_MMAP_THRESHOLD_": "65536", "OMP_NUM_THREADS": "1", "TORCHDYNAMO_DISABLE": "1"}
        subprocess.run(command, check=True, env={**os.environ, **values}, stdout=sys.stderr)
        return float(output.read_text(encoding="utf-8"))


def main(way: dict[str, Any], output: Path) -> None:
    """One of the processes."""
    import torch
    import torch.distributed as dist

    from model.data.batches import Batch
    from model.engine import Engine
    from model.launching.group import join_process_group
    from model.learning.objective_config import NextTokenConfig
    from model.learning.objectives import NextToken
    from model.learning.optimizers import make_optimizer
    from model.network.transformer import Transformer
    from model.parallel.grid import Grid
    from model.parallel.pipeline import keep_stage

    join_process_group("cpu")
    before = _status("VmRSS")
    network = Transformer(SHAPE, VOCABULARY)
    axes = ("pipeline", "sequence", "tensor")
    grid = Grid(**{axis: way.pop(f"{axis}_processes", 1) for axis in axes})
    if grid.pipeline.size > 1:
        keep_stage(network, grid.pipeline)
    optimizer = make_optimizer(network, OptimizerConfig(), SEQUENCES * SHAPE.context)
    disk = output.parent / "disk"
    engine = Engine(network, optimizer, way.pop("zero_stage"), "fp32", 1.0, grid=grid, offload_folder=disk, **way)
    del network
    positions = torch.arange(SHAPE.context).expand(SEQUENCES, -1)
    tokens = positions % VOCABULARY
    nothing = torch.zeros_like(tokens)
    batch = Batch(tokens, tokens, nothing, positions, torch.arange(SEQUENCES), torch.full((SEQUENCES,), -100))
    for _ in range(STEPS):
        # The gradients of the first are there while the second's activations are.
        engine.step([batch, batch], NextToken(NextTokenConfig()), 1e-3)
    needed = torch.tensor(_status("VmHWM") - before, dtype=torch.float64)
    dist.all_reduce(needed, dist.ReduceOp.MAX)
    if dist.get_rank() == 0:
        output.write_text(str(float(needed)))
    dist.barrier()
    dist.destroy_process_group()  # its threads could otherwise end the process in an error


def _status(field: str) -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return float(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/self/status has no {field}")


if __name__ == "__main__":
    main(json.loads(sys.argv[1]), Path(sys.argv[2]))
