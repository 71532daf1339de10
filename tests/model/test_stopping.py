"""Trainings that end when the validation loss no longer falls, and keep the weights with the lowest one."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.learning.optimizer_config import OptimizerConfig
from model.learning.stopping import EarlyStopping, Evaluations
from model.request import PUBLISHED, Request
from storage.identity import digest_of_file
from storage.shards import Shards
from tests.model.several import run_one_after_the_other
from tests.model.training import made_shards, request


@given(
    losses=st.lists(st.floats(0, 10), min_size=1, max_size=30),
    patience=st.integers(1, 4),
    min_delta=st.sampled_from([0.0, 0.5]),
)
def test_it_ends_after_so_many_evaluations_without_a_lower_loss(
    losses: list[float], patience: int, min_delta: float
) -> None:
    """Beside a plain loop; after every evaluation it is forgotten and read back as JSON."""
    memory: dict[str, Any] = {}
    last_counted, counted = 0, losses[0]
    for number, loss in enumerate(losses):
        evaluations = Evaluations(EarlyStopping(patience=patience, min_delta=min_delta), memory)
        lowest = evaluations.saw(number, loss)
        assert lowest == all(loss < before for before in losses[:number])
        assert evaluations.best == min(((n, value) for n, value in enumerate(losses[: number + 1])), key=lambda x: x[1])
        if number and loss < counted - min_delta:
            last_counted, counted = number, loss
        assert evaluations.ended == (number - last_counted >= patience)
        memory = json.loads(json.dumps(memory))


def test_a_loss_that_is_no_number_is_never_the_best() -> None:
    evaluations = Evaluations(None, {})
    assert not evaluations.saw(1, float("nan"))
    assert evaluations.best is None
    assert evaluations.saw(2, 5.0)
    assert not evaluations.ended


def asked(folder: Path, shards: Shards, steps: int, run: dict[str, Any] | None = None, **changes: Any) -> Request:
    """So high a rate on so few documents that the validation loss soon rises; by one process, unless ``run`` says."""
    return request(
        folder,
        shards,
        tokens=80 * steps,
        optimizer=OptimizerConfig(learning_rate=3e-2, schedule="constant", warmup_tokens=0, average_tokens=200),
        evaluate_every=150,
        run={"processes": 1, "zero_stage": 1, **(run or {})},
        **changes,
    )


STEPS = 100
RULE = EarlyStopping(patience=3, min_delta=0.01)


@dataclass(frozen=True)
class Runs:
    """Trainings that stopped: undisturbed, resumed, with the last weights kept; and one that ended at the best step."""

    folder: Path
    best: int
    """Step of the lowest validation loss."""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    folder = tmp_path_factory.mktemp("runs")
    shards = made_shards(tmp_path_factory.mktemp("data"), documents=6)
    resumed = asked(folder / "resumed", shards, STEPS, early_stopping=RULE, keep="best")
    described = [
        asked(folder / "stops", shards, STEPS, early_stopping=RULE, keep="best"),
        *(resumed, resumed),
        asked(folder / "last", shards, STEPS, early_stopping=RULE),
        refused := refusing(folder / "refused", shards),
    ]
    *others, failure = run_one_after_the_other(described, folder, set_back=[2])
    assert others == [""] * 4
    assert failure == FAILURE
    refused.run.scratch.joinpath("best").unlink()
    best = lowest_of(folder / "stops")
    assert run_one_after_the_other([asked(folder / "short", shards, best), refused], folder) == ["", ""]
    return Runs(folder, best)


FAILURE = (
    "StoreUnavailable: step 2: the best weights so far cannot be kept (Not a directory); free some space and run again"
)


def refusing(folder: Path, shards: Shards, **run: Any) -> Request:
    """A training whose disk does not take the best weights: where their folder would be, a file is in the way."""
    made = asked(folder, shards, STEPS, run, early_stopping=RULE, keep="best")
    made.run.scratch.mkdir()
    (made.run.scratch / "best").touch()
    return made


def lowest_of(folder: Path) -> int:
    """After which step the validation loss was lowest."""
    return int(min(losses(folder), key=lambda row: row[1])[0])


def losses(folder: Path) -> list[tuple[float, float]]:
    """Step and validation loss of every evaluation."""
    rows = [json.loads(line) for line in (folder / "scratch" / "metrics.jsonl").read_text().splitlines()]
    return [(row["step"], row["validation_loss"]) for row in rows if "validation_loss" in row]


def summary(folder: Path) -> dict[str, float]:
    found: dict[str, float] = json.loads((folder / "scratch" / "summary.json").read_text())
    return found


def weights(folder: Path) -> str:
    return digest_of_file(folder / "output" / "model.safetensors")


@pytest.mark.slow
def test_it_stops_where_the_loss_rises_and_keeps_the_lowest(runs: Runs) -> None:
    """What is kept is what a run that ends there makes."""
    found, said = losses(runs.folder / "stops"), summary(runs.folder / "stops")
    counted, in_vain = math.inf, 0
    for number, (step, loss) in enumerate(found):
        assert step == 2 * (number + 1)
        assert in_vain < RULE.patience
        counted, in_vain = (loss, 0) if loss < counted - RULE.min_delta else (counted, in_vain + 1)
    assert in_vain == RULE.patience
    assert runs.best < said["steps"] == found[-1][0] < said["planned_steps"] == STEPS
    assert said["best_step"] == runs.best
    assert said["tokens"] == 80 * said["steps"]
    assert said["validation_loss"] == said["best_validation_loss"] == min(loss for _, loss in found)
    assert weights(runs.folder / "stops") == weights(runs.folder / "short")
    assert losses(runs.folder / "last") == found
    assert summary(runs.folder / "last")["validation_loss"] == found[-1][1]
    assert weights(runs.folder / "last") != weights(runs.folder / "short")


@pytest.mark.slow
def test_resumed_it_stops_at_the_same_step_with_the_same_weights(runs: Runs) -> None:
    found = losses(runs.folder / "resumed")
    assert found == losses(runs.folder / "stops")
    assert weights(runs.folder / "resumed") == weights(runs.folder / "stops")
    assert summary(runs.folder / "resumed")["best_step"] == runs.best
    lowest = [step for n, (step, loss) in enumerate(found) if all(loss < before for _, before in found[:n])]
    kept = sorted(path.name for path in (runs.folder / "resumed" / "scratch" / "best").iterdir())
    assert kept == [f"step-{step:09}" for step in lowest[-2:]]


@pytest.mark.slow
def test_a_disk_that_refuses_the_best_weights_ends_the_run_and_once_mended_nothing_is_lost(runs: Runs) -> None:
    """The first part of it is in ``runs``: it fails at the first evaluation."""
    assert losses(runs.folder / "refused") == losses(runs.folder / "stops")
    assert weights(runs.folder / "refused") == weights(runs.folder / "stops")


WAYS = {"zero": {"zero_stage": 1}, "tensor": {"zero_stage": 1, "tensor_processes": 2}}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of trainings by two processes: undisturbed, with all evaluated models published; resumed; and refused."""
    folder = tmp_path_factory.mktemp("shared")
    shards = made_shards(tmp_path_factory.mktemp("data"), documents=6)
    published = {"publish_every": 160, "published_with": tmp_path_factory.mktemp("tokenizer")}
    described = []
    for name, way in WAYS.items():
        both = {"processes": 2, **way}
        resumed = asked(folder / f"{name}-resumed", shards, STEPS, both, early_stopping=RULE, keep="best")
        stops = asked(folder / name, shards, STEPS, both | published, early_stopping=RULE, keep="best")
        described += [stops, resumed, resumed]
    described.append(refusing(folder / "refused", shards, processes=2))
    failures = run_one_after_the_other(described, folder, set_back=[2, 5], processes=2)
    assert failures == [""] * 6 + [FAILURE]
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_two_processes_stop_together_and_keep_the_weights_of_the_lowest_loss(shared: Path, way: str) -> None:
    """Had they not stopped together, one would have waited for the other. All that were evaluated are published."""
    found, said = losses(shared / way), summary(shared / way)
    best = lowest_of(shared / way)
    assert best < said["steps"] == found[-1][0] < STEPS
    assert said["best_step"] == best
    at_best = shared / way / "scratch" / PUBLISHED / f"step-{best:09}" / "model.safetensors"
    assert weights(shared / way) == digest_of_file(at_best)


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_two_processes_resumed_stop_at_the_same_step_with_the_same_weights(shared: Path, way: str) -> None:
    assert losses(shared / f"{way}-resumed") == losses(shared / way)
    assert weights(shared / f"{way}-resumed") == weights(shared / way)
