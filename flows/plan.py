"""What would be built, what would be reused, and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from flows.history import History
from flows.home import Home
from flows.identities import Identities
from flows.longer import Continuation, continuation
from flows.recipe import Recipe, Step
from flows.why import differences
from flows.world import RecipeWorld
from storage.builds import Build, Identity
from storage.code import remember_in
from storage.errors import RecipeError
from storage.filecache import DigestCache
from storage.store import Store
from storage.takedown import Takedowns
from tasks.inputs import Input
from tasks.known import Known

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

    def __post_init__(self) -> None:
        remember_in(self.home.code_digests)
        for option in ("reuse", "rebuild"):
            self.recipe.check_steps(f"--{option}", getattr(self.options, option))
        if self.options.until is not None:
            self.recipe.check_steps("--until", [self.options.until])
        if self.options.limit is not None and self.options.limit < 1:
            raise RecipeError(f"--limit {self.options.limit}: give a number of pages, at least 1")

    @cached_property
    def history(self) -> History:
        """This run's builds are listed there. Limited runs keep apart: they are nobody's previous version."""
        limit = self.options.limit
        return History(self.store, self.recipe.name if limit is None else f"{self.recipe.name}.limit{limit}")

    @cached_property
    def world(self) -> RecipeWorld:
        return RecipeWorld(self.recipe.folder, self.options.limit, DigestCache(self.home.file_digests, ahead=1000))

    @cached_property
    def takedowns(self) -> Takedowns:
        """The requests to leave documents out, as they are when the run is planned."""
        return Takedowns.of(self.store.place)

    @cached_property
    def identities(self) -> Identities:
        return Identities(self.recipe, self.history, self.world, self.takedowns)

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
        known = Known(self.recipe.maker_of, lambda reference: self._folder_of(reference, decisions))
        found = {
            name: steps[name].task.forecast(steps[name].resources, known)
            for name, decision in decisions.items()
            if decision.action != "reuse"
        }
        return {name: forecast for name, forecast in found.items() if forecast is not None}

    def _folder_of(self, reference: Input[Any], decisions: Mapping[str, Decision]) -> Path | None:
        """Where an input is on this machine; None: it is not built, or in a remote store, from which nothing is fetched
        to plan."""
        if reference.step is None:
            return self.recipe.folder / str(reference.path)
        decision = decisions[reference.step]
        reused = decision.build or decision.accepted
        if decision.action != "reuse" or reused is None or not self.store.place.local:
            return None
        return self.store.open(reused.artifact).folder

    def decide(self, step: Step, made: Mapping[str, str]) -> Decision:
        """Whether to build ``step``, given the artifacts of the steps it needs (step → digest)."""
        identity = self.identities.of(step, self.identities.inputs_of(step, made))
        if step.task.grows:
            identity = self.identities.grown(step, identity)
        pinned = self._pinned(step, identity)
        if pinned is not None:
            return pinned
        build = self.store.find(identity.key)
        if step.name in self.afresh:
            before = build or self.history.latest_build(step.name)
            begins = continuation(self.history, step, identity, None)
            begins = replace(begins, state=None) if begins is not None else None
            return Decision("build", self._why_afresh(step), identity, before=before, continuation=begins)
        if build is not None:
            return Decision("reuse", _unchanged(build), identity, build=build)
        why = self.why(step, identity)
        if step.name in self.options.reuse:
            accepted = self.history.latest_build(step.name)
            if accepted is None or not self.store.is_whole(accepted.artifact):
                raise RecipeError(f"--reuse {step.name}: {self.history.name}/{step.name} has no artifact to reuse yet")
            return Decision("reuse", f"accepted by --reuse in spite of: {why}", identity, accepted=accepted)
        begins = continuation(self.history, step, identity, self.history.latest_build(step.name))
        said = f"{why}; {begins.said}" if begins is not None and begins.said else why
        return Decision("build", said, identity, continuation=begins)

    def _pinned(self, step: Step, identity: Identity) -> Decision | None:
        """To keep a pinned step's latest artifact, if nothing but the content of its inputs has changed since."""
        latest = self.history.latest_build(step.name) if step.task.pinned() and step.name not in self.afresh else None
        if latest is None or latest.identity.model_copy(update={"inputs": identity.inputs}) != identity:
            return None
        if not self.store.is_whole(latest.artifact):
            return None
        changes = differences(self.store, latest.identity, identity)
        why = f"pinned: {'; '.join(changes)}" if changes else _unchanged(latest)
        return Decision("reuse", why, identity, build=latest)

    def why(self, step: Step, identity: Identity) -> str:
        """Why the step has to be built: how it differs from its latest build."""
        entry = self.history.latest_entry(step.name)
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

    def _depends(self, step: Step, waits: list[str]) -> Decision:
        if step.name in self.afresh:
            return Decision("build", self._why_afresh(step))
        why = f"waits for {', '.join(waits)}"
        entry = self.history.latest_entry(step.name)
        if entry is None:
            return Decision("depends", f"{why}; first build")
        record = self.store.record_of(entry.key)
        if record is not None:
            known = {slot: digest for slot, digest in record.identity.inputs.items() if slot in step.task.inputs()}
            identity = self.identities.of(step, known)
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


def _unchanged(build: Build) -> str:
    """Why a build of the very same identity is reused."""
    if build.accepted_from:
        return f"accepted by --reuse from build {build.accepted_from[:12]}"
    return "same settings, code and inputs"
