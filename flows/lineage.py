"""What an artifact was made of, back to the sources."""

from __future__ import annotations

from typing import Any

from storage.builds import Build
from storage.errors import NotFound
from storage.store import Store

Json = dict[str, Any]


def lineage(store: Store, digest: str, build: Build | None = None) -> Json:
    """How an artifact came to be, by ``build`` or its latest one, and the same for every input.

    A step that changes nothing makes the very artifact that it was given, so builds are followed
    by the step that each input came from, not by the artifact alone.
    """
    known: dict[str, Json] = {}

    def node(artifact: str, made_by: Build | None, above: frozenset[str]) -> Json:
        name = made_by.key if made_by else artifact
        if name not in known:
            known[name] = {"artifact": artifact, "kind": _kind(store, artifact), "build": None, "inputs": {}}
            if made_by is not None:
                known[name]["build"] = _summary(made_by)
                for slot, source in made_by.identity.inputs.items():
                    made_from = _build_of_input(store, made_by, slot, above | {made_by.key})
                    known[name]["inputs"][slot] = node(source, made_from, above | {made_by.key})
        return known[name]

    builds = store.builds_of(digest) if build is None else [build]
    return node(digest, builds[-1] if builds else None, frozenset())


def _build_of_input(store: Store, build: Build, slot: str, above: frozenset[str]) -> Build | None:
    """The build that made an input: the latest of the step it was taken from; None for a user's folder."""
    artifact, step = build.identity.inputs[slot], build.input_steps.get(slot)
    if step is None:
        return None
    keys = [entry.key for entry in store.history(build.recipe, step) if entry.artifact == artifact]
    for found in (store.record_of(key) for key in reversed(keys)):
        if found is not None and found.key not in above:
            return found
    others = [found for found in store.builds_of(artifact) if found.key not in above]
    return others[-1] if others else None


def _kind(store: Store, digest: str) -> str | None:
    try:
        return store.manifest(digest).kind
    except NotFound:
        return None


def _summary(build: Build) -> Json:
    return {
        "key": build.key,
        "recipe": build.recipe,
        "step": build.step,
        "task": build.identity.task,
        "settings": build.identity.settings,
        "seed": build.identity.seed,
        "libraries": build.identity.libraries,
        "started_at": build.started_at.isoformat(),
        "seconds": build.seconds,
        "headline": build.headline,
        "metrics": build.metrics,
        "accepted_from": build.accepted_from,
        "mlflow_run": build.mlflow_run,
        "previous": build.identity.previous,
    }


def lineage_text(content: Json) -> str:
    lines: list[str] = []
    shown: set[str] = set()

    def draw(node: Json, slot: str, indent: str) -> None:
        build = node["build"]
        made = f"{build['recipe']}/{build['step']} ({build['task']})" if build else "taken from a folder"
        accepted = (
            f", accepted by --reuse from build {build['accepted_from'][:12]}"
            if build and build["accepted_from"]
            else ""
        )
        headline = f": {build['headline']}" if build and build["headline"] else ""
        name = build["key"] if build else node["artifact"]
        again = " (see above)" if name in shown and node["inputs"] else ""
        prefix = f"{indent}{slot}: " if slot else indent
        lines.append(f"{prefix}{node['kind'] or 'gone'} {node['artifact'][:12]}  {made}{accepted}{headline}{again}")
        if name in shown:
            return
        shown.add(name)
        for inner, source in node["inputs"].items():
            draw(source, inner, indent + "  ")

    draw(content, "", "")
    return "\n".join(lines)
