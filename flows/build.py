"""Making a step's artifact, or finding it in the store: all of it but Prefect."""

from __future__ import annotations

import errno
import platform
import shutil
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any, Protocol

from flows.adoption import files_to_adopt
from flows.curves import curves_of
from flows.identities import identity_of_partitions
from flows.intermediate import Intermediate
from flows.longer import SUFFIX
from flows.outcome import StepOutcome, outcome_of
from flows.plan import Decision, Planner
from flows.recipe import Step
from storage.artifact import Artifact, JsonValue
from storage.builds import Build, Identity
from storage.errors import LeaseLost, StepFailed, StoreCorrupted, StoreUnavailable
from storage.locks import locked
from storage.memory import StepMemory
from storage.store import Work
from tasks.context import RunContext
from tasks.task import Input, Progress, Result


class Watcher(Protocol):
    """Who is told how a step is getting on: the terminal, the tracker, Prefect."""

    def started(self, step: Step, why: str) -> None: ...

    def waiting(self, step: Step, note: str) -> None: ...

    def progress(self, step: Step) -> Progress: ...


class Records(Protocol):
    """Who keeps the record of a build; see ``flows.tracking.Tracker``."""

    def step_started(self, step: Step, identity: Identity, store: Any) -> None: ...

    def following(self, step: Step, work: Work) -> Any: ...

    def step_built(self, step: Step, build: Build, store: Any) -> None: ...

    def step_reused(self, step: Step, build: Build, why: str) -> None: ...

    def run_of(self, step: str) -> str | None: ...


