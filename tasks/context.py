"""The context that a task runs in, over plain folders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

from storage.artifact import Artifact, JsonValue
from storage.corpus import Partition
from storage.identity import digest_of_file, digest_of_value
from tasks.parallel import PartitionJob, map_partitions
from tasks.task import Input, PartitionFunction, PartitionResult, Progress, Resources, World

PLUMBING = "it hands a task what the key already accounts for"

A = TypeVar("A", bound=Artifact)


class PartitionMemory(Protocol):
    """Remembers what partitions were made into, from build to build."""

    def recall(self, key: str) -> tuple[dict[str, JsonValue], dict[str, Path]] | None:
        """Stats and files (``{stem}`` in their names standing for the partition's), or None."""

    def remember(self, key: str, stats: dict[str, JsonValue], files: dict[str, Path]) -> None:
        """Keep them for later builds."""


@dataclass(frozen=True)
class PlainWorld:
    """The outside world, with no memory of digests."""

    folder: Path
    limit: int | None = None

    def digest_of_file(self, path: Path) -> str:
        return digest_of_file(path)


def silent(done: int, total: int | None, unit: str, note: str = "") -> None:
    """A progress that nobody watches."""


@dataclass(frozen=True)
class RunContext:
    """See ``tasks.task.Context``."""

    output: Path
    scratch: Path
    world: World
    inputs: Mapping[Input[Any], Artifact] = field(default_factory=dict)
    resources: Resources = field(default_factory=Resources)
    seed: int = 0
    progress: Progress = silent
    previous: Artifact | None = None
    identity: str = ""
    """Digest of the task's settings, code and libraries: what a partition's result depends on beside its bytes."""
    memory: PartitionMemory | None = None
    lock_fds: tuple[int, ...] = ()
    """Descriptors of the build's lock, for training processes to hold as well."""

    @property
    def metrics_file(self) -> Path:
        return self.scratch / "metrics.jsonl"

    def open(self, reference: Input[A]) -> A:
        artifact: A = self.inputs[reference]  # type: ignore[assignment]  # kinds are checked when the recipe is read
        return artifact

    def map_partitions(
        self,
        function: PartitionFunction,
        payload: Any,
        partitions: Sequence[Partition],
        *,
        depends_on: Sequence[Artifact] = (),
        seconds_per_document: float = 60.0,
        output: Path | None = None,
    ) -> list[PartitionResult]:
        name = f"{function.__module__}.{function.__qualname__}"
        beside = [artifact.digest for artifact in depends_on]

        def key(partition: Partition) -> str:
            return digest_of_value([self.identity, name, beside, partition.digest])

        def recall(partition: Partition) -> tuple[dict[str, JsonValue], dict[str, Path]] | None:
            known = self.memory.recall(key(partition)) if self.memory else None
            if known is None:
                return None
            stem = Path(partition.name).stem
            return known[0], {pattern.replace("{stem}", stem): path for pattern, path in known[1].items()}

        def remember(partition: Partition, stats: dict[str, JsonValue], files: dict[str, Path]) -> None:
            if self.memory:
                stem = Path(partition.name).stem
                patterns = {made.replace(stem, "{stem}"): path for made, path in files.items()}
                self.memory.remember(key(partition), stats, patterns)

        job = PartitionJob(
            output=output or self.output,
            scratch=self.scratch / "partitions" / name,
            workers=self.resources.workers,
            progress=self.progress,
            recall=recall,
            remember=remember,
        )
        return map_partitions(job, function, payload, partitions, seconds_per_document)
