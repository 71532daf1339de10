"""When the state of a run is kept: by the clock, before evaluations, at the end, and when the run is told to stop."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from model.checkpoints.checkpoint import About, Checkpoints
from model.checkpoints.keeping import BestKeeper
from model.checkpoints.state import HostCopies, numbers_of, part_of
from model.engine import Engine
from model.launching.stop import StopRequest
from storage.errors import Stopped, StoreUnavailable

PLUMBING = "when a checkpoint is written has no influence on the weights"


class Moments(Protocol):
    """Makes something of the state after some steps, beside the run."""

    def due(self, step: int) -> bool: ...

    def publish(self, step: int, place: Path) -> None:
        """Called on the first process, in the background, with the folder of the step's whole checkpoint."""


class Saver:
    """Writes the checkpoints of one run; all processes must call it after every step."""

    def __init__(
        self,
        engine: Engine,
        checkpoints: Checkpoints,
        seconds: float,
        stop: StopRequest,
        best: BestKeeper,
        publishers: Sequence[Moments] = (),
    ) -> None:
        """``seconds``: between checkpoints, by the first process's clock; ``best`` keeps what ``keep_best`` names."""
        self._best = best
        self._publishers = publishers
        self._engine, self._checkpoints, self._seconds, self._stop = engine, checkpoints, seconds, stop
        self._copies = HostCopies(engine.disk)
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
        publishes = any(publisher.due(step) for publisher in self._publishers)
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

    def keep_best(self, step: int, loss: float, memory: Mapping[str, Any]) -> None:
        """Keep the state after this step for the end, on the disk; waits for it. ``memory``: as ``after`` was given it.

        Raises StoreUnavailable where it cannot be written: it may be the result. Run again, training goes on from
        the checkpoint of this step, evaluates again and keeps it; no later checkpoint, which would say that it is
        kept, is written before it is.
        """
        self._settle()
        if self._checkpoints.newest != step:
            about = About(step, loss, numbers_of(self._engine), dict(memory))
            self._checkpoints.begin(part_of(self._engine, self._copies), about)
            self._began_at, self._began_step = time.monotonic(), step
            self._settle()
        refused: str | None = "no checkpoint could be written"
        if self._checkpoints.newest == step:
            refused = self._checkpoints.at_once(step, self._best.keep)
        if refused is not None:
            raise StoreUnavailable(
                f"step {step}: the best weights so far cannot be kept ({refused}); free some space and run again"
            )

    def resumed(self, step: int, *, own: bool) -> None:
        """Say that the state after ``step`` is on the disk.

        If that is a checkpoint of this run's ``own``, a kill may have come before it was published.
        """
        self._began_step = step
        if own:
            self._publish(step)

    def _settle(self) -> None:
        before = self._checkpoints.newest
        self._checkpoints.settle()
        if self._checkpoints.newest is not None and self._checkpoints.newest != before:
            self._publish(self._checkpoints.newest)

    def _publish(self, step: int) -> None:
        for publisher in self._publishers:
            if publisher.due(step):
                self._checkpoints.in_background(step, publisher.publish)
