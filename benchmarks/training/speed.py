"""Tokens a second beside nanoGPT and Hugging Face's Trainer, at equal parameters and batch."""

from __future__ import annotations

import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.measure import Table, ratio, versions
from benchmarks.training import nano_gpt, ours
from benchmarks.training.progress import Progress
from benchmarks.training.texts import TokenFiles, war_and_peace
from model.config import ModelConfig
from model.learning.optimizer_config import OptimizerConfig
from model.planning.estimate import estimate
from storage.shards import Shards
from tasks.task import Resources

VOCABULARY = 8192
SHAPE = ModelConfig(layers=6, width=384, heads=6, context=256)
SEQUENCES = 16
STEPS = 11
ROUNDS = 3
_WARM = 3
"""Steps at the beginning that are not counted."""


def measure() -> list[Table]:
    """Every trainer in turn, three times, each in processes of its own."""
    threads = len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory(prefix="athanor-speed-") as folder:
        data, work = war_and_peace(Path(folder) / "text", VOCABULARY), Path(folder) / "work"
        shards = ours.imported(data, Path(folder) / "shards")
        trainers: dict[str, Callable[[Path, int], float]] = {
            "nanoGPT, eager": lambda place, _: _nano_gpt(data, place, threads),
            "Hugging Face Trainer": lambda place, _: _hf_trainer(data, place, threads),
            "Athanor, ZeRO 1, one process": lambda place, seed: _ours(shards, place, seed, 1),
            f"Athanor, ZeRO 1, {threads} processes": lambda place, seed: _ours(shards, place, seed, threads),
            "Athanor, ZeRO 1, one process, compiled": lambda place, seed: _ours(shards, place, seed, 1, True),
            f"Athanor, ZeRO 1, {threads} processes, compiled": lambda place, seed: _ours(
                shards, place, seed, threads, True
            ),
        }
        speeds: dict[str, list[float]] = {name: [] for name in trainers}
        ceilings = []
        progress = Progress("speed", ROUNDS * len(trainers))
        for turn in range(ROUNDS):
            ceilings.append(matmul_ceiling(threads))
            for number, (name, train) in enumerate(trainers.items()):
                speeds[name].append(train(work / f"{turn}-{number}", turn))
                progress.did(f"round {turn + 1} of {ROUNDS}: {name}, {speeds[name][-1]:,.0f} tokens/s")
    return [_table(speeds, statistics.median(ceilings), threads)]


def _table(speeds: dict[str, list[float]], ceiling: float, threads: int) -> Table:
    flops = SHAPE.flops_per_token(VOCABULARY)
    median = {name: statistics.median(values) for name, values in speeds.items()}
    first, trainer = list(median.values())[:2]
    rows = [
        [
            *(name, f"{median[name]:,.0f}", f"{min(values):,.0f} to {max(values):,.0f}"),
            *(f"{100 * median[name] * flops / ceiling:.0f} %", ratio(median[name], first)),
            ratio(median[name], trainer),
        ]
        for name, values in speeds.items()
    ]
    columns = ["trainer", "tokens/s, median", "of all rounds", "utilisation", "to nanoGPT", "to Trainer"]
    millions = SHAPE.parameters(VOCABULARY) / 1e6
    note = (
        f"{millions:.1f} million parameters ({SHAPE.layers} layers of width {SHAPE.width}, vocabulary {VOCABULARY:,}, "
        f"context {SHAPE.context}), {SEQUENCES} sequences a step, float32, AdamW, {threads} cores; a round is "
        f"{STEPS} steps of each, of which the first {_WARM} are left out. Utilisation: floating-point operations of "
        f"the network (6 × matrices + attention, for all trainers the same formula) ÷ {ceiling / 1e9:,.0f} GFLOP/s, "
        f"what products of the model's own matrices reach here. {versions('torch', 'transformers', 'deepspeed')}, "
        f"nanoGPT {nano_gpt.COMMIT[:7]}. Athanor's step contains reading, packing and masking documents from each "
        "other, which the others' does not; compiling lies before the first step, and is not in it."
    )
    return Table("Speed", columns, rows, [note, _foretold(median["Athanor, ZeRO 1, one process"])])


