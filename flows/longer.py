"""Whether a training can continue from the kept state of a shorter one, and why not.

A state is an artifact of the kind ``state``, listed as a build of ``STEP.state``. Its identity is that
of the steps which any longer run has in common with it (``tasks.stem``), with the moment among what it
was made from. A longer run takes the furthest state that belongs to its own first steps.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from flows.history import History
from flows.recipe import Step
from flows.why import differences
from storage.builds import Build, Entry, Identity
from storage.store import Store
from tasks.stem import Stem

SUFFIX = ".state"


@dataclass(frozen=True)
class Continuation:
    """Where a training begins."""

    identity: Identity
    """Of the states that it can continue from, and that it leaves."""
    state: Build | None
    """The state to continue from; None: from the start."""
    said: str
    """Where it begins, or why from the start; empty where there is nothing to say."""


def continuation(history: History, step: Step, identity: Identity, latest: Build | None) -> Continuation | None:
    """How a build of ``step`` that has this identity begins; None for steps that are never continued.

    ``latest``: the step's latest build, whose tokens may have been raised.
    """
    stem = step.task.stem(identity.inputs)
    if stem is None:
        return None
    wanted = identity.model_copy(update={"settings": stem.settings, "inputs": dict(stem.inputs)})
    states = list(_states(history, step.name + SUFFIX))
    mine = [(entry, build) for entry, build in states if _stem_of(build) == wanted]
    fitting = [(entry, build) for entry, build in mine if after(build)[0] <= stem.steps]
    if fitting:
        entry, state = max(fitting, key=lambda found: (after(found[1])[0], found[0].number))
        at, tokens = after(state)
        name = f"{history.name}/{step.name}{SUFFIX}@{entry.number}"
        return Continuation(wanted, state, f"continues from step {at:,} of {name} ({tokens:,} tokens)")
    if latest is None or not _raised(latest.identity, identity):
        return Continuation(wanted, None, "")
    why = _why_not(history.store, stem, wanted, states, mine)
    return Continuation(wanted, None, f"trained from the start: {why}")


def after(state: Build) -> tuple[int, int]:
    """After how many steps, and tokens, a state is."""
    moment = state.identity.outside
    return int(moment["after_step"]), int(moment["after_tokens"])


def _states(history: History, name: str) -> Iterator[tuple[Entry, Build]]:
    """The kept states of a step that are still there, oldest first."""
    store = history.store
    for entry in store.history(history.name, name):
        build = store.record_of(entry.key)
        if build is not None and store.is_whole(build.artifact):
            yield entry, build


def _stem_of(state: Build) -> Identity:
    return state.identity.model_copy(update={"outside": None})


def _raised(old: Identity, new: Identity) -> bool:
    """Whether a build trains on more tokens than the one before."""
    before, now = (found.settings if isinstance(found.settings, dict) else {} for found in (old, new))
    return bool(now.get("tokens", 0) > before.get("tokens", 0))


def _why_not(
    store: Store, stem: Stem, wanted: Identity, states: list[tuple[Entry, Build]], mine: list[tuple[Entry, Build]]
) -> str:
    if not stem.steps:
        return stem.why_none
    if mine:
        tokens = min(after(build)[1] for _, build in mine)
        return f"the kept state is after {tokens:,} tokens, and this run's first {stem.tokens:,} alone are those of any"
    if states:
        return (
            f"the kept state is of another training ({'; '.join(differences(store, _stem_of(states[-1][1]), wanted))})"
        )
    return "no state of the shorter run is kept, which only constant and stable_decay leave"
