"""When the state of a run is kept: by the clock, before evaluations, at the end, and when the run is told to stop."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from model.checkpoints.checkpoint import About, Checkpoints
from model.checkpoints.publishing import Publisher
from model.checkpoints.state import HostCopies, numbers_of, part_of
from model.engine import Engine
from model.launching.stop import StopRequest
from storage.errors import Stopped

PLUMBING = "when a checkpoint is written has no influence on the weights"


class Saver:
    """Writes the checkpoints of one run; all processes must call it after every step."""

    def __init__(
        self,
        engine: Engine,
        checkpoints: Checkpoints,
        seconds: float,
        stop: StopRequest,
        publisher: Publisher | None = None,
    ) -> None:
        """``seconds``: between checkpoints, by the first process's clock."""
        self._publisher = publisher
        self._engine, self._checkpoints, self._seconds, self._stop = engine, checkpoints, seconds, stop
        self._copies = HostCopies()
        self._began_at, self._began_step = time.monotonic(), -1

    def after(self, step: int, loss: float, memory: Mapping[str, Any], *, wanted: bool, last: bool) -> None:
        """Begin a checkpoint if it is time, or ``wanted`` and none is under way; settle what is written.

        After the ``last`` step, and before the run is ended by SIGTERM, it is waited for. Raises
        Stopped for SIGTERM, StoreUnavailable where no checkpoint can be written at all.
        """
        overdue = self._engine.rank == 0 and time.monotonic() - self._began_at >= self._seconds
        told = self._engine.agreed([overdue, self._stop.asked, self._checkpoints.busy])
        is_time, stopped, busy = told
        final = last or stopped
        publishes = self._publisher is not None and not last and self._publisher.due(step)
        if final or publishes or not busy:
            self._settle()
        if (is_time or wanted or final or publishes) and not self._checkpoints.under_way and step != self._began_step:
            # It is written while the next steps go on, which replace values of the memory.
            about = About(step, loss, numbers_of(self._engine), dict(memory))
            self._checkpoints.begin(part_of(self._engine, self._copies), about)
            self._began_at, self._began_step = time.monotonic(), step
        if final:
            self._settle()
        if stopped and not last:
            kept = self._checkpoints.newest
            goes_on = f"run again to go on from step {kept}" if kept else "no checkpoint could be written"
            raise Stopped(f"training was told to stop (SIGTERM) after step {step}; {goes_on}")

    def resumed(self, step: int) -> None:
        """Say that the state after ``step`` is on the disk; a kill may have come before it was published."""
        self._began_step = step
        self._publish(step)

    def _settle(self) -> None:
        before = self._checkpoints.newest
        self._checkpoints.settle()
        if self._checkpoints.newest is not None and self._checkpoints.newest != before:
            self._publish(self._checkpoints.newest)

    def _publish(self, step: int) -> None:
        if self._publisher is not None and self._publisher.due(step):
            self._checkpoints.in_background(step, self._publisher.publish)
