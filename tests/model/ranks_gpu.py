"""Run by ``test_gpu.py``, a process for each GPU (two at most): what GPUs compute, against plain PyTorch on the CPU."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from model.launching.group import join_process_group
from model.network.attention import visibility
from model.network.sight import PADDING, Rule
from tests.model.ranks_loss_scale import after_an_overflow
from tests.model.ranks_zero import (
    OPTIMIZER,
    SAVED,
    engine,
    numbers_of_layers,
    reference,
    same,
    saved,
    train,
    whole_state,
)

EIGHT = torch.cuda.is_available() and torch.cuda.get_device_capability() >= (8, 9)
PRECISIONS = ("fp32", "bf16", "fp16", "fp8") if EIGHT else ("fp32", "bf16", "fp16")


def curve(losses: list[float], *spread: Any, **more: Any) -> dict[str, float]:
    """How far the first losses are from those of the reference, and how much was learnt."""
    mine = train(engine(*spread, **more), 0, SAVED)
    return {
        "curve_error": max(abs(a - b) for a, b in zip(mine, losses, strict=True)),
        "improvement": mine[0] - mine[-1],
    }


def resumed(folder: Path) -> float:
    """Whether a state that was kept by a GPU is the same when it is taken back, page-locked copies and all."""
    built = engine(3)
    train(built, 0, SAVED)
    state = whole_state(built)
    return float(same(whole_state(engine(3, saved(built, folder))), state))


def attention_error(device: torch.device, dtype: torch.dtype) -> float:
    """Largest difference of any form of attention and its gradients from float64 on the CPU, by the largest value."""
    generator, worst = torch.Generator().manual_seed(3), 0.0
    documents_BT = torch.tensor([[0] * 256, [0] * 100 + [1] * 120 + [PADDING] * 36])
    positions_BT = torch.cat([torch.arange(256)[None], torch.cat([torch.arange(n) for n in (100, 120, 36)])[None]])
    inputs = [torch.randn(2, 4, 256, 64, generator=generator, dtype=torch.float64) for _ in range(3)]
    real = (documents_BT != PADDING)[:, None, :, None]
    for rule in (Rule(), Rule(causal=False), Rule(window=40, global_tokens=4)):
        for rows in (slice(0, 1), slice(1, 2), slice(0, 2)):
            found = []
            for place, kind in ((torch.device("cpu"), torch.float64), (device, dtype)):
                seen = visibility(rule, 256, 0, positions_BT[rows].to(place), documents_BT[rows].to(place), place)
                given = [x[rows].to(place, kind).requires_grad_() for x in inputs]
                out = seen.attend(*given, None)
                (out * real[rows].to(place)).sum().backward()
                slopes = [x.grad.double().cpu() for x in given if x.grad is not None]
                found.append([out.detach().double().cpu() * real[rows], *slopes])
            worst = max(
                worst, *(float((a - b).abs().max() / a.abs().max().clamp(1)) for a, b in zip(*found, strict=True))
            )
    return worst


def main(device_name: str, output: Path) -> None:
    device = join_process_group(device_name)
    _, losses = reference(SAVED, OPTIMIZER)
    found: dict[str, Any] = {}
    for stage in (1, 2, 3):
        for precision in PRECISIONS:
            found[f"{precision} {stage}"] = curve(losses, stage, None, precision)
        found[f"offload {stage}"] = curve(losses, stage, None, "bf16", offload="cpu")
        folder = output.parent / "disk"
        found[f"nvme {stage}"] = curve(losses, stage, None, "bf16", offload="nvme", offload_folder=folder)
        found[f"overflow {stage}"] = after_an_overflow(stage)
        found[f"numbers {stage}"] = {p: numbers_of_layers(stage, p, device.type) for p in PRECISIONS if p != "fp8"}
    found["resumed"] = resumed(output.parent / "kept")
    found["attention"] = {name: attention_error(device, getattr(torch, name)) for name in ("float32", "bfloat16")}
    if dist.get_rank() == 0:
        output.write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
