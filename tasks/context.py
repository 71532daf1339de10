"""The context that a task runs in, over plain folders."""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

from storage.artifact import Artifact, JsonValue
from storage.corpus import Partition
from storage.disk import link
from storage.identity import digest_of_file, digest_of_value
from storage.memory import PartitionRecord
from storage.stored import AnyFile, located, places_of
from storage.takedown import Takedowns
from tasks.parallel import PartitionJob, Recalled, map_partitions
from tasks.rows import Before, RowWork, work_on_rows
from tasks.tally import in_short
from tasks.task import Input, PartitionFunction, PartitionResult, Progress, Resources, Task, World

PLUMBING = "it hands a task what the key already accounts for"

A = TypeVar("A", bound=Artifact)
T = TypeVar("T")

_PLACE_DIGITS = 32


class PartitionMemory(Protocol):
    """Remembers what partitions were made into, from build to build."""

    def recall(self, key: str) -> PartitionRecord | None:
        """What the step's earlier builds had under this key, in short and at once.

        ``{stem}`` in names of files stands for the partition's.
        """

    def whole(self, key: str) -> PartitionRecord | None:
        """All that was remembered under this key, by whatever build."""

    def before(self, place: str) -> PartitionRecord | None:
        """All that an earlier build of the same step remembered last of the partition at this place."""

    def remember(
        self, key: str, record: PartitionRecord, short: dict[str, JsonValue] | None = None
    ) -> Mapping[str, Path]:
        """Take it for later builds, with its stats in short.

        Returns its files as they are to be opened from then on; nothing is left where they were.
        """

    def used(self, key: str, place: str) -> None:
        """Note that this build has what was remembered under this key at this place."""


