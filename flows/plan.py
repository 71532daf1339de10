"""What would be built, what would be reused, and why."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

from flows.adoption import files_to_adopt, kind_to_adopt
from flows.home import Home
from flows.longer import Continuation, continuation
from flows.recipe import Recipe, Step
from flows.why import differences, found_outside
from flows.world import RecipeWorld
from storage.artifact import FileEntry, JsonValue, Manifest
from storage.builds import Build, Entry, Identity
from storage.code import code_of, library_versions, remember_in
from storage.errors import BrokenError, RecipeError
from storage.filecache import DigestCache
from storage.identity import digest_of_value
from storage.store import Store
from storage.takedown import Takedowns
from tasks.task import Input

_BUILDS_LOOKED_AT = 3
"""So many of a step's last builds are looked through for rows to reuse: settings may have been tried in between."""
Action = Literal["reuse", "build", "depends"]


@dataclass(frozen=True)
class Options:
    """How a run differs from the recipe's whole."""

    until: str | None = None
    """Build this step and what it needs, nothing else."""
    limit: int | None = None
    """Take the first pages only."""
    reuse: frozenset[str] = frozenset()
    """Steps whose latest artifact is accepted in spite of a changed key."""
    rebuild: frozenset[str] = frozenset()
    """Steps to build afresh, with all that come after them."""


@dataclass(frozen=True)
class Decision:
    """What is to be done about a step."""

    action: Action
    why: str
    identity: Identity | None = None
    """None as long as an input is not known."""
    build: Build | None = None
    """The build that is reused."""
    accepted: Build | None = None
    """The build whose artifact ``--reuse`` accepts for another key."""
    before: Build | None = None
    """What a rebuilt step is compared with."""
    continuation: Continuation | None = None
    """Of a training: where it begins."""

    @property
    def key(self) -> str | None:
        if self.build is not None:
            return self.build.key
        return self.identity.key if self.identity else None


