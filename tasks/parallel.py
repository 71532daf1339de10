"""Work on the partitions of a corpus in worker processes: the only place that starts processes for data work.

A worker that dies takes nothing with it: the document it died of is remembered, the partition is
worked on again without it, and the other partitions never notice. A worker that is killed from
outside (out of memory, with its host, by a person) is nobody's fault: its partition is tried again,
with fewer of them at a time. A finished partition is published by the parent alone, by renaming, so
a worker that outlives its parent for a moment cannot touch a later run's files.
"""

from __future__ import annotations

import pickle
import shutil
import signal
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any, Protocol

from storage.artifact import JsonValue
from storage.corpus import Partition
from storage.errors import StepFailed
from storage.stored import AnyFile, StoredFile, files_at
from tasks.engines.cluster import RayEngine, first_party
from tasks.engines.local import LocalEngine, start_ahead
from tasks.engines.worker import Done, Work, WorkerDied, die_with_parent
from tasks.finished import Finished
from tasks.task import PartitionFunction, PartitionResult, Progress, Resources

__all__ = ["PartitionJob", "die_with_parent", "map_partitions", "start_workers"]

PLUMBING = "where a partition is worked on cannot shape its bytes: a function sees only its arguments"

_MAX_LOST_PER_PARTITION = 100
"""More documents than this that kill their worker, in one partition, are a broken step, not bad documents."""
_MAX_KILLS_PER_DOCUMENT = 3
"""So often a partition is tried again whose worker was killed from outside, before the document at hand is blamed."""
_PUBLISHERS = 8
"""Threads of the parent that look for earlier results, fetch partitions, and put new results into the store."""
_LOOKED_FOR = 16
"""Partitions whose earlier results one thread looks for at a time."""
_FETCHED_AHEAD = 8
"""Partitions of a remote store that are fetched, or are being fetched, before there is room to work on them."""


@dataclass(frozen=True)
class Recalled:
    """What an earlier build made of a partition."""

    stats: dict[str, JsonValue]
    files: Mapping[str, AnyFile]
    whole: Callable[[], dict[str, JsonValue] | None]
    """See ``PartitionResult``."""


@dataclass(frozen=True)
class PartitionJob:
    """What has to be known to work on partitions: where results go, and how they are recognised."""

    output: Path
    """Folder for the finished files."""
    scratch: Path
    """Folder for unfinished files, and for the record of finished partitions."""
    resources: Resources
    progress: Progress
    recall: Callable[[Partition], Recalled | None] = lambda partition: None
    """The result of a partition that an earlier build has worked on, or this one before it was killed, if any.
    Called from several threads."""
    reuse: Callable[[str, AnyFile], AnyFile] = lambda name, where: where
    """Called with the name and the place of each file that was recalled or remembered; says where it is now."""
    prepared: Callable[[PartitionFunction, Partition], PartitionFunction] = lambda function, partition: function
    """What is to be done with a partition: the function, with what it is to know of an earlier result."""
    remember: Callable[[Partition, dict[str, JsonValue], Mapping[str, Path]], Mapping[str, AnyFile]] | None = None
    """Called with each newly finished partition, from several threads; takes its files, and says where they are.
    None: nothing is remembered, and files are moved to ``output``."""


class Engine(Protocol):
    """Where work is done."""

    def begin(self, payload: bytes) -> None:
        """Take what all partitions need: it is handed over once, not with each."""

    def slots(self) -> int:
        """How many partitions it should have at a time; may change from one moment to the next."""

    def submit(self, work: Work) -> Future[Any]:
        """Begin to work on a partition."""

    def result(self, work: Work, future: Future[Any]) -> Done:
        """What came of it. Raises WorkerDied if its process ended before; exceptions of the function pass through."""

    def shrink(self) -> None:
        """Work on fewer partitions at a time from now on."""

    def cancel(self, future: Future[Any]) -> None:
        """Nobody waits for this any more."""


def start_workers(resources: Resources, modules: Sequence[str]) -> None:
    """Have this machine's workers ready when they are needed, with these modules imported; returns at once."""
    if resources.engine == "local":
        threading.Thread(target=_start_workers, args=(resources.workers, modules), name="start-workers").start()


def _start_workers(workers: int, modules: Sequence[str]) -> None:
    # Inherited by the workers: Ctrl-C is for the main thread alone, also before they can say so themselves.
    resource_tracker.ensure_running()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    start_ahead(workers, modules)


