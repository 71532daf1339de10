"""Builders side by side, and builds that break."""

from __future__ import annotations

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from flows.build import Builder
from flows.home import Home
from flows.lineage import lineage
from flows.outcome import StepOutcome
from flows.report import Terminal
from model.request import PUBLISHED
from storage.errors import StepFailed, StoreUnavailable
from storage.maintenance import collect_garbage, problems
from tests.flows.conftest import RECIPE, Silent, make_all, planner_of, statuses

BROKEN = RECIPE.replace("resources", "  odd: {task: breaks, documents: kept, how: bug}\nresources")


def test_two_runs_at_once_build_each_step_once(home: Home) -> None:
    records = [Silent(), Silent()]
    results: list[dict[str, StepOutcome]] = [{}, {}]

    def run(number: int) -> None:
        planner = planner_of(home)
        builder = Builder(planner, records[number], Terminal([]))
        for name, step in planner.steps.items():
            made = {need: str(results[number][need].artifact) for need in step.needs}
            results[number][name] = builder.make(step, made)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(records[0].built + records[1].built) == sorted(planner_of(home).steps)
    for name in results[0]:
        assert results[0][name].artifact == results[1][name].artifact


def test_training_steps_take_turns(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.flows.toys import Train

    inside, most = [0], [0]
    original = Train.run

    def watched(self: Train, context: Any) -> Any:
        inside[0] += 1
        most[0] = max(most[0], inside[0])
        threading.Event().wait(0.3)
        try:
            return original(self, context)
        finally:
            inside[0] -= 1

    monkeypatch.setattr(Train, "run", watched)
    text = RECIPE.replace("  report:", "  other: {task: train, data: documents}\n  report:")
    planner = planner_of(home, text)
    outcomes = make_all(planner_of(home, text, until="kept"))
    builder = Builder(planner, Silent(), Terminal([]))
    made = {name: str(outcome.artifact) for name, outcome in outcomes.items()}
    began = time.monotonic()
    with ThreadPoolExecutor(2) as threads:
        built = list(threads.map(lambda name: builder.make(planner.steps[name], made), ("base", "other")))
    assert most[0] == 1
    # What a step waited for its turn is no part of what it took.
    assert sum(outcome.seconds for outcome in built) <= time.monotonic() - began


@pytest.mark.parametrize(
    ("how", "error", "message"),
    [
        ("suspicious", StepFailed, "nothing left"),
        ("bug", ZeroDivisionError, "a bug"),
        ("full_disk", StoreUnavailable, "odd: no space left on the disk"),
    ],
)
def test_a_broken_step_leaves_nothing_and_the_rest_stays(
    home: Home, how: str, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        make_all(planner_of(home, BROKEN, f"odd.how={how}"))
    store = planner_of(home).store
    assert ("toy", "odd") not in store.steps()
    assert statuses(make_all(planner_of(home)))["report"] == "reused"


def test_an_interrupted_build_goes_on_and_a_rebuild_does_not(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.flows.toys import Keep

    def dies(self: Keep, context: Any) -> Any:
        (context.scratch / "half").write_text("done")
        raise KeyboardInterrupt

    found = []
    original = Keep.run

    def looks(self: Keep, context: Any) -> Any:
        found.append((context.scratch / "half").exists())
        return original(self, context)

    monkeypatch.setattr(Keep, "run", dies)
    with pytest.raises(KeyboardInterrupt):
        make_all(planner_of(home))
    monkeypatch.setattr(Keep, "run", looks)
    make_all(planner_of(home))
    assert found == [True]
    make_all(planner_of(home, rebuild=frozenset(["kept"])))
    assert found == [True, False]


def test_models_published_while_training_goes_on_are_artifacts_of_their_own(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.flows.toys import Train

    original, seen = Train.run, []

    def publishes(self: Train, context: Any) -> Any:
        store, folder = planner_of(home).store, context.scratch / PUBLISHED
        for number in (1, 2):
            place = folder / f"step-{number:09}"
            place.mkdir(parents=True)
            (place / "model.safetensors").write_bytes(b"weights" * number)
            place.with_suffix(".json").write_text(json.dumps({"step": number, "tokens": 80 * number}))
            end = time.monotonic() + 300
            while len(store.history("toy", "base.partial")) < number and time.monotonic() < end:
                time.sleep(0.05)
            seen.append(store.open(store.resolve(f"toy/base.partial@{number}")).path("model.safetensors").read_bytes())
        return original(self, context)

    monkeypatch.setattr(Train, "run", publishes)
    outcome = make_all(planner_of(home))["base"]
    assert seen == [b"weights", b"weights" * 2]
    store = planner_of(home).store
    partial = store.record_of(store.history("toy", "base.partial")[-1].key)
    final = store.record_of(str(outcome.key))
    assert partial is not None
    assert final is not None
    assert (partial.headline, partial.kind) == ("after 160 tokens (step 2)", final.kind)
    assert partial.identity.inputs == final.identity.inputs
    made = lineage(store, partial.artifact)
    assert made["build"]["step"] == "base.partial"
    assert set(made["inputs"]) == set(final.identity.inputs)
    assert list(problems(store)) == []
    collect_garbage(store, keep=1)
    assert [entry.number for entry in store.history("toy", "base.partial")] == [2]
    assert statuses(make_all(planner_of(home)))["base"] == "reused"
