"""Utilisation of the GPUs of this machine, at the sizes that others publish: ``make bench-train PARTS=gpu``.

Each size is trained for some steps in a process for each GPU, on made-up tokens, one document a row, so
that nothing but the network, the optimiser and ZeRO is measured.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.corpora import DataMissing
from benchmarks.measure import Table, versions
from model.config import ModelConfig, Precision
from model.network import float8
from model.network.transformer import IGNORED
from model.planning.estimate import gpu_of

VOCABULARY = 50_304
_WARM = 3
"""Steps at the beginning that are not counted."""
_LORA_RANK = 16
_COLUMNS = [
    *("network", "weights", "sequences a step and GPU", "tokens/s", "operations/s and GPU", "of the maker's peak"),
    *("of a large product here", "peak memory"),
]


@dataclass(frozen=True)
class Case:
    """One row: what is trained, and how many sequences at a time to try first; half as many, where they do not fit."""

    shape: ModelConfig
    sequences: int
    lora: bool = False
    precision: Precision | None = None
    """Another than is asked for."""


def _shape(layers: int, width: int, heads: int) -> ModelConfig:
    return ModelConfig(layers=layers, width=width, heads=heads, context=2048)


# Layers, widths and heads of GPT-2 and GPT-3 (Brown et al. 2020, table 2.1).
CASES = {
    "124 M": Case(_shape(12, 768, 12), 32),
    "350 M": Case(_shape(24, 1024, 16), 32),
    "760 M": Case(_shape(24, 1536, 16), 16),
    "1.3 B": Case(_shape(24, 2048, 16), 16),
    "1.3 B, fp8": Case(_shape(24, 2048, 16), 16, precision="fp8"),
    "1.3 B, LoRA": Case(_shape(24, 2048, 16), 16, lora=True),
}


def measure(
    cases: Mapping[str, Case] = CASES, *, device: str = "cuda", precision: Precision = "bf16", steps: int = 10,
) -> list[Table]:  # fmt: skip
    """Every size in turn. Raises DataMissing where there is no GPU."""
    if device == "cuda" and not torch.cuda.is_available():
        raise DataMissing("there is no GPU here that torch can use")
    count = torch.cuda.device_count() if device == "cuda" else 1
    hardware = torch.cuda.get_device_name(0) if device == "cuda" else "the CPU"
    known = gpu_of(hardware)
    peak = None if known is None else known.half
    found = {name: _measured(case, count, device, precision, steps) for name, case in cases.items()}
    rows = [_row(name, cases[name], one, peak, count) for name, one in found.items()]
    note = (
        f"{count} × {hardware}, {precision}, ZeRO 1, AdamW, context {next(iter(cases.values())).shape.context:,}, "
        f"vocabulary {VOCABULARY:,}, the median of {steps} steps after {_WARM}; {versions('torch', 'deepspeed')}. "
        "Operations: 6 × matrices + attention (its causal half, where others count it whole) for each token; LoRA "
        f"(rank {_LORA_RANK}, on attention's matrices) needs no gradients of the network's own weights: two thirds. "
        "Rows of one document each: attention needs no mask. fp8: its shares are of the peak and the product in bf16."
    )
    return [Table(f"Training on {hardware}", _COLUMNS, rows, [note])]


def _row(name: str, case: Case, found: Mapping[str, float], peak: float | None, count: int) -> list[str]:
    weights = f"{case.shape.parameters(VOCABULARY) / 1e6:,.0f} M"
    if "tokens_per_second" not in found:
        why = "cannot run here" if "failed" in found else "does not fit"
        return [name, weights, f"{found['sequences']:.0f}", why, *[""] * 4]
    operations = case.shape.flops_per_token(VOCABULARY) * (2 / 3 if case.lora else 1)
    achieved = operations * found["tokens_per_second"] / count
    return [
        *(name, weights, f"{found['sequences']:.0f}"),
        *(f"{found['tokens_per_second']:,.0f}", f"{achieved / 1e12:.3g} T"),
        *(f"{100 * achieved / peak:.1f} %" if peak else "unknown", f"{100 * achieved / found['product']:.1f} %"),
        f"{found['memory'] / 1e9:.1f} GB",
    ]


def _measured(case: Case, count: int, device: str, precision: Precision, steps: int) -> dict[str, float]:
    """In processes of their own, with half as many sequences at a time until they fit; without figures if none does.

    One that fails otherwise says so, and leaves the other sizes be.
    """
    sequences = case.sequences
    while True:
        with tempfile.TemporaryDirectory(prefix="athanor-gpu-") as folder:
            output = Path(folder) / "found.json"
            asked = {
                **{"shape": case.shape.model_dump(exclude_defaults=True), "sequences": sequences, "lora": case.lora},
                **{"device": device, "precision": case.precision or precision, "steps": steps, "output": str(output)},
            }
            command = [
                *(sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(count)),
                *("--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0", "--local-addr", "127.0.0.1"),
                *("-m", "benchmarks.training.gpu", json.dumps(asked)),
            ]
            done = subprocess.run(command, env={**os.environ, "TORCHDYNAMO_DISABLE": "1"}, stdout=sys.stderr)
            if not output.exists():
                sys.stderr.write(f"training {asked} ended with status {done.returncode}\n")  # it has said why before
                return {"failed": 1.0, "sequences": sequences}
            found: dict[str, float] = json.loads(output.read_text(encoding="utf-8"))
        if found or sequences == 1:
            return {**found, "sequences": sequences}
        sequences //= 2


def main(asked: dict[str, Any]) -> None:
    """One of the processes; the first writes what was measured, or nothing where the memory is too small."""
    import torch.distributed as dist

    from model.launching.group import join_process_group

    device = join_process_group(asked["device"])
    try:
        found = _train(asked, device)
    except RuntimeError as error:  # as torch.cuda.OutOfMemoryError is; NCCL and cuBLAS tell it in words alone
        if not any(word in str(error) for word in ("out of memory", "ALLOC_FAILED")):
            raise
        found = {}
    if dist.get_rank() == 0 or not found:
        Path(asked["output"]).write_text(json.dumps(found), encoding="utf-8")
    if not found:
        os._exit(1)  # torchrun ends the others, which may wait for this one


def _train(asked: dict[str, Any], device: torch.device) -> dict[str, float]:
    from model.data.batches import Batch
    from model.engine import Engine
    from model.learning.objective_config import NextTokenConfig
    from model.learning.objectives import NextToken
    from model.learning.optimizer_config import OptimizerConfig
    from model.learning.optimizers import make_optimizer
    from model.loop import measured_peak, memory_bytes
    from model.network import lora
    from model.network.transformer import Transformer

    shape, rows = ModelConfig.model_validate(asked["shape"]), asked["sequences"]
    dtype = {"fp32": torch.float32, "fp16": torch.float16}.get(asked["precision"], torch.bfloat16)
    if asked["precision"] == "fp8":
        float8.check_device(device)
    product = measured_peak(device, dtype)
    network = Transformer(shape, VOCABULARY)
    network.initialise(1)
    if asked["lora"]:
        lora.inject(network, _LORA_RANK, 2.0 * _LORA_RANK, ("q_proj", "k_proj", "v_proj", "o_proj"), 1)
    optimizer = make_optimizer(network, OptimizerConfig(), rows * shape.context)
    engine = Engine(network, optimizer, 1, asked["precision"], 1.0)
    torch.manual_seed(engine.rank)
    positions_BT = torch.arange(shape.context).expand(rows, -1)
    seconds = []
    for _ in range(_WARM + asked["steps"]):
        tokens_BT = torch.randint(VOCABULARY, (rows, shape.context))
        documents_BT = torch.zeros_like(tokens_BT)
        targets_BT = tokens_BT.roll(-1, 1)
        targets_BT[:, -1] = IGNORED
        batch = Batch(
            tokens_BT, targets_BT, documents_BT, positions_BT, torch.arange(rows), torch.full((rows,), IGNORED)
        )
        began = time.perf_counter()
        engine.step([batch], NextToken(NextTokenConfig()), 1e-4)  # it ends with figures read from the device
        seconds.append(time.perf_counter() - began)
    tokens = rows * shape.context * engine.processes
    speed = tokens / statistics.median(seconds[_WARM:])
    return {"tokens_per_second": speed, "product": product, "memory": memory_bytes(device)}


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
