"""Runs that continue from where a shorter one's learning rate began to fall, or ended."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.checkpoints.stem import stem_steps
from model.data.training_data import course_of
from model.learning.optimizer_config import OptimizerConfig
from model.learning.schedule import learning_rate
from model.request import KEPT, LaterStage, Opened, Request, ShardsData, ShardsPart
from storage.identity import digest_of_file
from storage.shards import Shards
from tests.model.several import run_one_after_the_other
from tests.model.training import made_shards, request

SHAPES = st.sampled_from(["linear", "sqrt"])


@given(
    tokens=st.integers(1, 3000),
    longer=st.integers(0, 3000),
    batch=st.integers(1, 90),
    shares=st.tuples(st.floats(0.01, 1), st.floats(0.01, 1)),
    last=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    schedules=st.tuples(*[st.sampled_from(["constant", "stable_decay"])] * 2),
    shapes=st.tuples(SHAPES, SHAPES),
)
def test_learning_rates_of_a_stem_do_not_depend_on_the_length(
    tokens: int,
    longer: int,
    batch: int,
    shares: tuple[float, float],
    last: tuple[float, float],
    schedules: tuple[Any, Any],
    shapes: tuple[Any, Any],
) -> None:
    """Nor on how it falls later: bit for bit, up to the step after which it falls."""
    lengths, rates = [], []
    for number, total in enumerate((tokens, tokens + longer)):
        decay: Any = {"decay_share": shares[number], "decay_shape": shapes[number]}
        config = OptimizerConfig(
            learning_rate=3e-3, warmup_tokens=0, schedule=schedules[number], final_fraction=last[number],
            **(decay if schedules[number] == "stable_decay" else {}),
        )  # fmt: skip
        steps = -(-total // batch)
        lengths.append(stem_steps(config, total, batch, ()))
        assert 0 <= lengths[-1] <= steps
        rates.append([learning_rate((step + 0.5) * batch, config, steps * batch) for step in range(steps)])
    common = min(lengths)
    assert rates[0][:common] == rates[1][:common]
    for length, rate in zip(lengths, rates, strict=True):
        assert all(value < 3e-3 for value in rate[length + 1 :]) or max(last) > 0.9


@given(steps=st.integers(1, 200), longer=st.integers(0, 200), share=st.floats(0.05, 0.9))
def test_rows_of_a_stem_do_not_depend_on_what_follows(steps: int, longer: int, share: float) -> None:
    part = ShardsPart.model_construct(shards=None, weight=2.0, max_epochs=None, called="")
    other = part.model_copy(update={"weight": 1.0})
    late = part.model_copy(update={"weight": 0.0})
    data = ShardsData.model_construct(parts=(part, other), later=(), shuffle_tokens=None)
    staged = ShardsData.model_construct(
        parts=(part, other, late), later=(LaterStage(share=share, weights=(0, 0, 1)),), shuffle_tokens=None
    )
    asked = Request.model_construct(batch_tokens=6, context=2)
    plain = course_of(asked, data, [5, 7], steps)
    annealed = course_of(asked, staged, [5, 7, 3], steps + longer)
    config = OptimizerConfig(schedule="constant")
    common = 3 * min(steps, stem_steps(config, 6 * (steps + longer), 6, [share]))
    assert plain.parts(0, common).tolist() == annealed.parts(0, common).tolist()


# ---- whole runs ----

ALONE = {"processes": 1, "zero_stage": 1, "keep_state": True}
STEPS = 10


def optimizer(schedule: str) -> OptimizerConfig:
    return OptimizerConfig(
        name="muon", learning_rate=1e-2, warmup_tokens=240, schedule=schedule, skip_spikes=1.15, average_tokens=400,
        decay_share=0.3 if schedule == "stable_decay" else None,
    )  # fmt: skip


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> list[Shards]:
    return [made_shards(tmp_path_factory.mktemp(f"data{seed}"), seed=seed) for seed in (0, 1)]


def asked(folder: Path, shards: list[Shards], steps: int, schedule: str, **run: Any) -> Request:
    """A decaying run ends on a mixture of its own."""
    parts = [ShardsPart(shards=Opened.of(shards[0]), weight=1.0)]
    later: list[LaterStage] = []
    if schedule == "stable_decay":
        parts.append(ShardsPart(shards=Opened.of(shards[1]), weight=0.0))
        later.append(LaterStage(share=0.3, weights=(0.5, 0.5)))
    changes = {"tokens": 80 * steps, "optimizer": optimizer(schedule)}
    data = ShardsData(parts=tuple(parts), later=tuple(later))
    return request(folder, shards[0], **changes, data=data, run={**ALONE, **run})


def kept(folder: Path, step: int) -> Path:
    return folder / "scratch" / KEPT / f"step-{step:09}"


def weights(folder: Path) -> str:
    return digest_of_file(folder / "output" / "model.safetensors")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, shards: list[Shards]) -> Path:
    """A constant run, continued by one that decays on other data, continued by a longer one that does."""
    folder = tmp_path_factory.mktemp("runs")
    short = asked(folder / "short", shards, STEPS, "constant")
    described = [short]
    for name, steps, before, step in (("decayed", 20, "short", STEPS), ("longer", 30, "decayed", 14)):
        described.append(asked(folder / f"{name}-whole", shards, steps, "stable_decay"))
        place = kept(folder / before, step)
        described.append(asked(folder / name, shards, steps, "stable_decay", continues=place))
    place = kept(folder / "short", STEPS)
    described.append(asked(folder / "behind", shards, 12, "stable_decay", continues=place))
    (folder / "damaged" / "step-000000010").mkdir(parents=True)
    (folder / "damaged" / "step-000000010" / "checkpoint.json").write_text("{")
    described.append(asked(folder / "refused", shards, 20, "constant", continues=folder / "damaged"))
    failures = run_one_after_the_other(described, folder)
    assert failures[:5] == [""] * 5
    (folder / "refusals.json").write_text(json.dumps(failures[5:]))
    return folder


def test_a_longer_run_continues_and_ends_as_if_it_had_been_longer_from_the_beginning(runs: Path) -> None:
    assert json.loads(kept(runs / "short", STEPS).with_suffix(".json").read_text()) == {"step": 10, "tokens": 800}
    for name, step, stem in (("decayed", STEPS, 14), ("longer", 14, 21)):
        assert weights(runs / name) == weights(runs / f"{name}-whole")
        first = json.loads((runs / name / "scratch" / "metrics.jsonl").read_text().splitlines()[0])
        assert first["step"] == step + ("validation_loss" not in first)
        files = [kept(folder, stem) / f"step-{stem:09}" for folder in (runs / name, runs / f"{name}-whole")]
        parts = [digest_of_file(next(folder.glob("part-*"))) for folder in files]
        assert parts[0] == parts[1]


def test_a_damaged_state_or_one_behind_the_stem_is_refused(runs: Path) -> None:
    behind, damaged = json.loads((runs / "refusals.json").read_text())
    for failure in (behind, damaged):
        assert failure.startswith("StoreCorrupted: ")
        assert "holds no state that this run can continue from; `--rebuild` the step" in failure
