"""How each record of a journal is written down in MLflow."""

from __future__ import annotations

import json
import re
import sqlite3
import sys
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import (
    INVALID_PARAMETER_VALUE,
    RESOURCE_ALREADY_EXISTS,
    RESOURCE_DOES_NOT_EXIST,
    ErrorCode,
)
from mlflow.tracking import MlflowClient

from flows import pictures
from flows.card import CARD, without_header
from flows.home import Home
from flows.journal import Progress
from flows.markdown import sample_lines

_REFUSED = {
    ErrorCode.Name(code) for code in (INVALID_PARAMETER_VALUE, RESOURCE_ALREADY_EXISTS, RESOURCE_DOES_NOT_EXIST)
}
"""Answers about one record (its run was deleted by a person, a name that MLflow does not take), not about MLflow."""
_LONGEST_NAME = 250
_NOT_IN_NAMES = re.compile(r"[^\w. :-]|\.{2,}")
_LONGEST_PARAMETER = 6000
_LONGEST_TAG = 8000
_LONGEST_DATASET_DIGEST = 36
_LONGEST_DESCRIPTION = 5000


class Records:
    """Writes records; every method may be called again with the same record."""

    def __init__(self, home: Home) -> None:
        self.home = home
        home.folder.mkdir(parents=True, exist_ok=True)
        self.client = MlflowClient(home.tracking_uri)
        self.client.search_experiments(max_results=1)
        if self.client.tracking_uri == f"sqlite:///{home.mlflow_database}":
            _write_ahead(home.mlflow_database)
        self._known: dict[str, dict[str, int]] = {}
        """MLflow run → metric → last step it holds from an interrupted build."""

    def send(self, record: dict[str, Any], progress: Progress, journal: Path) -> None:
        """Write one record. One that MLflow refuses for what it says is left out, with a line in the log."""
        try:
            getattr(self, f"_{record['event']}")(record, progress, journal)
        except MlflowException as error:
            if error.error_code not in _REFUSED:
                raise
            print(f"left out {record['event']} {record.get('step', '')}: {error}", file=sys.stderr)  # noqa: T201

    def close_killed(self, progress: Progress) -> None:
        """End the runs of a pipeline run that was killed. A step's run is gone on with when its build is."""
        for run in [*progress.steps.values(), progress.parent]:
            if run is not None and self.client.get_run(run).info.status == "RUNNING":
                self.client.set_terminated(run, "KILLED")

    # One method per event

    def _run_started(self, record: dict[str, Any], progress: Progress, journal: Path) -> None:
        progress.experiment = self._experiment(record["recipe"])
        found = self._find(progress.experiment, **{"athanor.run": record["run_id"], "athanor.level": "run"})
        if found:
            progress.parent = found[0].info.run_id
            return
        tags = {"athanor.run": record["run_id"], "athanor.level": "run", "athanor.recipe": record["recipe"]}
        run = self._create(progress, record, f"{record['recipe']} {record['run_id'][:8]}", tags)
        progress.parent = run
        self.client.log_batch(run, params=params_of(record["parameters"]))

    def _step_started(self, record: dict[str, Any], progress: Progress, journal: Path) -> None:
        run_on = {**flat(record["resources"], "resources"), **flat(record["libraries"], "library")}
        tags = self._step_tags(record, progress, journal) | {f"athanor.{name}": str(v) for name, v in run_on.items()}
        params = params_of({**flat(record["settings"]), "seed": record["seed"]})
        run = self._interrupted(record, progress)
        if run is None:
            run = self._create(progress, record, record["step"], tags)
            self.client.log_batch(run, params=params)
        else:
            self.client.log_batch(run, params=params, tags=tags_of(tags))
            self.client.update_run(run, status="RUNNING")
        progress.steps[record["step"]] = run
        if record["inputs"]:
            self.client.log_inputs(run, [_dataset(slot) for slot in record["inputs"]])

    def _points(self, record: dict[str, Any], progress: Progress, journal: Path) -> None:
        run = progress.steps[record["step"]]
        known = self._known.get(run, {})
        metrics = [
            Metric(name, float(value), record["at"], int(row["step"]))
            for row in record["rows"]
            for name, value in row.items()
            if name != "step" and int(row["step"]) > known.get(name, -1)
        ]
        self.client.log_batch(run, metrics=metrics)

    def _step_built(self, record: dict[str, Any], progress: Progress, journal: Path) -> None:
        run, step, manifest = progress.steps[record["step"]], record["step"], record["manifest"]
        values = {**record["metrics"], "seconds": record["seconds"]}
        metrics = [Metric(name_of(name), float(value), record["at"], 0) for name, value in values.items()]
        tags = {"outcome": "built", "kind": manifest["kind"]}
        tags |= {name: record[name] for name in ("artifact", "address", "headline")}
        self.client.log_batch(run, metrics=metrics, tags=tags_of(tags, "athanor."))
        self.client.log_dict(run, manifest, "manifest.json")
        if record.get("report"):
            self.client.log_dict(run, record["report"], "report.json")
        if record.get("card"):
            self.client.log_text(run, record["card"], CARD)
        if record["samples"]:
            self.client.log_text(run, samples_text(record["samples"]), "samples.md")
        drawn = {
            "training.png": pictures.draw_training(record.get("curves", {}), step),
            "dropped.png": pictures.draw_reasons(record["metrics"], f"{step}: documents dropped, by reason"),
        }
        if record.get("token_lengths", {}).get("counts"):
            drawn["token_lengths.png"] = pictures.draw_token_lengths(record["token_lengths"], step)
        for name, figure in drawn.items():
            if figure is not None:
                self.client.log_figure(run, figure, f"pictures/{name}")
        if manifest["kind"] in ("model", "adapter"):
            self._register(run, record, progress)
        self.client.set_terminated(run, "FINISHED", record["at"])

    def _step_reused(self, record: dict[str, Any], progress: Progress, journal: Path) -> None:
        if record["step"] in progress.steps:
            return
        built_by = record["built_by"] or self._builder(progress, record["key"])
        tags = self._step_tags(record, progress, journal) | {
            "athanor.outcome": "reused",
            "athanor.artifact": record["artifact"],
            "athanor.kind": record["kind"],
            "athanor.headline": record["headline"],
            "athanor.why": record["why"],
        }
        if built_by:
            tags["athanor.built_by"] = built_by
            link = f"#/experiments/{progress.experiment}/runs/{built_by}"
            tags["mlflow.note.content"] = f"Reused; built by run [{built_by[:8]}]({link})."
        run = self._create(progress, record, record["step"], tags)
        progress.steps[record["step"]] = run
        self.client.set_terminated(run, "FINISHED", record["at"])

    def _step_failed(self, record: dict[str, Any], progress: Progress, journal: Path) -> None:
        run = progress.steps.get(record["step"])
        if run is not None:
            self.client.log_batch(run, tags=tags_of({"outcome": "failed", "error": record["error"]}, "athanor."))
            self.client.set_terminated(run, "FAILED", record["at"])

    def _run_ended(self, record: dict[str, Any], progress: Progress, journal: Path) -> None:
        if progress.parent is None:
            return
        metrics = {name: step.get("metrics", {}) for name, step in record["steps"].items()}
        figure = pictures.draw_documents(metrics)
        if figure is not None:
            self.client.log_figure(progress.parent, figure, "pictures/documents.png")
        page = Path(record["page"]) if record.get("page") else None
        if page is not None and page.exists():
            self.client.log_text(progress.parent, page.read_text(encoding="utf-8"), "report.html")
        if record["steps"]:
            self.client.log_dict(progress.parent, record["steps"], "steps.json")
        self.client.log_batch(progress.parent, tags=tags_of({"outcome": record["status"]}, "athanor."))
        status = {"done": "FINISHED", "interrupted": "KILLED"}.get(record["status"], "FAILED")
        if status == "KILLED":
            self.close_killed(progress)
        else:
            self.client.set_terminated(progress.parent, status, record["at"])

    # Helpers

    def _experiment(self, recipe: str) -> str:
        """Identifier of the recipe's experiment, made or taken out of the bin if need be."""
        found = self.client.get_experiment_by_name(recipe)
        if found is None:
            location = (
                (self.home.mlflow_files / recipe).as_uri() if self.client.tracking_uri.startswith("sqlite") else None
            )
            try:
                return str(self.client.create_experiment(recipe, artifact_location=location))
            except MlflowException as error:
                found = self.client.get_experiment_by_name(recipe)  # another run was first
                if found is None:
                    raise error
        if found.lifecycle_stage == "deleted":
            self.client.restore_experiment(found.experiment_id)
        return str(found.experiment_id)

    def _create(self, progress: Progress, record: dict[str, Any], name: str, tags: dict[str, str]) -> str:
        shortened = {tag.key: tag.value for tag in tags_of(tags)}
        assert progress.experiment is not None
        run = self.client.create_run(progress.experiment, start_time=record["at"], tags=shortened, run_name=name)
        return str(run.info.run_id)

    def _step_tags(self, record: dict[str, Any], progress: Progress, journal: Path) -> dict[str, str]:
        return {
            "mlflow.parentRunId": progress.parent or "",
            "athanor.level": "step",
            "athanor.run": journal.stem,
            "athanor.step": record["step"],
            "athanor.task": record["task"],
            "athanor.key": record["key"],
        }

    def _interrupted(self, record: dict[str, Any], progress: Progress) -> str | None:
        """The run of a build of the same key that was killed, to be gone on with; it keeps what it has."""
        assert progress.experiment is not None
        for run in self._find(progress.experiment, **{"athanor.key": record["key"], "athanor.level": "step"}):
            if run.data.tags.get("athanor.outcome") in (None, "failed"):
                self._known[run.info.run_id] = self._last_steps(run)
                return str(run.info.run_id)
        return None

    def _last_steps(self, run: Run) -> dict[str, int]:
        histories = {name: self.client.get_metric_history(run.info.run_id, name) for name in run.data.metrics}
        return {name: max(metric.step for metric in history) for name, history in histories.items() if history}

    def _builder(self, progress: Progress, key: str) -> str | None:
        assert progress.experiment is not None
        found = self._find(progress.experiment, **{"athanor.key": key, "athanor.outcome": "built"})
        return str(found[0].info.run_id) if found else None

    def _find(self, experiment: str, **tags: str) -> list[Run]:
        condition = " and ".join(f"tags.\"{name}\" = '{value}'" for name, value in tags.items())
        return list(self.client.search_runs([experiment], condition, max_results=5, order_by=["start_time DESC"]))

    def _register(self, run: str, record: dict[str, Any], progress: Progress) -> None:
        """A version of the registered model RECIPE.STEP, once per artifact; alias ``current`` moves to it."""
        experiment = self.client.get_experiment(progress.experiment)
        name = f"{experiment.name}.{record['step']}"
        try:
            self.client.create_registered_model(name)
        except MlflowException as error:
            if error.error_code != ErrorCode.Name(RESOURCE_ALREADY_EXISTS):
                raise
        versions = self.client.search_model_versions(f"name = '{name}'")
        version = next((v for v in versions if v.tags.get("athanor.artifact") == record["artifact"]), None)
        if version is None:
            tags = {"athanor.artifact": record["artifact"], "athanor.kind": record["manifest"]["kind"]}
            source = f"{self.client.get_run(run).info.artifact_uri}/manifest.json"
            described = without_header(record.get("card", "")) or record["headline"]
            description = described[:_LONGEST_DESCRIPTION]
            version = self.client.create_model_version(name, source, run, tags=tags, description=description or None)
        self.client.set_registered_model_alias(name, "current", version.version)


