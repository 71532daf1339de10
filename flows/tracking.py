"""What MLflow is to know about a run: written to the run's journal, sent by another process (``flows.senders``).

No process that builds imports MLflow (it takes six seconds to) or waits for it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flows.card import card_text, facts
from flows.home import Home
from flows.journal import Journal, Progress, Tail, waiting_records
from flows.pictures import token_lengths
from flows.recipe import Step
from flows.senders import Sender, sender_for
from storage.artifact import JsonValue
from storage.builds import Build, Identity
from storage.errors import AthanorError
from storage.shard_index import INDEX, read_index
from storage.store import Store, Work

_LINK_SECONDS = 5.0
"""How long all steps together wait to learn their MLflow runs, since a sender may still be importing MLflow."""
_POLL_SECONDS = 0.05


class Tracker:
    """The records of one pipeline run."""

    def __init__(self, home: Home, recipe: str, run_id: str, parameters: Mapping[str, JsonValue]) -> None:
        self.home = home
        self.journal = Journal(home.outbox, run_id)
        self._sender = _early.pop() if _early else sender_for(home)
        self.journal.append(
            "run_started", recipe=recipe, run_id=run_id, parameters=dict(parameters), sender=self._sender.process
        )
        self.failure: str | None = None
        self._patience = _LINK_SECONDS

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
            content["token_lengths"] = token_lengths(read_index(store.file(manifest, INDEX)))
        if manifest.kind == "report":
            content["report"] = json.loads(store.file(manifest, "report.json").read_text())
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

    def sent(self) -> Progress:
        """What MLflow calls this run, its experiment and its steps, as far as they are known by now."""
        return Progress.of(self.journal.path)

    def run_of(self, step: str) -> str | None:
        """The MLflow run of a step of this run, if it is known by now."""
        return self.sent().steps.get(step)

    def wait_for_run(self, step: str) -> str | None:
        """The same, if it is known soon. It may take the sender's time: not for a thread that builds."""
        while (found := (sent := self.sent()).steps.get(step)) is None:
            if self._patience <= 0 or sent.failure or not self._sender.lives():
                return None
            time.sleep(_POLL_SECONDS)
            self._patience -= _POLL_SECONDS
        return found

    def close(self, status: str, steps: JsonValue, page: Path | None) -> dict[str, Any]:
        """End the run's records and wait until they are sent; returns MLflow's ``experiment``, ``run`` and ``steps``.

        What could not be sent stays in the outbox; ``failure`` then says why.
        """
        self.journal.append("run_ended", status=status, steps=steps, page=str(page) if page else None)
        answer = self._sender.finish(self.journal)
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
        self._sender.leave()


_early: list[Sender] = []


def start_early(home: Home) -> None:
    """Have the sender of this process's run ahead of time: it may take seconds to import MLflow."""
    _early.append(sender_for(home))
