"""What became of a step in a run: what the terminal, Prefect, MLflow and the run's page tell of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from flows.recipe import Step
from storage.artifact import JsonValue
from storage.builds import Build

Status = Literal["built", "reused", "failed", "skipped"]


@dataclass(frozen=True)
class StepOutcome:
    """What became of a step in a run."""

    step: str
    task: str
    status: Status
    why: str
    key: str | None = None
    artifact: str | None = None
    seconds: float = 0.0
    metrics: dict[str, float] = field(default_factory=dict)
    headline: str = ""
    verdict: str = ""
    """Of a rebuilt step: whether the bytes came out the same."""
    kind: str = ""
    samples: list[dict[str, str | None]] = field(default_factory=list)
    curves: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    built_at: datetime | None = None
    build_seconds: float = 0.0
    """What building took, when it was built; ``seconds`` is what the step took in this run."""
    mlflow_run: str | None = None

    def as_json(self) -> dict[str, JsonValue]:
        """The form that ``--json`` prints."""
        names = ("task", "status", "key", "artifact", "seconds", "metrics", "why")
        return {name: getattr(self, name) for name in names}


def outcome_of(step: Step, status: Status, why: str, build: Build, seconds: float) -> StepOutcome:
    """The outcome of a step that has an artifact; ``seconds``: what the step took in this run."""
    return StepOutcome(
        step=step.name,
        task=step.task_name,
        status=status,
        why=why,
        key=build.key,
        artifact=build.artifact,
        seconds=round(seconds, 3),
        metrics=build.metrics,
        headline=build.headline,
        kind=build.kind,
        samples=build.samples,
        curves=build.curves,
        built_at=build.started_at,
        build_seconds=build.seconds,
        mlflow_run=build.mlflow_run,
    )