def map_partitions(
    job: PartitionJob,
    function: PartitionFunction,
    payload: Any,
    partitions: Sequence[Partition],
    seconds_per_document: float,
) -> list[PartitionResult]:
    """Apply ``function`` to every partition; results in the order of ``partitions``.

    Raises StepFailed when a partition kills its workers for no document that could be left out;
    an exception of ``function`` passes through.
    """
    run = _Run(job, function, payload, partitions, seconds_per_document)
    results: dict[str, PartitionResult] = {}
    with ThreadPoolExecutor(_PUBLISHERS, thread_name_prefix="partitions") as threads:
        left: deque[Partition] = deque()
        # Some at a time: to hand over each by itself would cost more than to look for it.
        together = [partitions[first : first + _LOOKED_FOR] for first in range(0, len(partitions), _LOOKED_FOR)]
        found = chain.from_iterable(threads.map(lambda some: [run.known(one) for one in some], together))
        for partition, known in zip(partitions, found, strict=True):
            if known is None:
                left.append(partition)
            else:
                results[partition.name] = known
        if left:
            run.begin(left, threads)
            _work_through(run, left, results, threads)
    return [results[partition.name] for partition in partitions]


def _work_through(
    run: _Run, left: deque[Partition], results: dict[str, PartitionResult], threads: ThreadPoolExecutor
) -> None:
    """Keep the engine busy, with no more partitions in its hands than it asks for, until none is ``left``."""
    engine = run.engine_for(left)
    fetching: dict[Future[tuple[Path, PartitionFunction]], Partition] = {}
    ready: deque[tuple[Partition, Path, PartitionFunction]] = deque()
    working: dict[Future[Any], tuple[Partition, Work]] = {}
    publishing: dict[Future[PartitionResult], Partition] = {}
    try:
        while left or fetching or ready or working or publishing:
            while left and len(fetching) + len(ready) < _FETCHED_AHEAD:
                partition = left.popleft()
                if isinstance(partition.where, Path):
                    ready.append((partition, *run.prepare(partition)))
                else:
                    fetching[threads.submit(run.prepare, partition)] = partition
            # Where publishing is slow, what waits for it must not pile up.
            while ready and len(working) < engine.slots() and len(publishing) < _PUBLISHERS + 1:
                partition, source, function = ready.popleft()
                work = run.work(partition, source, function)
                working[engine.submit(work)] = (partition, work)
            done, _ = wait([*fetching, *working, *publishing], return_when=FIRST_COMPLETED)
            for future in done:
                if future in fetching:
                    ready.append((fetching.pop(future), *future.result()))
                    continue
                if future in publishing:
                    partition = publishing.pop(future)
                    results[partition.name] = future.result()
                    run.advance(partition)
                    continue
                partition, work = working.pop(future)
                try:
                    made = engine.result(work, future)
                except WorkerDied as death:
                    if run.account_for(partition, death):
                        engine.shrink()
                    shutil.rmtree(work.stage, ignore_errors=True)
                    ready.appendleft((partition, work.source, work.function))
                else:
                    _release(partition)
                    publishing[threads.submit(run.publish, partition, work, made)] = partition
    finally:
        for future in working:
            engine.cancel(future)
        for stage in run.stages:
            shutil.rmtree(stage, ignore_errors=True)
        wait(fetching)
        for partition in [*fetching.values(), *(p for p, *_ in ready), *(p for p, _ in working.values())]:
            _release(partition)


def _release(partition: Partition) -> None:
    """Its file need not stay here any longer."""
    if isinstance(partition.where, StoredFile):
        partition.where.release()


