"""Pipelines of two and four stages on four real processes against plain PyTorch on one."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from model.launching.launch import train
from model.request import PUBLISHED, Request
from storage.identity import digest_of_file
from storage.shards import Shards
from tests.model.launched import found_by
from tests.model.training import drive, kill_all, made_shards, ranks, request, until
from tests.model.trouble import PATIENCE, Gates

ROOT = Path(__file__).resolve().parents[2]
CASES = (
    "untied, 2 stages x 2, ZeRO 1",
    "untied, 4 stages, ZeRO 1",
    "recomputed, 2 stages x 2, ZeRO 0",
    "tied, 2 stages x 2, ZeRO 1",
    "dropout, tied, 4 stages, ZeRO 0",
    "muon, 2 stages x 2, ZeRO 1",
    "two terms, lamb, 2 stages x 2, ZeRO 1",
    "adapters, tied, 4 stages, ZeRO 1",
)
CONTINUED = (
    "one continued as two",
    "two continued as one",
    "two continued as two",
    "two continued as four",
    "four continued as four",
)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, float]]:
    return found_by("tests.model.parallel.ranks_pipeline", 4, tmp_path_factory.mktemp("pipeline"))


@pytest.mark.parametrize("case", CASES)
def test_gradients_losses_and_weights_are_those_of_one_process(found: dict[str, dict[str, float]], case: str) -> None:
    outcome = found[case]
    assert outcome["gradient_error"] < 5e-5
    assert outcome["curve_error"] < 1e-4
    assert outcome["weight_error"] < 1e-4
    assert outcome["validation_error"] < 1e-4
    assert outcome["moved"] > 5e-2  # it learnt, so there was something to differ in


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_lower_precisions_follow_the_float32_curve(found: dict[str, dict[str, float]], precision: str) -> None:
    assert found[precision]["learnt"] > 0.1
    assert found[precision]["curve_error"] < 2e-2


@pytest.mark.parametrize("pair", CONTINUED)
def test_a_checkpoint_opens_under_any_number_of_stages(found: dict[str, dict[str, float]], pair: str) -> None:
    outcome = found[pair]
    assert outcome["restored"] == 1.0
    assert outcome["weight_error"] < 1e-4
    before, _, _, after = pair.split()
    assert before != after or outcome["same_bits"] == 1.0


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Shards:
    return made_shards(tmp_path_factory.mktemp("data"))


STAGES = {"processes": 2, "pipeline_processes": 2, "zero_stage": 1, "micro_batch_sequences": 1}


def of_run(folder: Path, shards: Shards, run: dict[str, Any]) -> Request:
    """Fifteen steps."""
    return request(folder, shards, tokens=80 * 15, run={"publish_every": 560, **run})


def quiet(done: int, total: int | None, unit: str, note: str = "", begun: int = 0) -> None:
    """A progress that nobody watches."""


def losses(described: Request) -> list[dict[str, float]]:
    """Of every step and evaluation."""
    rows = [json.loads(line) for line in described.run.metrics_file.read_text().splitlines()]
    return [{name: row[name] for name in row if "loss" in name or name in ("step", "grad_norm")} for row in rows]


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds processes in /proc")
def test_a_run_of_two_stages_is_that_of_one_process_also_when_it_was_killed(tmp_path: Path, shards: Shards) -> None:
    """The loss of every step and evaluation, the model that it ends with, and one published on the way."""
    folders = {name: tmp_path / name for name in ("alone", "undisturbed", "killed")}
    alone = of_run(folders["alone"], shards, {"processes": 1, "zero_stage": 0})
    undisturbed, killed = (of_run(folders[name], shards, STAGES) for name in ("undisturbed", "killed"))
    gates = Gates(tmp_path / "gates", 9)
    driver = drive(killed, folders["killed"], tmp_path / "lock", gates.environment())
    gates.reached(killed, 9)
    started = ranks(folders["killed"])
    os.kill(driver.pid, signal.SIGKILL)
    kill_all(started)
    driver.wait()
    until(lambda: not ranks(folders["killed"]), PATIENCE, "the end of all processes")
    summaries = {name: train(run, quiet) for name, run in (("alone", alone), ("two", undisturbed), ("again", killed))}
    assert summaries["two"]["parameters"] == summaries["alone"]["parameters"]
    digests = [digest_of_file(run.run.output / "model.safetensors") for run in (undisturbed, killed)]
    assert digests[0] == digests[1]
    assert losses(undisturbed) == losses(killed)
    assert [row.keys() for row in losses(alone)] == [row.keys() for row in losses(undisturbed)]
    for one, two in zip(losses(alone), losses(undisturbed), strict=True):
        assert all(abs(one[name] - two[name]) < 1e-3 for name in one)
    for place in (Path("output"), Path("scratch", PUBLISHED, "step-000000007")):
        wanted, found = (load_file(folders[name] / place / "model.safetensors") for name in ("alone", "undisturbed"))
        assert wanted.keys() == found.keys()
        assert all(torch.allclose(wanted[name], found[name], rtol=0, atol=1e-3) for name in wanted)
        assert (folders["alone"] / place / "config.json").read_bytes() == (
            folders["undisturbed"] / place / "config.json"
        ).read_bytes()
