"""nanoGPT, run as its users run it: ``python train.py --setting=value``."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.corpora import CACHE, DataMissing

ADDRESS = "https://github.com/karpathy/nanoGPT"
COMMIT = "3adf61e154c3fe3fca428ad6bc3818b27a3b8291"
_STEP = re.compile(r"^iter (\d+): loss [\d.]+, time ([\d.]+)ms", re.MULTILINE)
_SEED = "torch.manual_seed(1337 + seed_offset)"


@dataclass(frozen=True)
class NanoRun:
    """What a run of nanoGPT's train.py took and left."""

    step_seconds: list[float]
    """Of every step but the first and the last, which contain its evaluations."""
    checkpoint: Path


def source() -> Path:
    """Its folder, cloned once; raises DataMissing where it cannot be had."""
    folder = CACHE / "nanoGPT"
    if not folder.exists():
        beside = CACHE / "nanoGPT.partial"
        shutil.rmtree(beside, ignore_errors=True)
        for command in (["git", "clone", "-q", ADDRESS, str(beside)], ["git", "-C", str(beside), "checkout", COMMIT]):
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                raise DataMissing(f"nanoGPT could not be cloned into {folder}: {done.stderr.strip()[-200:]}")
        beside.rename(folder)
    return folder


def train(data: Path, work: Path, seed: int, threads: int, **settings: Any) -> NanoRun:
    """Train on the token files in ``data`` for ``max_iters`` steps, on the processor, in float32.

    It has no setting for the seed: the copy that is run has it written in.
    """
    copy = work / "nanoGPT"
    shutil.copytree(source(), copy, ignore=shutil.ignore_patterns(".git", "assets", "*.ipynb"))
    script = copy / "train.py"
    text = script.read_text(encoding="utf-8")
    if _SEED not in text:
        raise RuntimeError(f"{script} is another version than {COMMIT}: it does not seed as expected")
    script.write_text(text.replace(_SEED, f"torch.manual_seed({seed})"), encoding="utf-8")
    steps = settings["max_iters"]
    settings |= {
        **{"dataset": data.resolve(), "out_dir": work / "out", "device": "cpu", "dtype": "float32", "compile": False},
        **{"eval_interval": steps, "eval_iters": 1, "log_interval": 1, "always_save_checkpoint": True},
        "gradient_accumulation_steps": 1,
    }
    arguments = [f"--{name}={value}" for name, value in settings.items()]
    environment = {"OMP_NUM_THREADS": str(threads), "PATH": "/usr/bin:/bin"}
    command = [sys.executable, "train.py", *arguments]
    done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"nanoGPT ended with {done.returncode}: {done.stderr[-2000:]}")
    times = {int(number): float(time) / 1000 for number, time in _STEP.findall(done.stdout)}
    return NanoRun([times[step] for step in range(1, steps)], work / "out" / "ckpt.pt")


def logits_of(checkpoint: Path) -> Callable[[Tensor], Tensor]:
    """What the trained network says of a batch of ids (rows, positions): logits (rows, positions, vocabulary)."""
    described = importlib.util.spec_from_file_location("nano_gpt_model", source() / "model.py")
    assert described is not None
    assert described.loader is not None
    module = importlib.util.module_from_spec(described)
    sys.modules["nano_gpt_model"] = module
    described.loader.exec_module(module)
    saved = torch.load(checkpoint, map_location="cpu", weights_only=True)
    network = module.GPT(module.GPTConfig(**saved["model_args"]))
    network.load_state_dict(saved["model"])
    network.eval()
    return lambda tokens_BT: network(tokens_BT, tokens_BT)[0]