@dataclass
class Reuse:
    """How much of a build's work had been done before, over all its ``map_partitions`` and ``map_rows``."""

    partitions: dict[str, bool] = field(default_factory=dict)
    """Name of a partition → whether its results were all there."""
    rows: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Name of a partition → its rows, and how many of them had to be worked on."""

    def add(self, result: PartitionResult) -> None:
        """Take account of what became of a partition."""
        self.partitions[result.name] = result.reused and self.partitions.get(result.name, True)
        if "rows" in result.stats:
            rows, worked = self.rows.get(result.name, (0, 0))
            new = 0 if result.reused else result.stats["rows"] - result.stats["rows_reused"]
            self.rows[result.name] = (max(rows, result.stats["rows"]), max(worked, new))

    def metrics(self) -> dict[str, float]:
        """``partitions_reused`` and ``rows_reused``, beside how many there were."""
        found: dict[str, float] = {}
        if self.partitions:
            found |= {"partitions": len(self.partitions), "partitions_reused": sum(self.partitions.values())}
        if self.rows:
            found |= {
                "rows": sum(n for n, _ in self.rows.values()),
                "rows_reused": sum(n - worked for n, worked in self.rows.values()),
            }
        return found


@dataclass(frozen=True)
class PlainWorld:
    """The outside world, with no memory."""

    folder: Path
    limit: int | None = None

    def digest_of_file(self, path: str | Path) -> str:
        return digest_of_file(Path(path))

    def once(self, question: Hashable, find: Callable[[], T]) -> T:
        return find()


def silent(done: int, total: int | None, unit: str, note: str = "", begun: int = 0) -> None:
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
    state: Artifact | None = None
    identity: str = ""
    """Digest of the task's settings, code and libraries: what a partition's result depends on beside its bytes."""
    memory: PartitionMemory | None = None
    reuse: Reuse = field(default_factory=Reuse)
    lock_fds: tuple[int, ...] = ()
    """Descriptors of the build's lock, for training processes to hold as well."""
    takedowns: Takedowns = field(default_factory=Takedowns)
    """The requests to leave documents out."""
    shared: dict[str, AnyFile] | None = None
    """Files of the output that are objects of the store already, by name. None: ``output`` has links to them."""
    makers: Mapping[Input[Any], Task] = field(default_factory=dict)
    """The steps that made the inputs."""
    compiled: Path | None = None

    @property
    def metrics_file(self) -> Path:
        return self.scratch / "metrics.jsonl"

    def maker(self, reference: Input[Any]) -> Task | None:
        return self.makers.get(reference)

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
        remembered: bool = True,
    ) -> list[PartitionResult]:
        name = f"{function.__module__}.{function.__qualname__}"
        if not remembered:
            job = self._job(name, output)
            return map_partitions(job, function, payload, partitions, seconds_per_document)
        return self._map(name, function, payload, partitions, depends_on, seconds_per_document, output)

    def map_rows(
        self,
        work: RowWork,
        partitions: Sequence[Partition],
        *,
        depends_on: Sequence[Artifact] = (),
        seconds_per_document: float = 60.0,
        output: Path | None = None,
    ) -> list[PartitionResult]:
        name = f"{type(work).__module__}.{type(work).__qualname__}"
        return self._map(name, work_on_rows, work, partitions, depends_on, seconds_per_document, output, work)

    def _map(
        self,
        name: str,
        function: PartitionFunction,
        payload: Any,
        partitions: Sequence[Partition],
        depends_on: Sequence[Artifact],
        seconds_per_document: float,
        output: Path | None,
        rows: RowWork | None = None,
    ) -> list[PartitionResult]:
        """``rows``: what is done to rows, if single rows are to be reused."""
        same = digest_of_value([self.identity, name, [artifact.digest for artifact in depends_on]])[:_PLACE_DIGITS]

        keys = {partition.name: digest_of_value([same, partition.digest]) for partition in partitions}
        outdated: set[str] = set()

        def place(partition: Partition) -> str:
            return f"{same}/{partition.name}"

        def recall(partition: Partition) -> Recalled | None:
            assert self.memory is not None
            here = keys[partition.name]
            known = self.memory.recall(here) or self.memory.whole(here)
            if known is not None and (rows is None or not rows.is_outdated(known.files, known.stats)):
                return Recalled(known.stats, _named(known.files, partition), partial(_stats_of, self.memory, here))
            if known is not None:
                outdated.add(partition.name)
            return None

        def prepared(function: PartitionFunction, partition: Partition) -> PartitionFunction:
            if rows is None:
                return function
            assert self.memory is not None
            again = partition.name in outdated
            earlier = self.memory.whole(keys[partition.name]) if again else self.memory.before(place(partition))
            if earlier is None or not earlier.rows:
                return function
            return partial(work_on_rows, before=Before(earlier.rows, earlier.stats, dict(earlier.files.items())))

        def remember(
            partition: Partition, stats: dict[str, JsonValue], files: Mapping[str, Path]
        ) -> Mapping[str, AnyFile]:
            assert self.memory is not None
            record = stats.pop("record", "")
            stem = Path(partition.name).stem
            patterns = {made.replace(stem, "{stem}"): path for made, path in files.items()}
            whole = PartitionRecord(stats, patterns, record)
            return _named(self.memory.remember(keys[partition.name], whole, in_short(stats)), partition)

        job = self._job(name, output)
        if self.memory is not None:
            job = replace(job, recall=recall, remember=remember, prepared=prepared)
        results = map_partitions(job, function, payload, partitions, seconds_per_document)
        for partition, result in zip(partitions, results, strict=True):
            self.reuse.add(result)
            if self.memory:
                self.memory.used(keys[partition.name], place(partition))
        return results

    def _job(self, name: str, output: Path | None) -> PartitionJob:
        return PartitionJob(
            output=output or self.output,
            scratch=self.scratch / "partitions" / name,
            resources=self.resources,
            progress=self.progress,
            reuse=partial(self._reused, output),
        )

    def take_over(self, name: str, where: AnyFile) -> None:
        self._reused(None, name, where)

    def _reused(self, output: Path | None, name: str, where: AnyFile) -> AnyFile:
        """Have a file that is there already in ``output``, the artifact's unless it is another; where it is."""
        if self.shared is None:
            place = (output or self.output) / name
            link(place, located(where).resolve())
            return place
        if output is None:
            self.shared[name] = where
        return where

    def keep(self, path: Path) -> None:
        if self.memory is not None:
            place = self._place_of(path.name)
            key = digest_of_value([place, digest_of_file(path)])
            self.memory.remember(key, PartitionRecord({}, {path.name: path}))
            self.memory.used(key, place)

    def kept(self, name: str) -> Path | None:
        record = self.memory.before(self._place_of(name)) if self.memory is not None else None
        return record.files[name] if record is not None else None

    def _place_of(self, name: str) -> str:
        """Where a file of this step is kept, whatever the partitions."""
        return f"{digest_of_value([self.identity, 'kept'])[:_PLACE_DIGITS]}/{name}"


def _stats_of(memory: PartitionMemory, key: str) -> dict[str, JsonValue] | None:
    """All of the stats under a key, as far as they are still remembered."""
    record = memory.whole(key)
    return record.stats if record is not None else None


def _named(files: Mapping[str, Path], partition: Partition) -> Mapping[str, AnyFile]:
    stem, _ = os.path.splitext(partition.name)
    return {pattern.replace("{stem}", stem): where for pattern, where in places_of(files).items()}
