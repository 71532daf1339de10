"""What MLflow is to know about a run: written to the run's journal, sent by a process of its own.

No process that builds imports MLflow (it takes six seconds to) or waits for it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from flows.card import card_text, facts
from flows.home import Home
from flows.journal import Journal, Progress, Tail, waiting_records
from flows.pictures import token_lengths
from flows.recipe import Step
from flows.servers import mlflow_environment
from storage.artifact import JsonValue
from storage.builds import Build, Identity
from storage.errors import AthanorError
from storage.shards import Shards
from storage.store import Store, Work

_LINK_SECONDS = 5.0
"""How long the first built step waits to learn its MLflow run, while the sender is still importing MLflow."""
_DRAIN_SECONDS = 120.0
"""How long the end of a run waits for its records to be sent; the next run sends what is left."""


class Tracker:
    """The records of one pipeline run."""

    def __init__(self, home: Home, recipe: str, run_id: str, parameters: Mapping[str, JsonValue]) -> None:
        self.home = home
        self.journal = Journal(home.outbox, run_id)
        self.journal.append(
            "run_started", recipe=recipe, run_id=run_id, parameters=dict(parameters), process=os.getpid()
        )
        self._sender = _early.pop() if _early else start_sender(home)
        self.failure: str | None = None
        self._patience = time.monotonic() + _LINK_SECONDS

    def step_started(self, step: Step, identity: Identity, store: Store) -> None:
        references = step.task.inputs()
        inputs = [
            {"slot": slot, "name": references[slot].name, "artifact": digest, "address": store.place.root}
            for slot, digest in identity.inputs.items()
        ]
        self.journal.append(
            "step_started",
            step=step.name,
            task=step.task_name,
            key=identity.key,
            settings=step.task.model_dump(mode="json"),
            seed=identity.seed,
            libraries=identity.libraries,
            resources=step.resources.model_dump(mode="json"),
            inputs=inputs,
        )

    def following(self, step: Step, work: Work) -> Tail:
        """While it is open, what the step appends to its metrics file is handed on."""
        return Tail(work.scratch / "metrics.jsonl", self.journal, step.name)

    def step_built(self, step: Step, build: Build, store: Store) -> None:
        manifest = store.manifest(build.artifact)
        content: dict[str, JsonValue] = {}
        if manifest.kind == "shards":
            content["token_lengths"] = token_lengths(cast(Shards, store.open(build.artifact)))
        if manifest.kind == "report":
            content["report"] = json.loads(store.open(build.artifact).path("report.json").read_text())
        known = facts(store, build.artifact, build)
        if known is not None:
            content["card"] = card_text(known)
        self.journal.append(
            "step_built",
            step=step.name,
            key=build.key,
            artifact=build.artifact,
            address=store.place.root,
            manifest=manifest.model_dump(mode="json"),
            seconds=build.seconds,
            metrics=build.metrics,
            headline=build.headline,
            samples=build.samples,
            curves=build.curves,
            **content,
        )

    def step_reused(self, step: Step, build: Build, why: str) -> None:
        self.journal.append(
            "step_reused",
            step=step.name,
            task=step.task_name,
            key=build.key,
            artifact=build.artifact,
            kind=build.kind,
            why=why,
            built_by=build.mlflow_run,
            metrics=build.metrics,
            headline=build.headline,
        )

    def step_failed(self, step: Step, error: BaseException) -> None:
        message = str(error) if isinstance(error, AthanorError) else f"{type(error).__name__}: {error}"
        self.journal.append("step_failed", step=step.name, error=message)

    def run_of(self, step: str) -> str | None:
        """The MLflow run of a step of this run, if it is known by now; waited for once, not for every step."""
        while (found := Progress.of(self.journal.path).steps.get(step)) is None:
            if time.monotonic() > self._patience or self._sender.poll() is not None:
                return None
            time.sleep(0.1)
        return found

    def runs(self) -> dict[str, str]:
        """The MLflow runs of this run's steps, as far as they are known by now."""
        return dict(Progress.of(self.journal.path).steps)

    def experiment(self) -> str | None:
        """MLflow's experiment, if it is known yet."""
        return Progress.of(self.journal.path).experiment

    def close(self, status: str, steps: JsonValue, page: Path | None) -> dict[str, Any]:
        """End the run's records and wait until they are sent; returns MLflow's ``experiment``, ``run`` and ``steps``.

        What could not be sent stays in the outbox; ``failure`` then says why.
        """
        self.journal.append("run_ended", status=status, steps=steps, page=str(page) if page else None)
        answer = finish_sender(self._sender)
        self.journal.close()
        self.failure = answer.get("failure")
        if self.failure:
            count = waiting_records(self.home.outbox)
            self.failure = (
                f"MLflow at {self.home.tracking_uri} could not be written ({self.failure}); "
                f"{count} records wait in {self.home.outbox} and go out with the next run or `athanor up`"
            )
        identifiers: dict[str, Any] = answer.get("sent", {}).get(self.journal.path.stem, {})
        return identifiers

    def abandon(self) -> None:
        """Leave without waiting: the sender finishes by itself."""
        self.journal.append("run_ended", status="interrupted", steps={}, page=None)
        self.journal.close()
        if self._sender.stdin is not None:
            self._sender.stdin.close()


_early: list[subprocess.Popen[bytes]] = []


def start_early(home: Home) -> None:
    """Start the sender of this process's run ahead of time: it takes seconds to import MLflow."""
    _early.append(start_sender(home))


def start_sender(home: Home) -> subprocess.Popen[bytes]:
    """The process that sends what is in the outbox to MLflow until its standard input ends, ours included."""
    log = home.folder / "logs" / "mlflow-writer.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as errors:
        return subprocess.Popen(
            [sys.executable, "-m", "flows.mlflow_writer"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=mlflow_environment() | {"ATHANOR_HOME": str(home.folder)},
            cwd=os.path.dirname(os.path.dirname(os.path.abspath(__file__))),
            start_new_session=True,
        )


def finish_sender(sender: subprocess.Popen[bytes]) -> dict[str, Any]:
    """Let the sender send what is left, and end; its last word."""
    try:
        output, _ = sender.communicate(timeout=_DRAIN_SECONDS)
    except subprocess.TimeoutExpired:
        sender.kill()
        sender.communicate()
        return {"failure": f"no answer within {_DRAIN_SECONDS:.0f} s"}
    lines = output.decode().splitlines()
    if not lines:
        return {"failure": f"its writer ended with status {sender.returncode}"}
    answer: dict[str, Any] = json.loads(lines[-1])
    return answer
