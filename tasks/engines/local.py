"""Worker processes of this machine: as many as were asked for, or as its memory holds."""

from __future__ import annotations

import atexit
import multiprocessing
import os
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any

from pebble import ProcessExpired, ProcessPool

from tasks.engines.memory import available_bytes
from tasks.engines.worker import Done, Work, death_of, start_worker, work_on

PLUMBING = "where a partition is worked on cannot shape its bytes: a function sees only its arguments"

_PARTITIONS_PER_WORKER = 1024
"""After so many partitions a worker is replaced, which bounds what leaking libraries can hold. To start one and load
what its tasks need takes two seconds of a core, as long as a refresh works on a hundred partitions."""
_WORKER_BYTES = 300_000_000
"""What a worker takes with the libraries of a data task loaded and no partition at hand."""
_BYTES_PER_PARTITION_BYTE = 8
"""Memory that a task takes for a byte of an uncompressed partition, until it has been measured."""
_SPARE = 1.2
"""Partitions to come may be as much larger than those that were measured."""


class LocalEngine:
    """See ``tasks.parallel.Engine``."""

    def __init__(self, workers: int, largest_partition: int) -> None:
        """``largest_partition``: uncompressed bytes of the largest partition that will be worked on."""
        self._workers = workers
        self._ceiling = workers
        self._need = float(_WORKER_BYTES + _BYTES_PER_PARTITION_BYTE * largest_partition)
        self._peak = 0
        self._room = _room()
        self._payload = b""

    def begin(self, payload: bytes) -> None:
        self._payload = payload

    def slots(self) -> int:
        fitting = self._workers if self._room is None else int(self._room // self._need)
        slots = max(1, min(self._ceiling, fitting))
        # One more partition waits for each worker, so that none is idle, unless memory is what is short.
        return 2 * slots if slots == self._workers else slots

    def submit(self, work: Work) -> Future[Any]:
        future: Future[Any] = _pool(self._workers).schedule(work_on, args=(work, self._payload))
        return future

    def result(self, work: Work, future: Future[Any]) -> Done:
        try:
            done: Done = future.result()
        except ProcessExpired as error:
            raise death_of(work, error.exitcode) from error
        self._peak = max(self._peak, done.peak_bytes)
        self._need = self._peak * _SPARE
        return done

    def shrink(self) -> None:
        self._ceiling = max(1, self._ceiling // 2)

    def cancel(self, future: Future[Any]) -> None:
        future.cancel()


# The pool, shared by all steps of this process: started once, and a bound on all of them together

_pools: dict[int, ProcessPool] = {}
_pools_lock = threading.Lock()
_rooms: list[int | None] = []


def _room() -> int | None:
    """Memory for workers: what was available before this process started the first of them."""
    with _pools_lock:
        if not _rooms:
            _rooms.append(available_bytes())
        return _rooms[0]


def start_ahead(workers: int, modules: Sequence[str]) -> None:
    """Start the workers before there is work, each with these modules imported: it takes them seconds."""
    _room()
    _pool(workers, modules).schedule(_nothing)


def _nothing() -> None:
    """What a pool is given to do so that it starts its workers."""


def _pool(workers: int, modules: Sequence[str] = ()) -> ProcessPool:
    """``modules`` matter to the one who comes first."""
    with _pools_lock:
        if workers not in _pools or not _pools[workers].active:
            _pools[workers] = ProcessPool(
                max_workers=workers,
                max_tasks=_PARTITIONS_PER_WORKER,
                initializer=start_worker,
                initargs=(os.getpid(), tuple(modules)),
                # The parent has threads (Prefect's among them), which forking would copy in the middle of their work.
                context=multiprocessing.get_context("spawn"),
            )
        return _pools[workers]


@atexit.register
def _stop_pools() -> None:
    for pool in _pools.values():
        pool.stop()
        pool.join(timeout=5)
