"""Toys in the registry, a home of its own per test, and one Prefect server for all of them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from flows.build import Builder
from flows.home import Home
from flows.outcome import StepOutcome
from flows.plan import Options, Planner
from flows.recipe import parse_recipe
from flows.report import Terminal
from storage.disk import finish_removals
from tasks import registry
from tests.flows.toys import TOYS

RECIPE = """\
name: toy
seed: 1
steps:
  pages: {task: fetch, folder: texts}
  documents: {task: clean, pages: pages}
  kept: {task: keep, documents: documents, letters: 4}
  base:
    task: train
    data: kept
    schedule: {rate: 1e-3}
  report: {task: judge, models: [base]}
resources: {workers: 1}
"""


@pytest.fixture(autouse=True)
def toys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, place in TOYS.items():
        monkeypatch.setitem(registry.TASKS, name, place)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """An empty home, and a folder of three small text files beside it."""
    monkeypatch.setenv("ATHANOR_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("ATHANOR_STORE", raising=False)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "texts").mkdir()
    for number in range(3):
        (tmp_path / "texts" / f"{number}.txt").write_text(f"Page {number}\n第{number}頁有些字\nab{number}\n")
    return Home.of_environment()


@dataclass
class Silent:
    """Keeps records of builds in a list."""

    built: list[str] = field(default_factory=list)

    def step_started(self, step: Any, identity: Any, store: Any) -> None:
        self.built.append(step.name)

    def following(self, step: Any, work: Any) -> Any:
        from contextlib import nullcontext

        return nullcontext()

    def step_built(self, step: Any, build: Any, store: Any) -> None: ...

    def step_reused(self, step: Any, build: Any, why: str) -> None: ...

    def run_of(self, step: str) -> str | None:
        return None


def planner_of(home: Home, text: str = RECIPE, *overrides: str, **options: Any) -> Planner:
    """A planner of the recipe in ``text``, whose folder is the one that ``home`` lies in."""
    recipe = parse_recipe(text, "toy.yaml", home.folder.parent, overrides)
    return Planner(recipe, Options(**options), home.open_store(recipe), home)


def make_all(planner: Planner) -> dict[str, StepOutcome]:
    """Build or reuse every step, one after the other, without Prefect and MLflow."""
    builder = Builder(planner, Silent(), Terminal(list(planner.steps)))
    outcomes: dict[str, StepOutcome] = {}
    for name, step in planner.steps.items():
        made = {need: str(outcomes[need].artifact) for need in step.needs}
        outcomes[name] = builder.make(step, made)
    finish_removals()  # tests look at every file of the home
    return outcomes


def statuses(outcomes: dict[str, StepOutcome]) -> dict[str, str]:
    return {name: outcome.status for name, outcome in outcomes.items()}


def built(outcomes: dict[str, StepOutcome]) -> list[str]:
    """Names of the steps that were built."""
    return [name for name, outcome in outcomes.items() if outcome.status == "built"]


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real Prefect API over an SQLite database of its own, for the whole session."""
    from flows.servers import prefect_api, prefect_environment

    home = Home(tmp_path_factory.mktemp("prefect"))
    before = dict(os.environ)
    os.environ.pop("PREFECT_API_URL", None)
    os.environ.update(prefect_environment(home))
    os.environ["PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL"] = "CRITICAL"
    found = []

    def import_prefect(address: str) -> None:
        os.environ["PREFECT_API_URL"] = address
        import flows.pipeline  # noqa: F401

        found.append(address)

    with prefect_api(home, import_prefect):
        yield found[0]
        from prefect.events.worker import EventsWorker
        from prefect.logging.handlers import APILogWorker

        EventsWorker.drain_all(timeout=5)
        APILogWorker.drain_all(timeout=5)
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(scope="session")
def empty_mlflow_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real MLflow database with nothing in it: making one takes seconds."""
    from mlflow.tracking import MlflowClient

    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def mlflow_database(home: Home, empty_mlflow_database: Path) -> None:
    """A copy of it in the test's home."""
    home.folder.mkdir(exist_ok=True)
    shutil.copy(empty_mlflow_database, home.folder / "mlflow.db")