def _write_ahead(database: Path) -> None:
    """Have what is written to our own database wait for the disk once, not three times. It stays so."""
    with closing(sqlite3.connect(database)) as connection:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:  # another is at work with it; the next sender tries again
            print(f"{database}: still without a write-ahead log: {error}", file=sys.stderr)  # noqa: T201


def _dataset(slot: dict[str, Any]) -> DatasetInput:
    """An input artifact, as MLflow draws lineage."""
    source = json.dumps({"address": slot["address"], "artifact": slot["artifact"]})
    dataset = Dataset(slot["name"], slot["artifact"][:_LONGEST_DATASET_DIGEST], "athanor", source)
    return DatasetInput(dataset, [InputTag("mlflow.data.context", slot["slot"])])


def params_of(values: Mapping[str, Any]) -> list[Param]:
    """Settings as MLflow takes them, but for those that are not set."""
    return [Param(name_of(k), str(v)[:_LONGEST_PARAMETER]) for k, v in flat(values).items() if v is not None]


def tags_of(values: Mapping[str, Any], prefix: str = "") -> list[RunTag]:
    """Tags as MLflow takes them, but for empty ones."""
    return [RunTag(f"{prefix}{name}", str(v)[:_LONGEST_TAG]) for name, v in values.items() if v not in (None, "")]


def name_of(name: str) -> str:
    """The name of a metric or parameter as MLflow takes it: labels that users choose may hold any character."""
    return _NOT_IN_NAMES.sub("_", name)[:_LONGEST_NAME]


def flat(value: Any, place: str = "") -> dict[str, Any]:
    """Nested settings as one level: ``optimizer.learning_rate``, ``sources.0.path``."""
    result: dict[str, Any] = {}
    if isinstance(value, dict):
        items = [(str(name), child) for name, child in value.items()]
    elif isinstance(value, list) and any(isinstance(item, (dict, list)) for item in value):
        items = [(str(index), child) for index, child in enumerate(value)]
    else:
        return {place: value}
    for name, child in items:
        result.update(flat(child, f"{place}.{name}" if place else name))
    return result


def samples_text(samples: list[dict[str, Any]]) -> str:
    """Samples as markdown: titles, and the texts in blocks, one below the other."""
    parts: list[str] = []
    for sample in samples:
        parts += [f"## {sample['title']}", "", *sample_lines(sample), ""]
    return "\n".join(parts)