def _foretold(measured: float) -> str:
    """What ``athanor plan`` says of the time, beside what was measured."""
    tokens = SEQUENCES * SHAPE.context
    resources = Resources(processes=1, zero_stage=1, micro_batch_sequences=SEQUENCES)
    said = (
        tokens
        / estimate(SHAPE, VOCABULARY, tokens, "fp32", OptimizerConfig(), resources).as_json("fp32")["seconds_here"]
    )
    return f"`athanor plan` foretells {said:,.0f} tokens/s for one process on this machine: {said / measured - 1:+.0%}."


def _nano_gpt(data: TokenFiles, work: Path, threads: int) -> float:
    run = nano_gpt.train(
        data.folder, work, 1, threads,
        batch_size=SEQUENCES, block_size=SHAPE.context, n_layer=SHAPE.layers, n_head=SHAPE.heads, n_embd=SHAPE.width,
        max_iters=STEPS, lr_decay_iters=STEPS, warmup_iters=2, learning_rate=1e-3, min_lr=1e-4,
    )  # fmt: skip
    return SEQUENCES * SHAPE.context / statistics.mean(run.step_seconds[_WARM:])


def _hf_trainer(data: TokenFiles, work: Path, threads: int) -> float:
    work.mkdir(parents=True)
    shape = {"layers": SHAPE.layers, "width": SHAPE.width, "heads": SHAPE.heads, "context": SHAPE.context}
    shape |= {"vocabulary": VOCABULARY, "feed_forward": SHAPE.inner_features}
    settings = {"shape": shape, "data": str(data.folder / "train.bin"), "output": str(work / "out")}
    settings |= {"steps": STEPS, "batch_sequences": SEQUENCES}
    (work / "settings.json").write_text(json.dumps(settings), encoding="utf-8")
    command = [sys.executable, "-m", "benchmarks.training.hf_trainer", str(work / "settings.json")]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"the Trainer ended with {done.returncode}: {done.stderr[-2000:]}")
    seconds = json.loads(done.stdout.splitlines()[-1])
    return SEQUENCES * SHAPE.context / statistics.mean(seconds[_WARM:])


def _ours(shards: Shards, work: Path, seed: int, processes: int, compiled: bool = False) -> float:
    batch = SEQUENCES * SHAPE.context
    run = ours.train(
        shards, work, seed=seed, processes=processes, zero_stage=1, micro=SEQUENCES // processes, compiled=compiled,
        model=SHAPE.model_dump(exclude_defaults=True), tokens=STEPS * batch, batch_tokens=batch,
        optimizer={"name": "adamw", "learning_rate": 1e-3}, precision="fp32",
    )  # fmt: skip
    return batch / statistics.mean(run.step_seconds[_WARM:])


def matmul_ceiling(threads: int) -> float:
    """Floating-point operations a second over the products that the network itself is made of, forward and backward."""
    torch.set_num_threads(threads)
    rows, width = SEQUENCES * SHAPE.context, SHAPE.width
    outputs = [3 * width, width, 2 * SHAPE.inner_features, VOCABULARY]
    products = [((rows, width), (width, out)) for out in outputs]
    products += [((rows, SHAPE.inner_features), (SHAPE.inner_features, width))]
    operations = seconds = 0.0
    for left, right in products:
        a, b = torch.ones(left), torch.ones(right)
        product = torch.ones(left[0], right[1])  # there already: the kernel would clear new memory page by page
        best = math.inf
        for _ in range(5):
            began = time.perf_counter()
            torch.mm(a, b, out=product)
            best = min(best, time.perf_counter() - began)
        operations += 2.0 * left[0] * left[1] * right[1]
        seconds += best
    return operations / seconds
