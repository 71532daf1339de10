"""One run of a recipe: who builds, who is told, and what became of each step."""

from __future__ import annotations

import contextvars
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from multiprocessing import resource_tracker
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from flows.build import Builder, host
from flows.forget import forgotten_text
from flows.outcome import StepOutcome
from flows.page.document import ShownRun, ShownStep
from flows.page.file import write_page
from flows.plan import Planner
from flows.recipe import Step
from flows.report import Terminal
from flows.servers import Addresses, running_up
from flows.tracking import Tracker
from flows.yaml_tree import yaml_text
from storage.artifact import JsonValue
from storage.errors import AthanorError, UserError
from tasks.task import Progress

INTERRUPTED = threading.Event()
"""Set by Ctrl-C and SIGTERM. The exception they raise can come up inside a library that swallows it."""
RunStatus = Literal["done", "failed", "interrupted"]

MLFLOW_PORT = 5000
PREFECT_PORT = 4200


@dataclass
class RunResult:
    """What became of a run."""

    recipe: str
    run_id: str
    status: RunStatus
    seconds: float
    outcomes: dict[str, StepOutcome]
    errors: dict[str, BaseException] = field(default_factory=dict)
    mlflow: dict[str, Any] = field(default_factory=dict)
    """Identifiers of the run in MLflow: ``experiment`` and ``run``."""
    page: Path | None = None
    """The run's page, for a person to judge by."""
    forgotten: str = ""
    """What was left out on request, and what had been built with it."""

    @property
    def exit_status(self) -> int:
        """0 done, 1 something broke, 2 the user's input is wrong, 130 interrupted."""
        if self.status == "interrupted":
            return 130
        if not self.errors:
            return 0
        return 2 if all(isinstance(error, UserError) for error in self.errors.values()) else 1

    def as_json(self) -> dict[str, JsonValue]:
        """The object that ``--json`` prints."""
        return {
            "recipe": self.recipe,
            "run_id": self.run_id,
            "status": self.status,
            "seconds": round(self.seconds, 3),
            "steps": {name: outcome.as_json() for name, outcome in self.outcomes.items()},
        }