@dataclass
class Builder:
    """Makes or finds the artifacts of one run's steps; safe to use from several threads."""

    planner: Planner
    records: Records
    watcher: Watcher
    _device: threading.Lock = field(default_factory=threading.Lock)
    _deciding: threading.Lock = field(default_factory=threading.Lock)

    def make(self, step: Step, made: Mapping[str, str]) -> StepOutcome:
        """The outcome of ``step``, given the artifacts of the steps it needs (step → digest)."""
        while True:
            try:
                return self._make(step, made)
            except LeaseLost:  # then what the other host makes is this step's artifact
                self.watcher.waiting(step, "another host took this build over; waiting for it")

    def _make(self, step: Step, made: Mapping[str, str]) -> StepOutcome:
        started = time.monotonic()
        with self._deciding:
            decision = self.planner.decide(step, made)
        if decision.action == "reuse":
            return self._reuse(step, decision, started)
        assert decision.identity is not None
        identity = decision.identity
        with ExitStack() as stack:
            if step.task.takes_device(step.resources):
                stack.enter_context(self._device_slot(step))
            waiting = self._told(step, "another run is building this; waiting for it")
            work = stack.enter_context(self.planner.store.building(identity.key, waiting))
            meanwhile = self.planner.store.find(identity.key) if step.name not in self.planner.afresh else None
            if meanwhile is not None:
                found = replace(decision, build=meanwhile, why="another run has just built it")
                return self._reuse(step, found, started)
            return self._build(step, decision, work)

    def _reuse(self, step: Step, decision: Decision, started: float) -> StepOutcome:
        store = self.planner.store
        build = decision.build
        if build is None:
            assert decision.accepted is not None
            assert decision.identity is not None
            update = {
                "key": decision.identity.key,
                "identity": decision.identity,
                "accepted_from": decision.accepted.key,
            }
            build = decision.accepted.model_copy(update=update)
            store.record(build)
        self.planner.history.append(step.name, build)
        self.records.step_reused(step, build, decision.why)
        return outcome_of(step, "reused", decision.why, build, time.monotonic() - started)

    def _build(self, step: Step, decision: Decision, work: Work) -> StepOutcome:
        started = time.monotonic()  # what it waited for before is no part of what it took
        store, identity = self.planner.store, decision.identity
        assert identity is not None
        afresh = step.name in self.planner.afresh
        if afresh:
            _empty(work)
        inputs = self._open_inputs(step, identity)
        self.watcher.started(step, decision.why)
        self.records.step_started(step, identity, store)
        memory = StepMemory(store, [] if afresh else self.planner.history.results(step.name), enabled=not afresh)
        context = self._context(step, decision, work, inputs, memory)
        known = partial(self._known, step, decision, context, datetime.now(UTC), started)
        with ExitStack() as following:
            if step.task.trains:
                following.enter_context(self.records.following(step, work))
                stem = decision.continuation.identity if decision.continuation is not None else None
                following.enter_context(Intermediate(self.planner.history, work.scratch, known, stem))
            result = _run(step, context)
        manifest = store.commit(work, step.task.kind().kind, result.counts, context.shared)
        build = known().model_copy(
            update={
                "artifact": manifest.digest,
                "metrics": {n: float(value) for n, value in (context.reuse.metrics() | result.metrics).items()},
                "headline": result.headline,
                "samples": [asdict(sample) for sample in result.samples],
                "results": memory.write(identity.key),
            }
        )
        store.record(build)
        self.planner.history.append(step.name, build)
        self.records.step_built(step, build, store)
        verdict = _verdict(decision, build)
        why = f"{decision.why}: {verdict}" if verdict else decision.why
        return replace(outcome_of(step, "built", why, build, build.seconds), verdict=verdict)

    def _known(self, step: Step, decision: Decision, context: RunContext, began: datetime, started: float) -> Build:
        """The record as far as it is known while the step runs; ``started``: by the clock that seconds are told by."""
        identity, state = decision.identity, _state(decision)
        assert identity is not None
        return Build(
            key=identity.key,
            artifact="",
            kind=step.task.kind().kind,
            recipe=self.planner.history.name,
            step=step.name,
            identity=identity,
            input_steps={slot: reference.step for slot, reference in step.task.inputs().items()},
            started_at=began,
            seconds=round(time.monotonic() - started, 3),
            host=host(),
            resources=step.resources.model_dump(mode="json"),
            curves=curves_of(context.metrics_file) if step.task.trains else {},
            mlflow_run=self.records.run_of(step.name),
            continued_from=state.key if state is not None else None,
        )

    def _context(
        self, step: Step, decision: Decision, work: Work, inputs: dict[Input[Any], Artifact], memory: StepMemory
    ) -> RunContext:
        """What the task is given to run with."""
        store, identity = self.planner.store, decision.identity
        assert identity is not None
        return RunContext(
            output=work.output,
            scratch=work.scratch,
            world=self.planner.world,
            inputs=inputs,
            resources=step.resources,
            seed=self.planner.recipe.seed,
            progress=self.watcher.progress(step),
            previous=store.open(identity.previous) if identity.previous else None,
            state=self._opened(_state(decision)),
            identity=identity_of_partitions(identity),
            memory=memory,
            lock_fds=work.lock_fds,
            takedowns=self.planner.takedowns,
            shared={},
            compiled=self.planner.home.compiled,
            makers={
                reference: maker
                for reference in step.task.inputs().values()
                if (maker := self.planner.recipe.maker_of(reference)) is not None
            },
        )

    def _open_inputs(self, step: Step, identity: Identity) -> dict[Input[Any], Artifact]:
        """Every input's artifact, opened; folders of the user's are taken into the store first."""
        store = self.planner.store
        opened = {}
        for slot, reference in step.task.inputs().items():
            if reference.step is None:
                manifest = self.planner.identities.manifest_of_folder(reference)
                folder = self.planner.recipe.folder / str(reference.path)
                taken = store.adopt(manifest.kind, files_to_adopt(manifest.kind, folder))
                if taken.digest != identity.inputs[slot]:
                    raise StepFailed(f"{step.name}.{slot}: {folder} was changed while it was read; run again")
            opened[reference] = store.open(identity.inputs[slot])
        return opened

    def _opened(self, state: Build | None) -> Artifact | None:
        """The kept state of a shorter training; it is not passed over where it is damaged, as that may cost weeks."""
        try:
            return self.planner.store.open(state.artifact) if state is not None else None
        except StoreCorrupted as error:
            assert state is not None
            step = state.step.removesuffix(SUFFIX)
            raise StoreCorrupted(f"{error}; it was to be continued from: `--rebuild {step}` trains anew") from error

    def _device_slot(self, step: Step) -> Any:
        """Steps that train run one at a time, those of other runs on this machine included."""
        stack = ExitStack()
        if not self._device.acquire(blocking=False):
            self.watcher.waiting(step, "another step is training; waiting for it")
            self._device.acquire()
        stack.callback(self._device.release)
        on_wait = self._told(step, "another run is training on this machine; waiting for it")
        stack.enter_context(locked(self.planner.home.lock("device"), on_wait=on_wait))
        return stack

    def _told(self, step: Step, note: str) -> Callable[[], None]:
        return lambda: self.watcher.waiting(step, note)


def host() -> dict[str, JsonValue]:
    """What a build ran on."""
    return {
        "name": platform.node(),
        "machine": platform.machine(),
        "system": platform.platform(),
        "python": platform.python_version(),
    }


def _run(step: Step, context: RunContext) -> Result:
    """Run the task; a full disk is told as one."""
    try:
        return step.task.run(context)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StoreUnavailable(
                f"{step.name}: no space left on the disk of {context.output}; free some and run again, "
                "what is finished is kept"
            ) from error
        raise


def _state(decision: Decision) -> Build | None:
    """The state of a shorter training that the step continues from."""
    return decision.continuation.state if decision.continuation is not None else None


def _empty(work: Work) -> None:
    """Forget what an earlier, unfinished build left: a rebuild reuses nothing."""
    for folder in (work.output, work.scratch):
        shutil.rmtree(folder)
        folder.mkdir()


def _verdict(decision: Decision, build: Build) -> str:
    """For a rebuild, whether the bytes came out the same; else empty."""
    if decision.before is None:
        return ""
    if decision.before.artifact == build.artifact:
        return "same bytes as before"
    if decision.before.key != build.key:
        return f"other bytes than {decision.before.artifact[:12]}, which was made of other inputs"
    return f"OTHER BYTES than before ({decision.before.artifact[:12]})"
