"""Work on the partitions of a corpus in worker processes: the only place that starts processes for data work.

A worker that dies takes nothing with it: the document it died of is remembered, the partition is
worked on again without it, and the other partitions never notice. A finished partition is
published by the parent alone, by renaming, so a worker that outlives its parent for a moment
cannot touch a later run's files.
"""

from __future__ import annotations

import atexit
import faulthandler
import json
import multiprocessing
import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import pyarrow.parquet as pq
from pebble import ProcessExpired, ProcessPool

from storage.artifact import JsonValue
from storage.corpus import Partition
from storage.errors import StepFailed
from tasks.task import DocumentLost, PartitionFunction, PartitionResult, Progress

PLUMBING = "where a partition is worked on cannot shape its bytes: a function sees only its arguments"

_MAX_LOST_PER_PARTITION = 100
"""More documents than this that kill their worker, in one partition, are a broken step, not bad documents."""
_PARTITIONS_PER_WORKER = 256
"""After so many partitions a worker is replaced, which bounds what leaking libraries can hold."""
_PARENT_POLL_SECONDS = 0.5


@dataclass(frozen=True)
class PartitionJob:
    """What has to be known to work on partitions: where results go, and how they are recognised."""

    output: Path
    """Folder for the finished files."""
    scratch: Path
    """Folder for unfinished files, and for the record of finished partitions."""
    workers: int
    progress: Progress
    recall: Callable[[Partition], tuple[dict[str, JsonValue], dict[str, Path]] | None] = lambda partition: None
    """Stats and files of a partition that an earlier build has worked on, if any."""
    remember: Callable[[Partition, dict[str, JsonValue], dict[str, Path]], None] = lambda *_: None
    """Called with each newly finished partition."""


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
    run = _Run(job, function, payload, seconds_per_document, sum(_rows(p) for p in partitions))
    results: dict[str, PartitionResult] = {}
    waiting: dict[Future[Any], Partition] = {}
    try:
        for partition in partitions:
            known = run.known(partition)
            if known is not None:
                results[partition.name] = known
                run.advance(partition)
            else:
                waiting[run.submit(partition)] = partition
        while waiting:
            done, _ = wait(waiting, return_when=FIRST_COMPLETED)
            for future in done:
                partition = waiting.pop(future)
                result = run.finish(future, partition)
                if result is None:
                    waiting[run.submit(partition)] = partition
                else:
                    results[partition.name] = result
                    run.advance(partition)
    finally:
        for future in waiting:
            future.cancel()
    return [results[partition.name] for partition in partitions]


@dataclass
class _Run:
    """One call of ``map_partitions``."""

    job: PartitionJob
    function: PartitionFunction
    payload: Any
    seconds: float
    total_rows: int
    rows_done: int = 0
    lost: dict[str, dict[str, str]] = field(default_factory=dict)
    """Per partition: document id → reason, for documents that cost a worker its life."""
    stages: dict[str, Path] = field(default_factory=dict)

    def known(self, partition: Partition) -> PartitionResult | None:
        """The result of a partition finished before, in this build or an earlier one."""
        record = self._record(partition)
        if record.exists():
            known = json.loads(record.read_text())
            files = {name: self.job.output / name for name in known["files"]}
            if all(path.exists() for path in files.values()):
                return PartitionResult(partition.name, files, known["stats"], reused=known["reused"])
        recalled = self.job.recall(partition)
        if recalled is None:
            return None
        stats, sources = recalled
        files = {}
        for name, source in sources.items():
            files[name] = self.job.output / name
            files[name].parent.mkdir(parents=True, exist_ok=True)
            files[name].unlink(missing_ok=True)
            files[name].symlink_to(source)
        return self._publish(partition, stats, files, reused=True)

    def submit(self, partition: Partition) -> Future[Any]:
        """Hand the partition to a worker, with a stage folder that no other attempt shares."""
        self.job.scratch.mkdir(parents=True, exist_ok=True)
        stage = Path(tempfile.mkdtemp(prefix=f"{Path(partition.name).stem}.", dir=self.job.scratch))
        self.stages[partition.name] = stage
        lost = self.lost.get(partition.name, {})
        arguments = (self.function, self.payload, partition.path, stage, partition.name, self.seconds, lost)
        future: Future[Any] = _pool(self.job.workers).schedule(_work, args=arguments)
        return future

    def finish(self, future: Future[Any], partition: Partition) -> PartitionResult | None:
        """Publish what the worker made; None if it died and the partition has to be tried again."""
        stage = self.stages.pop(partition.name)
        try:
            stats = future.result()
        except ProcessExpired as error:
            self._lose(partition, stage, error)
            shutil.rmtree(stage, ignore_errors=True)
            return None
        files = {}
        for made in sorted((stage / "output").iterdir()):
            files[made.name] = self.job.output / made.name
            self.job.output.mkdir(parents=True, exist_ok=True)
            os.replace(made, files[made.name])
        shutil.rmtree(stage, ignore_errors=True)
        self.job.remember(partition, stats, files)
        return self._publish(partition, stats, files, reused=False)

    def advance(self, partition: Partition) -> None:
        self.rows_done += _rows(partition)
        self.job.progress(self.rows_done, self.total_rows, "documents")

    def _lose(self, partition: Partition, stage: Path, error: ProcessExpired) -> None:
        document, seconds = _read_marker(stage / "current")
        lost = self.lost.setdefault(partition.name, {})
        if not document:
            # Killed from outside (out of memory, a person): worth one more try.
            document = f"<worker {len(lost)}>"
            if any(name.startswith("<worker") for name in lost):
                raise StepFailed(
                    f"partition {partition.name}: its worker died twice (exit status {error.exitcode}) "
                    "outside any document; give the step fewer workers if memory ran out"
                ) from error
        lost[document] = "timeout" if seconds >= self.seconds else "crash"
        if len(lost) > _MAX_LOST_PER_PARTITION:
            raise StepFailed(
                f"partition {partition.name}: more than {_MAX_LOST_PER_PARTITION} documents killed their worker; "
                "something is wrong with the step, not with the documents"
            ) from error

    def _record(self, partition: Partition) -> Path:
        return self.job.scratch / f"{partition.name}.{partition.digest[:16]}.json"

    def _publish(
        self, partition: Partition, stats: dict[str, JsonValue], files: dict[str, Path], reused: bool
    ) -> PartitionResult:
        self.job.scratch.mkdir(parents=True, exist_ok=True)
        record = self._record(partition)
        beside = record.with_suffix(".tmp")
        beside.write_text(json.dumps({"files": sorted(files), "stats": stats, "reused": reused}))
        os.replace(beside, record)
        return PartitionResult(partition.name, files, stats, reused)


