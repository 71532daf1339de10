"""Whole runs in real processes: killed and continued, orphaned, broken."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from model.formats import huggingface
from model.launching.launch import train
from model.learning.objective_config import NextTokenConfig
from model.learning.optimizer_config import OptimizerConfig
from model.request import PUBLISHED, Request
from model.training import record_every
from storage.errors import StepFailed, UserError
from storage.identity import digest_of_file
from storage.locks import held_since
from storage.shards import Shards
from tests.model.training import drive, kill_all, made_shards, ranks, request, until
from tests.model.trouble import PATIENCE, Gates

ALONE = {"processes": 1, "zero_stage": 0}


def quiet(done: int, total: int | None, unit: str, note: str = "", begun: int = 0) -> None:
    """A progress that nobody watches."""


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Shards:
    return made_shards(tmp_path_factory.mktemp("data"))


@dataclass(frozen=True)
class Undisturbed:
    """A run that nothing happened to."""

    request: Request
    digest: str
    rows: list[dict[str, float]]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, shards: Shards) -> Undisturbed:
    folder = tmp_path_factory.mktemp("undisturbed")
    (folder / "tokenizer").mkdir()
    (folder / "tokenizer" / "tokenizer.model").write_bytes(b"pieces")
    described = request(folder, shards, run={"publish_every": 950, "published_with": folder / "tokenizer"})
    told: list[tuple[int, int | None]] = []
    summary = train(described, lambda done, total, unit, note="", begun=0: told.append((done, total)))
    rows = metrics(folder)
    assert summary["steps"] == 30
    assert summary["loss"] == rows[-2]["loss"]
    assert all(total == 2400 for _, total in told)
    assert rows[0]["loss"] - rows[-2]["loss"] > 0.3
    return Undisturbed(described, digest_of_file(folder / "output" / "model.safetensors"), rows)


def metrics(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "scratch" / "metrics.jsonl").read_text().splitlines()]


def result_of(row: dict[str, float]) -> dict[str, float]:
    """What of a row follows from the weights, not from the clock."""
    timed = ("tokens_per_second", "flops_utilization", "memory_bytes", "data_wait")
    return {name: value for name, value in row.items() if name not in timed}


def test_metrics_tell_every_step_once_and_evaluations_in_between(
    undisturbed: Undisturbed,
) -> None:
    rows = undisturbed.rows
    steps = [row["step"] for row in rows if "loss" in row]
    assert steps == list(range(1, 31))
    assert [row["step"] for row in rows if "validation_loss" in row] == [10, 20, 30]
    names = {"step", "tokens", "loss", "learning_rate", "grad_norm", "tokens_per_second", "flops_utilization"}
    assert names | {"memory_bytes", "data_wait", "steps_left_out"} == set(rows[0])
    assert [row["steps_left_out"] for row in rows if "loss" in row][-1] > 0  # so killed runs remember what is usual


def test_figures_are_recorded_as_often_as_asked(tmp_path: Path, shards: Shards) -> None:
    """80 tokens a step; 200 are rounded up to three steps, and the last step is recorded too."""
    train(request(tmp_path, shards, tokens=80 * 7, run={**ALONE, "record_every": 200}), quiet)
    assert [row["step"] for row in metrics(tmp_path) if "loss" in row] == [3, 6, 7]


@pytest.mark.parametrize(("steps", "every"), [(1, 1), (3_999, 1), (4_000, 2), (9_001, 4)])
def test_of_a_long_run_about_two_thousand_steps_are_recorded(
    tmp_path: Path, shards: Shards, steps: int, every: int
) -> None:
    assert record_every(request(tmp_path, shards), steps) == every


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds processes in /proc")
def test_killed_and_continued_it_ends_with_the_same_weights(
    tmp_path: Path, shards: Shards, undisturbed: Undisturbed
) -> None:
    """Once the driver alone is killed, once everything at once; a checkpoint is written at every step."""
    described = request(tmp_path, shards)
    lock, gates = tmp_path / "lock", Gates(tmp_path / "gates", 6, 15)
    for step, only_the_driver in ((6, True), (15, False)):
        driver = drive(described, tmp_path, lock, gates.environment())
        gates.reached(described, step)
        started = ranks(tmp_path)
        assert len(started) == 3  # torchrun and two ranks
        os.kill(driver.pid, signal.SIGKILL)
        if not only_the_driver:
            kill_all(started)
        driver.wait()
        until(lambda: not ranks(tmp_path), PATIENCE, "ranks that notice that their parent is gone")
        until(lambda: held_since(lock) is None, PATIENCE, "the lock, which the last of them held")
        gates.open(step)
    assert not (tmp_path / "output" / "model.safetensors").exists()
    train(described, quiet)
    assert digest_of_file(tmp_path / "output" / "model.safetensors") == undisturbed.digest
    assert [result_of(row) for row in metrics(tmp_path)] == [result_of(row) for row in undisturbed.rows]


def test_models_are_published_on_the_way(undisturbed: Undisturbed) -> None:
    folder = undisturbed.request.run.scratch / PUBLISHED
    names = ["step-000000012", "step-000000024"]
    assert sorted(path.name for path in folder.iterdir()) == sorted([*names, *(f"{name}.json" for name in names)])
    assert json.loads((folder / "step-000000024.json").read_text()) == {"step": 24, "tokens": 1920}
    assert (folder / names[0] / "tokenizer.model").read_bytes() == b"pieces"
    final = huggingface.load(undisturbed.request.run.output).state_dict()
    distances = []
    for name in names:
        published = huggingface.load(folder / name).state_dict()
        distances.append(sum(float((published[weight] - final[weight]).norm()) for weight in final))
    assert distances[0] > distances[1] > 0


def test_a_run_that_is_done_only_writes_its_result_again(undisturbed: Undisturbed) -> None:
    """On another number of processes, under another ZeRO stage."""
    weights = undisturbed.request.run.output / "model.safetensors"
    weights.unlink()
    summary = train(
        request(weights.parents[1], Shards.of_folder(undisturbed.request.data.parts[0].shards.folder), run=ALONE), quiet
    )
    assert digest_of_file(weights) == undisturbed.digest
    # Killed between its last step and its commit, a run still reports the figures of that step.
    assert summary["loss"] == [row["loss"] for row in undisturbed.rows if "loss" in row][-1]
    assert summary["validation_loss"] is not None


def test_a_loss_that_is_not_finite_fails_and_names_the_step(tmp_path: Path, shards: Shards) -> None:
    described = request(
        tmp_path,
        shards,
        optimizer=OptimizerConfig(learning_rate=1e30, warmup_tokens=0, clip_norm=0),
        run={"processes": 1},
    )
    said = r"step \d: (the loss is (nan|inf)|a gradient is not finite).*; its batch holds the documents train-\d+, "
    with pytest.raises(StepFailed, match=said):
        train(described, quiet)


def test_gradients_that_no_loss_scale_lets_into_float16_fail_with_the_remedy(tmp_path: Path, shards: Shards) -> None:
    described = request(
        tmp_path, shards, objective=NextTokenConfig(z_loss=1e12), optimizer=OptimizerConfig(), precision="fp16",
        run={"processes": 1},
    )  # fmt: skip
    said = (
        r"step 17: a gradient overflows float16 at every loss scale; use precision bf16 or fp32; its batch holds the "
    )
    with pytest.raises(StepFailed, match=said):
        train(described, quiet)


def test_what_a_process_says_is_what_the_caller_hears(tmp_path: Path, shards: Shards) -> None:
    with pytest.raises(UserError, match="device cuda: this machine has no GPU"):
        train(request(tmp_path, shards, run={"processes": 1, "device": "cuda"}), quiet)


@pytest.mark.slow
def test_a_run_with_its_state_on_a_disk_makes_the_same_model(tmp_path: Path, shards: Shards) -> None:
    digests = []
    for way in ("cpu", "nvme"):
        run = {"processes": 1, "zero_stage": 3, "offload": way}
        train(request(tmp_path / way, shards, tokens=240, optimizer=OptimizerConfig(), run=run), quiet)
        digests.append(digest_of_file(tmp_path / way / "output" / "model.safetensors"))
    assert digests[0] == digests[1]
    assert list((tmp_path / "nvme" / "scratch" / "offload").iterdir()) == []


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_eight_bits_are_refused_where_the_device_has_none(tmp_path: Path, shards: Shards) -> None:
    with pytest.raises(UserError, match="precision fp8 needs a GPU with 8-bit products"):
        train(request(tmp_path, shards, precision="fp8", optimizer=OptimizerConfig(), run={"processes": 1}), quiet)
