"""Runs that are continued by more processes than they began with."""

from __future__ import annotations

from pathlib import Path

import pytest

from storage.shards import Shards
from tests.model.several import run_one_after_the_other
from tests.model.test_training import metrics
from tests.model.training import made_shards, request

RUN = {"checkpoint_seconds": 3600.0, "evaluations": 3}
"""Checkpoints only before evaluations, after the steps 10, 20 and 30."""


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Shards:
    return made_shards(tmp_path_factory.mktemp("data"))


@pytest.mark.parametrize(("before", "after", "stage"), [(1, 2, 1), (2, 3, 2)])
def test_more_processes_go_on_with_the_same_sequences(
    tmp_path: Path, shards: Shards, before: int, after: int, stage: int
) -> None:
    """Every step of every documents' batch has its own loss, so other sequences, or another order, would show."""
    described = request(tmp_path, shards, run={**RUN, "zero_stage": stage})
    assert run_one_after_the_other([described], tmp_path, processes=before) == [""]
    rows = metrics(tmp_path)
    assert run_one_after_the_other([described], tmp_path, set_back=[0], processes=after) == [""]
    continued = metrics(tmp_path)
    steps = [row["step"] for row in rows if "loss" in row]
    assert steps == list(range(1, 31))
    differing = 0
    for mine, theirs in zip(continued, rows, strict=True):
        assert mine.keys() == theirs.keys()
        for name in {"step", "tokens", "learning_rate", "steps_left_out"} & theirs.keys():
            assert mine[name] == theirs[name]
        for name in {"loss", "validation_loss", "grad_norm"} & theirs.keys():
            assert mine[name] == pytest.approx(theirs[name], rel=1e-5)
        differing += mine.get("tokens_per_second") != theirs.get("tokens_per_second")
    assert differing == 10  # the steps that were made anew