class Session:
    """A run that is going on: builds steps, and tells the terminal, the tracker and Prefect about it."""

    def __init__(
        self,
        planner: Planner,
        run_id: str,
        parameters: Mapping[str, JsonValue],
        remote_progress: Callable[[Step], Progress],
    ) -> None:
        self.planner = planner
        self.run_id = run_id
        self.began = time.monotonic()
        self.began_at = datetime.now(UTC)
        self.terminal = Terminal(list(planner.steps))
        self.tracker = Tracker(planner.home, planner.history.name, run_id, parameters)
        self.outcomes: dict[str, StepOutcome] = {}
        self.errors: dict[str, BaseException] = {}
        self._builder = Builder(planner, self.tracker, self)
        self._remote_progress = remote_progress
        self._after = ThreadPoolExecutor(1, thread_name_prefix="after-steps")
        self._told: list[Future[None]] = []

    def make(self, step: Step, made: Mapping[str, str]) -> StepOutcome:
        """Build or reuse ``step``; what goes wrong is noted, and raised."""
        started = time.monotonic()
        # Inherited by what this thread starts: Ctrl-C is for the main thread alone, whose end ends the others.
        # (Starting the resource tracker would let it through again.)
        resource_tracker.ensure_running()
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            outcome = self._builder.make(step, made)
        except Exception as error:
            why = str(error) if isinstance(error, AthanorError) else f"{type(error).__name__}: {error}"
            outcome = StepOutcome(
                step.name, step.task_name, "failed", " ".join(why.split()), seconds=round(time.monotonic() - started, 3)
            )
            self.errors[step.name] = error
            self.outcomes[step.name] = outcome
            self.tracker.step_failed(step, error)
            self.terminal.ended(outcome)
            raise
        self.errors.pop(step.name, None)
        self.outcomes[step.name] = outcome
        self.terminal.ended(outcome)
        return outcome

    def afterwards(self, tell: Callable[[], None]) -> None:
        """Call ``tell``, one after the other, while the next steps go on; the end of the run waits for it."""
        self._told.append(self._after.submit(contextvars.copy_context().run, tell))

    def close(self) -> RunResult:
        """End the run: steps that nobody came to are skipped, and the records are sent."""
        self._after.shutdown()
        for told in self._told:
            told.result()
        outcomes = {}
        for name, step in self.planner.steps.items():
            outcomes[name] = self.outcomes.get(name) or self._skipped(step)
        status: RunStatus = "failed" if self.errors else "done"
        page = self._write_page(status, outcomes)
        mlflow = self.tracker.close(status, {name: outcome.as_json() for name, outcome in outcomes.items()}, page)
        if self.tracker.failure:
            self.terminal.say(self.tracker.failure)
        for name, run in mlflow.get("steps", {}).items():
            self._note_mlflow_run(name, run)
        seconds = time.monotonic() - self.began
        recipe = self.planner.recipe.name
        forgotten = self._forgotten(outcomes.values())
        return RunResult(recipe, self.run_id, status, seconds, outcomes, dict(self.errors), mlflow, page, forgotten)

    def _forgotten(self, outcomes: Iterable[StepOutcome]) -> str:
        """What was left out on request by the steps that were built, in words."""
        takedowns = self.planner.takedowns
        if not takedowns.requests:
            return ""
        built = [outcome.metrics for outcome in outcomes if outcome.status == "built"]
        return forgotten_text(self.planner.store, takedowns, built)

    def _write_page(self, status: RunStatus, outcomes: Mapping[str, StepOutcome]) -> Path | None:
        """Write the run's page. Pictures must not cost the run what it made: what goes wrong here is only said."""
        try:
            return write_page(self._shown(status, outcomes), self.planner.home.reports)
        except Exception as error:  # noqa: BLE001
            self.terminal.say(f"the page of this run could not be written: {type(error).__name__}: {error}")
            return None

    def _shown(self, status: RunStatus, outcomes: Mapping[str, StepOutcome]) -> ShownRun:
        runs = self.tracker.sent().steps
        steps = [
            ShownStep(
                outcome,
                needs=tuple(self.planner.steps[name].needs),
                settings=settings_text(self.planner.steps[name]),
                mlflow=self._mlflow_page(outcome.mlflow_run or runs.get(name)),
            )
            for name, outcome in outcomes.items()
        ]
        options = self.planner.options
        parts = [
            f"--until {options.until}" if options.until else "",
            f"--limit {options.limit}" if options.limit else "",
        ]
        return ShownRun(
            recipe=self.planner.history.name,
            run_id=self.run_id,
            status=status,
            began=self.began_at,
            seconds=time.monotonic() - self.began,
            steps=steps,
            host=str(host()["name"]),
            restriction=" ".join(filter(None, parts)),
        )

    def _note_mlflow_run(self, step: str, run: str) -> None:
        """Add to a build's record what was not known when it was written."""
        store, outcome = self.planner.store, self.outcomes[step]
        if outcome.status == "built" and outcome.mlflow_run is None and outcome.key:
            build = store.record_of(outcome.key)
            if build is not None and build.mlflow_run is None:
                store.record(build.model_copy(update={"mlflow_run": run}))
            self.outcomes[step] = replace(outcome, mlflow_run=run)

    def abandon(self) -> RunResult:
        """The run was interrupted: say so, and wait for nothing."""
        self.terminal.say("interrupted; what is finished is kept, and the same command goes on from here")
        self.tracker.abandon()
        seconds = time.monotonic() - self.began
        return RunResult(self.planner.recipe.name, self.run_id, "interrupted", seconds, dict(self.outcomes))

    def mlflow_link(self, step: str) -> str | None:
        """Address of the MLflow page of a step that was built; waits for it, and notes it in the build's record."""
        run = self.tracker.wait_for_run(step)
        if run is not None:
            self._note_mlflow_run(step, run)
        return self._mlflow_page(run)

    def page_link(self, result: RunResult) -> str | None:
        """Address at which MLflow shows the run's page, once it was sent."""
        run, experiment = result.mlflow.get("run"), result.mlflow.get("experiment")
        if result.page is None or not run:
            return None
        return f"{self._mlflow_address}/#/experiments/{experiment}/runs/{run}/artifacts/report.html"

    def _mlflow_page(self, run: str | None) -> str | None:
        experiment = self.tracker.sent().experiment
        return f"{self._mlflow_address}/#/experiments/{experiment}/runs/{run}" if run and experiment else None

    @cached_property
    def _mlflow_address(self) -> str:
        return mlflow_address(self.planner, running_up(self.planner.home))

    # What the builder tells

    def started(self, step: Step, why: str) -> None:
        self.terminal.started(step, why)

    def waiting(self, step: Step, note: str) -> None:
        self.terminal.waiting(step, note)

    def progress(self, step: Step) -> Progress:
        on_terminal, remote = self.terminal.progress(step), self._remote_progress(step)

        def report(done: int, total: int | None, unit: str, note: str = "", begun: int = 0) -> None:
            on_terminal(done, total, unit, note, begun)
            remote(done, total, unit, note, begun)

        return report

    def _skipped(self, step: Step) -> StepOutcome:
        broken = [name for name in self.planner.recipe.upstream(step.needs) if name in self.errors]
        return StepOutcome(step.name, step.task_name, "skipped", f"needs {', '.join(sorted(broken))}, which failed")


def settings_text(step: Step) -> str:
    """What the recipe says of a step, as YAML: its settings other than the defaults."""
    return yaml_text({"task": step.task_name, **step.task.model_dump(mode="json", exclude_defaults=True)})


def mlflow_address(planner: Planner, addresses: Addresses | None) -> str:
    """Where MLflow's pages are, or will be once ``athanor up`` runs; ``addresses``: those of one that runs."""
    uri = planner.home.tracking_uri
    if uri.startswith("http"):
        return uri.rstrip("/")
    return addresses.mlflow if addresses else f"http://127.0.0.1:{MLFLOW_PORT}"


def traceback_of(error: BaseException) -> str:
    """The traceback of what broke on its own; empty for what was raised on purpose."""
    if isinstance(error, AthanorError):
        return ""
    frames: TracebackType | None = error.__traceback__
    return "".join(traceback.format_exception(type(error), error, frames))
