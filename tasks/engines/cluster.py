"""A Ray cluster: the same work, on the processors of all its nodes.

The folder ``ATHANOR_HOME`` must lie on a file system that all nodes share: partitions are read and
written there by path, as on one machine; the store may be anywhere. Each task of Ray hands its
partition to a process of its own, so that a document that hangs or crashes costs that process, and
is left out, exactly as on one machine. A lost node costs what it was at; its partitions are worked
on elsewhere. Only what makes other bytes is refused: a node with other code or other libraries.
"""

from __future__ import annotations

import importlib
import os
import platform
import socket
import sys
import tempfile
import threading
import time
from concurrent.futures import Future
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from storage.code import FIRST_PARTY, code_of
from storage.errors import StepFailed, UserError
from storage.identity import digest_of_value
from tasks.engines.local import LocalEngine
from tasks.engines.worker import Done, Work, WorkerDied

PLUMBING = "where a partition is worked on cannot shape its bytes: a function sees only its arguments"

_QUEUED_PER_PROCESSOR = 2
"""Partitions handed to the cluster for each of its processors: one being worked on, one waiting."""
_SECONDS_BETWEEN_LOOKS = 5.0
"""Between two looks at how many processors the cluster has; nodes come and go."""

_SECONDS_TO_ANSWER = 10.0
"""What a cluster is given to take a connection."""

_connecting = threading.Lock()


class RayEngine:
    """See ``tasks.parallel.Engine``."""

    def __init__(self, address: str | None, workers: int | None, modules: tuple[str, ...]) -> None:
        """``workers``: partitions under way at a time, all processors of the cluster if None.

        ``modules``: those of the function and its payload, whose code has to be the same on all nodes.
        Raises UserError if there is no cluster, or no Ray.
        """
        self._ray = _connected(address)
        self._workers = workers
        self._ceiling: int | None = None
        self._expected = environment_of(modules)
        self._modules = modules
        self._task = self._ray.remote(num_cpus=1, max_retries=0, scheduling_strategy="SPREAD")(work_on_node)
        self._payload: Any = None
        self._processors = (0, float("-inf"))
        self._references: dict[Future[Any], Any] = {}

    def begin(self, payload: bytes) -> None:
        self._payload = self._ray.put(payload)

    def slots(self) -> int:
        count, looked = self._processors
        if time.monotonic() - looked > _SECONDS_BETWEEN_LOOKS:
            count = int(self._ray.cluster_resources().get("CPU", 1))
            self._processors = (count, time.monotonic())
        limits = [_QUEUED_PER_PROCESSOR * max(1, count), self._workers, self._ceiling]
        return min(limit for limit in limits if limit is not None)

    def submit(self, work: Work) -> Future[Any]:
        reference = self._task.remote(work, self._payload, self._modules, self._expected)
        future: Future[Any] = reference.future()
        self._references[future] = reference
        return future

    def result(self, work: Work, future: Future[Any]) -> Done:
        self._references.pop(future, None)
        errors = self._ray.exceptions
        try:
            done: Done = future.result()
        except errors.RayTaskError as error:
            raise error.cause from error
        except errors.RayError as error:
            raise WorkerDied(None, reason=" ".join(str(error).split())[:300]) from error
        return done

    def shrink(self) -> None:
        self._ceiling = max(1, (self._ceiling or self.slots()) // 2)

    def cancel(self, future: Future[Any]) -> None:
        reference = self._references.pop(future, None)
        if reference is not None:
            self._ray.cancel(reference, force=True)


def _connected(address: str | None) -> Any:
    """The module ``ray``, connected."""
    try:
        import ray
    except ImportError as error:
        raise UserError("resources.engine: ray needs Ray; install it by: pip install 'athanor[ray]'") from error
    with _connecting:
        if not ray.is_initialized():
            where = address or os.environ.get("RAY_ADDRESS") or _cluster_here()
            try:
                # Ray itself tries for minutes, and then ends the process.
                host, _, port = where.rpartition("/")[2].rpartition(":")
                socket.create_connection((host, int(port)), timeout=_SECONDS_TO_ANSWER).close()
                ray.init(address=where, log_to_driver=False, configure_logging=False)
            except (OSError, ValueError, RuntimeError) as error:
                raise UserError(
                    f"resources.engine: ray: no cluster answers at {where or 'this machine'} "
                    f"({' '.join(str(error).split())[:200]}); start one by `ray start --head`, or give "
                    "resources.address or RAY_ADDRESS as HOST:PORT"
                ) from error
    return ray


def _cluster_here() -> str:
    """Address of the cluster that ``ray start`` has started on this machine; empty if there is none."""
    noted = Path(os.environ.get("RAY_TMPDIR", tempfile.gettempdir())) / "ray" / "ray_current_cluster"
    return noted.read_text().strip() if noted.exists() else ""


@lru_cache(maxsize=8)
def environment_of(modules: tuple[str, ...]) -> dict[str, str]:
    """What shapes the bytes on a node: Python, our code as far as these modules reach, the libraries they declare."""
    found = {"python": ".".join(platform.python_version_tuple()[:2])}
    found |= {f"code of {module}": digest_of_value(symbols)[:12] for module, symbols in code_of(*modules).items()}
    for module in modules:
        for value in vars(importlib.import_module(module)).values():
            for library in getattr(value, "libraries", ()) if isinstance(value, type) else ():
                try:
                    found[library] = version(library)
                except PackageNotFoundError:
                    found[library] = "not installed"
    return found


# On the node


def work_on_node(work: Work, payload: bytes, modules: tuple[str, ...], expected: dict[str, str]) -> Done:
    """Work on a partition in a process of this node's own."""
    node = platform.node()
    if not work.stage.exists():
        raise UserError(
            f"node {node} of the Ray cluster does not see {work.stage}: with engine: ray, ATHANOR_HOME must lie on a "
            "file system that all nodes share"
        )
    here = environment_of(modules)
    other = [
        f"{name} {here.get(name)} instead of {there}" for name, there in expected.items() if here.get(name) != there
    ]
    if other:
        raise StepFailed(f"node {node} of the Ray cluster would make other bytes: {', '.join(other)}; install the same")
    engine = LocalEngine(1, 0)
    engine.begin(payload)
    return engine.result(work, engine.submit(work))


def first_party(names: set[str]) -> tuple[str, ...]:
    """Those of these modules that are ours, sorted."""
    return tuple(sorted(name for name in names if name.split(".")[0] in FIRST_PARTY and name in sys.modules))