# In the worker


def _work(
    function: PartitionFunction,
    payload: Any,
    source: Path,
    stage: Path,
    name: str,
    seconds: float,
    lost: dict[str, str],
) -> dict[str, JsonValue]:
    output = stage / "output"
    output.mkdir()
    with (stage / "current").open("wb", buffering=0) as marker:
        return function(payload, source, output / name, _Guard(marker, seconds, lost))


class _Guard:
    """See ``tasks.task.Guard``: a watchdog in C ends the process even when a library holds the interpreter's lock."""

    def __init__(self, marker: IO[bytes], seconds: float, lost: dict[str, str]) -> None:
        self._marker = marker
        self._seconds = seconds
        self._lost = lost
        self._silence = open(os.devnull, "w")  # noqa: SIM115 - lives as long as the guard

    def __call__(self, document: str, function: Callable[..., Any], *arguments: Any) -> Any:
        if document in self._lost:
            raise DocumentLost(self._lost[document])
        self._mark(f"{time.time()} {document}")
        faulthandler.dump_traceback_later(self._seconds, exit=True, file=self._silence)
        try:
            return function(*arguments)
        except (RecursionError, MemoryError) as error:
            raise DocumentLost("crash") from error
        finally:
            faulthandler.cancel_dump_traceback_later()
            self._mark("")

    def _mark(self, text: str) -> None:
        content = text.encode()
        os.pwrite(self._marker.fileno(), content, 0)
        os.ftruncate(self._marker.fileno(), len(content))


def _read_marker(path: Path) -> tuple[str, float]:
    """The document a dead worker was at, and for how many seconds; an empty name if it was at none."""
    if not path.exists() or not path.read_text():
        return "", 0.0
    started, document = path.read_text().split(" ", 1)
    return document, time.time() - float(started)


def _start_worker(parent: int) -> None:
    # Ctrl-C in a terminal reaches every process of the group. A worker that dies of it would look
    # as if a document had killed it; the parent decides, and its end ends the workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    die_with_parent(parent)


def die_with_parent(parent: int | None = None) -> None:
    """End this process soon after its parent is gone, however the parent ended.

    ``parent`` is the parent's process number, for a child that may start only after its parent's end.
    """
    expected = os.getppid() if parent is None else parent

    def watch() -> None:
        while os.getppid() == expected:
            time.sleep(_PARENT_POLL_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, name="watch-parent", daemon=True).start()


# The pool, shared by all steps of this process: started once, and a bound on all of them together

_pools: dict[int, ProcessPool] = {}
_pools_lock = threading.Lock()


def _pool(workers: int) -> ProcessPool:
    with _pools_lock:
        if workers not in _pools or not _pools[workers].active:
            _pools[workers] = ProcessPool(
                max_workers=workers,
                max_tasks=_PARTITIONS_PER_WORKER,
                initializer=_start_worker,
                initargs=(os.getpid(),),
                # The parent has threads (Prefect's among them), which forking would copy in the middle of their work.
                context=multiprocessing.get_context("spawn"),
            )
        return _pools[workers]


@atexit.register
def _stop_pools() -> None:
    for pool in _pools.values():
        pool.stop()
        pool.join(timeout=5)


def _rows(partition: Partition) -> int:
    return int(pq.read_metadata(partition.path).num_rows) if partition.name.endswith(".parquet") else 1