@dataclass
class Planner:
    """Decides about steps, one by one, as their inputs become known."""

    recipe: Recipe
    options: Options
    store: Store
    home: Home
    _code: dict[str, dict[str, dict[str, str]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        remember_in(self.home.code_digests)
        for option in ("reuse", "rebuild"):
            self.recipe.check_steps(f"--{option}", getattr(self.options, option))
        if self.options.until is not None:
            self.recipe.check_steps("--until", [self.options.until])
        if self.options.limit is not None and self.options.limit < 1:
            raise RecipeError(f"--limit {self.options.limit}: give a number of pages, at least 1")

    @property
    def history_name(self) -> str:
        """Where this run's builds are listed. Limited runs keep apart: they are nobody's previous version."""
        return self.recipe.name if self.options.limit is None else f"{self.recipe.name}.limit{self.options.limit}"

    @cached_property
    def world(self) -> RecipeWorld:
        return RecipeWorld(self.recipe.folder, self.options.limit, DigestCache(self.home.file_digests, ahead=1000))

    @cached_property
    def takedowns(self) -> Takedowns:
        """The requests to leave documents out, as they are when the run is planned."""
        return Takedowns.of(self.store.place)

    @cached_property
    def steps(self) -> dict[str, Step]:
        """The steps to look at, in an order in which each comes after those it needs."""
        wanted = self.recipe.upstream([self.options.until] if self.options.until else self.recipe.steps)
        return {name: step for name, step in self.recipe.steps.items() if name in wanted}

    @cached_property
    def afresh(self) -> set[str]:
        """Steps that are built whatever the store holds."""
        return self.recipe.downstream(self.options.rebuild)

    def plan(self) -> dict[str, Decision]:
        """A decision for every step; nothing is built."""
        decisions: dict[str, Decision] = {}
        made: dict[str, str] = {}
        for name, step in self.steps.items():
            waits = [need for need in step.needs if need not in made]
            decision = self._depends(step, waits) if waits else self.decide(step, made)
            decisions[name] = decision
            reused = decision.build or decision.accepted
            if decision.action == "reuse" and reused is not None:
                made[name] = reused.artifact
        return decisions

    def forecasts(self, decisions: Mapping[str, Decision]) -> dict[str, tuple[dict[str, Any], str]]:
        """What the training steps that are not reused will take, as JSON and in a line, as far as it is known."""
        steps = self.recipe.steps
        found = {
            name: steps[name].task.forecast(
                steps[name].resources,
                lambda reference: steps[reference.step].task if reference.step is not None else None,
            )
            for name, decision in decisions.items()
            if decision.action != "reuse"
        }
        return {name: forecast for name, forecast in found.items() if forecast is not None}

    def decide(self, step: Step, made: Mapping[str, str]) -> Decision:
        """Whether to build ``step``, given the artifacts of the steps it needs (step → digest)."""
        identity = self.identity(step, self.input_digests(step, made))
        if step.task.grows:
            identity = self._grown(step, identity)
        pinned = self._pinned(step, identity)
        if pinned is not None:
            return pinned
        build = self.store.find(identity.key)
        if step.name in self.afresh:
            before = build or self._latest_build(step)
            begins = continuation(self.store, self.history_name, step, identity, None)
            begins = replace(begins, state=None) if begins is not None else None
            return Decision("build", self._why_afresh(step), identity, before=before, continuation=begins)
        if build is not None:
            return Decision("reuse", _unchanged(build), identity, build=build)
        why = self.why(step, identity)
        if step.name in self.options.reuse:
            accepted = self._latest_build(step)
            if accepted is None or not self.store.is_whole(accepted.artifact):
                raise RecipeError(f"--reuse {step.name}: {self.history_name}/{step.name} has no artifact to reuse yet")
            return Decision("reuse", f"accepted by --reuse in spite of: {why}", identity, accepted=accepted)
        begins = continuation(self.store, self.history_name, step, identity, self._latest_build(step))
        said = f"{why}; {begins.said}" if begins is not None and begins.said else why
        return Decision("build", said, identity, continuation=begins)

    def _pinned(self, step: Step, identity: Identity) -> Decision | None:
        """To keep a pinned step's latest artifact, if nothing but the content of its inputs has changed since."""
        latest = self._latest_build(step) if step.task.pinned() and step.name not in self.afresh else None
        if latest is None or latest.identity.model_copy(update={"inputs": identity.inputs}) != identity:
            return None
        if not self.store.is_whole(latest.artifact):
            return None
        changes = differences(self.store, latest.identity, identity)
        why = f"pinned: {'; '.join(changes)}" if changes else _unchanged(latest)
        return Decision("reuse", why, identity, build=latest)

    def identity(self, step: Step, inputs: Mapping[str, str]) -> Identity:
        """All that goes into a build of ``step`` with these inputs (slot → digest)."""
        task = step.task
        module = type(task).__module__
        if module not in self._code:
            self._code[module] = code_of(module, *task.also_runs)
        try:
            libraries = library_versions(task.shaping_libraries())
        except importlib.metadata.PackageNotFoundError as error:
            raise BrokenError(f"{step.name}: {step.task_name} needs the library {error.name}; install it") from error
        return Identity(
            task=step.task_name,
            settings=task.settings(),
            inputs=dict(inputs),
            code=self._code[module],
            libraries=libraries,
            outside=self._outside(step),
            seed=self.recipe.seed if task.uses_seed else None,
        )

    def _outside(self, step: Step) -> JsonValue:
        """What the step finds outside, and beside it what makes it look again though it may find the same.

        Where only running it tells, each run counts as another find. Its number stays the same until
        the build is done, so a killed one is found again.
        """
        found, beside = step.task.outside(self.world), {}
        if step.task.only_running_tells():
            entry = self._latest_entry(step)
            beside["run"] = f"{self.history_name}/{step.name}@{entry.number + 1 if entry else 1}"
        forgotten = self.takedowns.digest(step.task.forgets) if step.task.forgets else None
        if forgotten is not None:
            beside["forgotten"] = forgotten
        return {"found": found, **beside} if beside else found

    def input_digests(self, step: Step, made: Mapping[str, str]) -> dict[str, str]:
        """Digest of the artifact in each slot; folders are digested where they lie."""
        return {
            slot: made[reference.step] if reference.step is not None else self.folder_manifest(reference).digest
            for slot, reference in step.task.inputs().items()
        }

    def folder_manifest(self, reference: Input[object]) -> Manifest:  # type: ignore[type-var]
        """The manifest that the folder of ``{path: FOLDER}`` will have in the store."""
        kind = kind_to_adopt(self.recipe.folder / str(reference.path), reference.kinds)
        files = files_to_adopt(kind, self.recipe.folder / str(reference.path))
        entries = {
            name: FileEntry(object=self.world.digest_of_file(path), bytes=path.stat().st_size)
            for name, path in files.items()
        }
        return Manifest(kind=kind, files=entries)

    def why(self, step: Step, identity: Identity) -> str:
        """Why the step has to be built: how it differs from its latest build."""
        entry = self._latest_entry(step)
        if entry is None:
            return "first build"
        record = self.store.record_of(entry.key)
        if record is None:
            return "the record of its latest build is gone from the store"
        changes = differences(self.store, record.identity, identity)
        unknown = step.task.only_running_tells()
        if unknown:
            changes.append(f"only collecting tells whether {', '.join(unknown)} changed")
        if changes:
            return "; ".join(changes)
        if not self.store.is_whole(entry.artifact):
            return "artifact is gone from the store"
        return "its latest build grew from another artifact"

    def partition_identity(self, identity: Identity) -> str:
        """What a partition's result depends on beside the partition.

        Requests to forget are not among it, since few partitions hold what is to be forgotten: whoever
        takes an earlier result looks for that in it (``RowWork.outdated``).
        """
        found = found_outside(identity.outside)
        return digest_of_value(
            [identity.task, identity.settings, identity.code, identity.libraries, identity.seed, found]
        )

    def earlier_partitions(self, step: Step) -> dict[str, str]:
        """Where the step's last builds have the results of single partitions (place → key)."""
        found: dict[str, str] = {}
        for entry in self.store.history(self.history_name, step.name, last=_BUILDS_LOOKED_AT):
            record = self.store.record_of(entry.key)
            if record is not None:
                found |= record.partition_results
        return found

    def _grown(self, step: Step, identity: Identity) -> Identity:
        """The identity with its previous artifact: that of the latest build, if nothing else has changed since."""
        entry = self._latest_entry(step)
        if entry is None:
            return identity
        record = self.store.record_of(entry.key)
        if record is not None and record.identity.grown_from(None) == identity:
            return record.identity
        return identity.grown_from(entry.artifact if self.store.is_whole(entry.artifact) else None)

    def _depends(self, step: Step, waits: list[str]) -> Decision:
        if step.name in self.afresh:
            return Decision("build", self._why_afresh(step))
        why = f"waits for {', '.join(waits)}"
        entry = self._latest_entry(step)
        if entry is None:
            return Decision("depends", f"{why}; first build")
        record = self.store.record_of(entry.key)
        if record is not None:
            known = {slot: digest for slot, digest in record.identity.inputs.items() if slot in step.task.inputs()}
            identity = self.identity(step, known)
            pinned = self._pinned(step, identity) if known.keys() == step.task.inputs().keys() else None
            if pinned is not None:
                return Decision("reuse", f"pinned, whatever comes of {', '.join(waits)}", build=pinned.build)
            why = "; ".join([why, *differences(self.store, record.identity, identity)])
        return Decision("depends", why)

    def _why_afresh(self, step: Step) -> str:
        if step.name in self.options.rebuild:
            return "asked for by --rebuild"
        causes = [
            n for n in self.recipe.steps if n in self.options.rebuild and step.name in self.recipe.downstream([n])
        ]
        return f"comes after {', '.join(causes)}, which --rebuild builds afresh"

    def _latest_entry(self, step: Step) -> Entry | None:
        history = self.store.history(self.history_name, step.name, last=1)
        return history[-1] if history else None

    def _latest_build(self, step: Step) -> Build | None:
        entry = self._latest_entry(step)
        return self.store.record_of(entry.key) if entry else None


def _unchanged(build: Build) -> str:
    """Why a build of the very same identity is reused."""
    if build.accepted_from:
        return f"accepted by --reuse from build {build.accepted_from[:12]}"
    return "same settings, code and inputs"
