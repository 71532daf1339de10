"""Trainings that continue from where a shorter one was: what is found, what is said, what is kept."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest
from pydantic import Field

from flows.home import Home
from flows.lineage import lineage
from model.checkpoints.stem import stem_steps, without_fall
from model.learning.optimizer_config import OptimizerConfig
from model.request import KEPT
from storage.artifact import Model
from storage.corpus import Documents
from storage.errors import StoreCorrupted
from storage.maintenance import collect_garbage, problems
from tasks import registry
from tasks.stem import Stem
from tasks.task import Context, Input, Kind, Result, Task
from tests.flows.conftest import make_all, planner_of, statuses


class Grow(Task):
    """Counts its steps from the state that it is given, and keeps that of the end of its stem."""

    makes: ClassVar[Kind] = Model
    trains: ClassVar[bool] = True

    data: Input[Documents]
    tokens: int = Field(ge=1)
    rate: float = 1.0
    optimizer: OptimizerConfig = OptimizerConfig()

    def stem(self, inputs: Mapping[str, str]) -> Stem:
        settings: Any = {"rate": self.rate, "optimizer": without_fall(self.optimizer.model_dump(mode="json"))}
        steps = stem_steps(self.optimizer, self.tokens, 10, [])
        return Stem(steps, 10, settings, inputs, "" if steps else f"schedule {self.optimizer.schedule} falls")

    def run(self, context: Context) -> Result:
        begin = json.loads(context.state.path("step").read_text()) if context.state is not None else 0
        stem, steps = self.stem({}).steps, self.tokens // 10
        if stem > begin:
            keep(context.scratch / KEPT / f"step-{stem:09}", stem)
        (context.output / "config.json").write_text(json.dumps({"steps": steps, "letters": 0}))
        return Result(metrics={"trained": steps - begin})


def keep(folder: Path, step: int) -> None:
    folder.mkdir(parents=True)
    (folder / "step").write_text(json.dumps(step))
    folder.with_suffix(".json").write_text(json.dumps({"step": step, "tokens": 10 * step}))


RECIPE = """\
name: toy
steps:
  pages: {task: fetch, folder: texts}
  documents: {task: clean, pages: pages}
  base: {task: grow, data: documents, tokens: 100, optimizer: {schedule: constant}}
"""
FALLS = "base.optimizer.schedule=stable_decay"


@pytest.fixture(autouse=True)
def grow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.TASKS, "grow", "tests.flows.test_longer:Grow")


def made(home: Home, *overrides: str, **options: Any) -> tuple[float | None, str]:
    """Steps that were trained, None for a reused artifact; and what the plan said."""
    planner = planner_of(home, RECIPE, *overrides, **options)
    why = planner.plan()["base"].why
    outcome = make_all(planner)["base"]
    return outcome.metrics["trained"] if outcome.status == "built" else None, why


def test_raised_tokens_continue_from_the_furthest_state_that_fits(home: Home) -> None:
    assert made(home)[0] == 10
    trained, why = made(home, "base.tokens=200")
    assert trained == 10
    assert why == "tokens 100 → 200; continues from step 10 of toy/base.state@1 (100 tokens)"
    # Falling over the last fifth, from step 12 on: the state after 20 steps is too far.
    trained, why = made(home, "base.tokens=150", FALLS)
    assert trained == 5
    assert "continues from step 10 of toy/base.state@1 (100 tokens)" in why
    trained, why = made(home, "base.tokens=300", FALLS)
    assert trained == 10
    assert "continues from step 20 of toy/base.state@2 (200 tokens)" in why
    assert made(home) == (None, "same settings, code and inputs")

    store = planner_of(home, RECIPE).store
    build = store.record_of(store.history("toy", "base")[-2].key)
    assert build is not None
    assert build.continued_from == store.history("toy", "base.state")[1].key
    state = store.history("toy", "base.state")[-1]
    assert lineage(store, state.artifact)["build"]["step"] == "base.state"
    assert list(problems(store)) == []
    afresh = planner_of(home, RECIPE, "base.tokens=200", rebuild=frozenset(["base"]))
    outcome = make_all(afresh)["base"]
    assert (outcome.metrics["trained"], outcome.verdict) == (20, "same bytes as before")


def test_it_is_said_why_raised_tokens_do_not_continue(home: Home) -> None:
    def said(*overrides: str) -> str:
        return planner_of(home, RECIPE, *overrides).plan()["base"].why

    def train(*overrides: str) -> None:
        make_all(planner_of(home, RECIPE, *overrides))

    assert said() == "waits for documents; first build"
    train("base.optimizer.schedule=cosine")
    assert said("base.tokens=200", "base.optimizer.schedule=cosine") == (
        "tokens 100 → 200; trained from the start: schedule cosine falls"
    )
    assert said("base.tokens=200").endswith(
        "no state of the shorter run is kept, which only constant and stable_decay leave"
    )
    train()
    assert said("base.tokens=200", "base.rate=2").endswith(
        "trained from the start: the kept state is of another training (rate 1.0 → 2.0)"
    )
    assert said("base.tokens=110", FALLS).endswith(
        "trained from the start: the kept state is after 100 tokens, and this run's first 90 alone are those of any"
    )
    assert "start" not in said("base.tokens=90")
    (home.folder.parent / "texts" / "0.txt").write_text("Another page\nand one more line\n")
    make_all(planner_of(home, RECIPE, until="documents"))
    assert "is of another training (input data changed" in said("base.tokens=200")


def test_collecting_keeps_states_as_builds_of_a_step(home: Home) -> None:
    for tokens in (100, 200, 300):
        made(home, f"base.tokens={tokens}")
    store = planner_of(home, RECIPE).store
    collect_garbage(store, keep=2)
    assert [entry.number for entry in store.history("toy", "base.state")] == [2, 3]
    assert made(home, "base.tokens=250")[0] == 5
    assert made(home, "base.tokens=150")[0] == 15


def test_a_damaged_state_is_not_passed_over_in_silence(home: Home) -> None:
    made(home)
    store = planner_of(home, RECIPE).store
    manifest = store.manifest(store.resolve("toy/base.state"))
    place = store.objects.local_path(manifest.files["step"])
    place.chmod(0o644)
    place.write_text("9 ")
    with pytest.raises(StoreCorrupted, match="it was to be continued from: `--rebuild base` trains anew"):
        make_all(planner_of(home, RECIPE, "base.tokens=200"))
    afresh = make_all(planner_of(home, RECIPE, "base.tokens=200", rebuild=frozenset(["base"])))
    assert statuses(afresh)["base"] == "built"
