"""Run a single task on plain folders, with no store, no Prefect and no MLflow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from storage.artifact import Artifact, JsonValue
from storage.memory import PartitionRecord
from tasks.context import PlainWorld, RunContext
from tasks.task import Resources, Result, Task

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
"""Real data beside the project; tests that need it are skipped where it is absent."""


@dataclass(frozen=True)
class Outcome:
    """What a task made, opened, and what it said."""

    artifact: Artifact
    result: Result


@dataclass
class FolderMemory:
    """Remembers results of partitions in a folder (see ``tasks.context.PartitionMemory``)."""

    folder: Path
    known: dict[str, PartitionRecord] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)
    found: list[str] = field(default_factory=list)
    """Keys asked for whose results were there. A list, since several threads ask at once."""

    @property
    def hits(self) -> int:
        """How often a result was asked for that was there."""
        return len(self.found)

    def recall(self, key: str) -> PartitionRecord | None:
        if key in self.known:
            self.found.append(key)
        return self.known.get(key)

    def whole(self, key: str) -> PartitionRecord | None:
        return self.known.get(key)

    def before(self, place: str) -> PartitionRecord | None:
        return self.known.get(self.places.get(place, ""))

    def remember(
        self, key: str, record: PartitionRecord, short: dict[str, JsonValue] | None = None
    ) -> Mapping[str, Path]:
        kept = {}
        self.folder.mkdir(parents=True, exist_ok=True)
        for name, path in record.files.items():
            # Called from several threads: the name must be this result's alone.
            kept[name] = self.folder / f"{key}-{name}"
            path.replace(kept[name])
        self.known[key] = replace(record, files=kept)
        return kept

    def used(self, key: str, place: str) -> None:
        self.places[place] = key


def run_task(
    task: Task,
    inputs: Mapping[str, Artifact],
    tmp_path: Path,
    *,
    name: str = "step",
    seed: int = 1,
    workers: int = 2,
    resources: Resources | None = None,
    folder: Path | None = None,
    limit: int | None = None,
    previous: Artifact | None = None,
    makers: Mapping[str, Task] | None = None,
) -> Outcome:
    """Run ``task`` with ``inputs``, made by ``makers``, by slot (``documents``, ``models[1]``) in ``tmp_path/name``."""
    output, scratch = tmp_path / name / "output", tmp_path / name / "scratch"
    output.mkdir(parents=True, exist_ok=True)
    scratch.mkdir(parents=True, exist_ok=True)
    references = task.inputs()
    assert set(references) == set(inputs), f"{set(references)} != {set(inputs)}"
    context = RunContext(
        output=output,
        scratch=scratch,
        world=PlainWorld(folder or tmp_path, limit),
        inputs={references[slot]: artifact for slot, artifact in inputs.items()},
        resources=resources or Resources(workers=workers),
        seed=seed,
        previous=previous,
        makers={references[slot]: maker for slot, maker in (makers or {}).items()},
    )
    result = task.run(context)
    return Outcome(task.kind().of_folder(output, result.counts), result)
