"""A whole run of two processes that share a network: killed, continued, and beside one process that has it whole."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from model.config import Dropout, ModelConfig
from model.formats import huggingface
from model.launching.launch import train
from model.learning.optimizer_config import OptimizerConfig
from model.request import PUBLISHED, RandomNetwork, Request
from storage.shards import Shards
from tests.model.training import VOCABULARY, drive, kill_all, made_shards, ranks, request, until
from tests.model.trouble import PATIENCE, Gates

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds processes in /proc")]

SHAPE = ModelConfig(
    layers=2, width=32, heads=4, kv_heads=2, context=16, qk_norm=True, dropout=Dropout(attention=0.1, residual=0.1)
)


def described(folder: Path, shards: Shards, **run: int) -> Request:
    folder.mkdir()
    (folder / "tokenizer").mkdir()
    return request(
        folder,
        shards,
        network=RandomNetwork(shape=SHAPE, vocabulary=VOCABULARY),
        tokens=80 * 12,
        optimizer=OptimizerConfig(learning_rate=1e-2, warmup_tokens=160, average_tokens=400, epsilon=1e-5),
        run={"publish_every": 480, "published_with": folder / "tokenizer", **run},
    )


def losses(folder: Path) -> dict[int, float]:
    rows = [json.loads(line) for line in (folder / "scratch" / "metrics.jsonl").read_text().splitlines()]
    return {row["step"]: row["loss"] for row in rows if "loss" in row}


def test_it_is_killed_and_continued_and_makes_the_model_of_one_process(tmp_path: Path) -> None:
    """The models (published, and the last) within what float32 leaves open (see ``test_tensor``)."""
    shards = made_shards(tmp_path / "data")
    alone = described(tmp_path / "alone", shards, processes=1, zero_stage=0)
    train(alone, lambda done, total, unit, note="", begun=0: None)
    shared = described(tmp_path / "shared", shards, processes=2, zero_stage=1, tensor_processes=2)
    gates = Gates(tmp_path / "gates", 5)
    driver = drive(shared, tmp_path / "shared", tmp_path / "lock", gates.environment())
    gates.reached(shared, 5)
    started = ranks(tmp_path / "shared")
    os.kill(driver.pid, signal.SIGKILL)
    kill_all(started)
    driver.wait()
    until(lambda: not ranks(tmp_path / "shared"), PATIENCE, "all processes to be gone")
    train(shared, lambda done, total, unit, note="", begun=0: None)
    assert losses(tmp_path / "shared") == pytest.approx(losses(tmp_path / "alone"), abs=1e-5)
    for model in ("output", f"scratch/{PUBLISHED}/step-000000006"):
        wanted = huggingface.load(tmp_path / "alone" / model).state_dict()
        found = huggingface.load(tmp_path / "shared" / model).state_dict()
        assert found.keys() == wanted.keys()
        for name, weight in wanted.items():
            assert float((found[name] - weight).norm() / weight.norm()) < 1e-4, name