@dataclass
class _Run:
    """One call of ``map_partitions``."""

    job: PartitionJob
    function: PartitionFunction
    payload: Any
    partitions: Sequence[Partition]
    seconds: float
    sizes: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Rows and uncompressed bytes of each partition that is worked on."""
    rows_done: int = 0
    lost: dict[str, dict[str, str]] = field(default_factory=dict)
    """Per partition: document id → reason, for documents that cost a worker its life."""
    kills: dict[str, int] = field(default_factory=dict)
    """Per partition: how often its worker was killed from outside since a document was blamed last."""
    deaths: dict[str, int] = field(default_factory=dict)
    """Per partition: how often its worker died by itself where no document was at hand."""

    stages: list[Path] = field(default_factory=list)
    """Folders for attempts that are empty again; to make and remove one for each partition costs milliseconds."""

    @cached_property
    def finished(self) -> Finished:
        """Where nothing is remembered: the partitions that this build finished before it was killed, and since."""
        return Finished(self.job.scratch / "finished.jsonl")

    def begin(self, left: Sequence[Partition], threads: ThreadPoolExecutor) -> None:
        """Look how large the partitions are that are left to do."""
        names = [partition.name for partition in left]
        self.sizes = dict(zip(names, threads.map(_size, left), strict=True))
        self.job.scratch.mkdir(parents=True, exist_ok=True)

    @cached_property
    def total_rows(self) -> int:
        return sum(rows for rows, _ in self.sizes.values())

    def engine_for(self, left: Sequence[Partition]) -> Engine:
        """What works on these partitions, ready to begin."""
        resources = self.job.resources
        engine: Engine
        if resources.engine == "ray":
            parts = [self.payload, *getattr(self.payload, "__dict__", {}).values()]
            modules = first_party({self.function.__module__, *(type(part).__module__ for part in parts)})
            workers = resources.workers if "workers" in resources.model_fields_set else None
            engine = RayEngine(resources.address, workers, modules)
        else:
            engine = LocalEngine(resources.workers, max(self.sizes[partition.name][1] for partition in left))
        engine.begin(pickle.dumps(self.payload))
        return engine

    def known(self, partition: Partition) -> PartitionResult | None:
        """The result of a partition finished before, in this build or an earlier one."""
        known = self.finished.of(partition) if self.job.remember is None else None
        if known is not None:
            stats, names = known
            made = {name: self.job.output / name for name in names}
            if all(path.exists() for path in made.values()):
                return PartitionResult(partition.name, made, stats, reused=False)
        recalled = self.job.recall(partition)
        if recalled is None:
            return None
        files = self._placed(recalled.files)
        return PartitionResult(partition.name, files, recalled.stats, reused=True, whole=recalled.whole)

    def _placed(self, files: Mapping[str, AnyFile]) -> Mapping[str, Path]:
        return files_at({name: self.job.reuse(name, where) for name, where in files.items()})

    def prepare(self, partition: Partition) -> tuple[Path, PartitionFunction]:
        """A partition's file, held here until it is released, and what is to be done with it."""
        function = self.job.prepared(self.function, partition)
        return partition.where if isinstance(partition.where, Path) else partition.where.hold(), function

    def work(self, partition: Partition, source: Path, function: PartitionFunction) -> Work:
        """What a worker is to do with a partition's file, with a stage folder that no other attempt has meanwhile."""
        stage = self.stages.pop() if self.stages else Path(tempfile.mkdtemp(prefix="stage.", dir=self.job.scratch))
        lost = self.lost.get(partition.name, {})
        return Work(function, source, stage, partition.name, self.seconds, dict(lost))

    def publish(self, partition: Partition, work: Work, made: Done) -> PartitionResult:
        """Move what the worker made to where it belongs, and remember it."""
        files: Mapping[str, Path] = {path.name: path for path in sorted((work.stage / "output").iterdir())}
        if self.job.remember is not None:
            files = self._placed(self.job.remember(partition, made.stats, files))
        else:
            self.job.output.mkdir(parents=True, exist_ok=True)
            files = {name: path.replace(self.job.output / name) for name, path in files.items()}
            self.finished.add(partition, made.stats, list(files))
        self.stages.append(work.stage)
        return PartitionResult(partition.name, files, made.stats, reused=False)

    def advance(self, partition: Partition) -> None:
        self.rows_done += self.sizes[partition.name][0]
        self.job.progress(self.rows_done, self.total_rows, "documents")

    def account_for(self, partition: Partition, death: WorkerDied) -> bool:
        """Say what a worker died of; whether the machine is to blame, so that less should be done at a time.

        Raises StepFailed where trying again is of no use.
        """
        name, document = partition.name, death.document
        timeout = bool(document) and death.elapsed >= self.seconds
        if death.killed and not timeout:
            self.kills[name] = self.kills.get(name, 0) + 1
            if self.kills[name] <= _MAX_KILLS_PER_DOCUMENT:
                return True
            self.kills[name] = 0
        if not document:
            self.deaths[name] = self.deaths.get(name, 0) + 1
            if death.killed or self.deaths[name] > 1:
                how = "was killed again and again" if death.killed else f"died twice (exit status {death.exit_status})"
                raise StepFailed(
                    f"partition {name}: its worker {how} outside any document{death.reason and f' ({death.reason})'}; "
                    "if memory ran out, give the step fewer workers or the machine more memory"
                ) from death
            return False
        lost = self.lost.setdefault(name, {})
        lost[document] = "timeout" if timeout else "crash"
        if len(lost) > _MAX_LOST_PER_PARTITION:
            raise StepFailed(
                f"partition {name}: more than {_MAX_LOST_PER_PARTITION} documents killed their worker; "
                "something is wrong with the step, not with the documents"
            ) from death
        return False


def _size(partition: Partition) -> tuple[int, int]:
    """Rows, and bytes once uncompressed."""
    if not partition.name.endswith(".parquet"):
        return 1, partition.path.stat().st_size
    return partition.size.rows, partition.size.uncompressed_bytes
