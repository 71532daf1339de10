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
from model.request import Request
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


def asked(folder: Path, shards: Shards, steps: int, **changes: Any) -> Request:
    """So high a rate on so few documents that the validation loss soon rises."""
    return request(
        folder,
        shards,
        tokens=80 * steps,
        optimizer=OptimizerConfig(learning_rate=3e-2, schedule="constant", warmup_tokens=0, average_tokens=200),
        evaluate_every=150,
        run={"processes": 1, "zero_stage": 1},
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
    ]
    assert run_one_after_the_other(described, folder, set_back=[2]) == [""] * 4
    best = min(losses(folder / "stops"), key=lambda row: row[1])[0]
    assert run_one_after_the_other([asked(folder / "short", shards, best)], folder) == [""]
    return Runs(folder, best)


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
