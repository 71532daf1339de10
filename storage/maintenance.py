"""Looking after a store: checking every byte, and freeing what nothing refers to."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from storage.artifact import FileEntry, Manifest
from storage.errors import AthanorError, NotFound, StoreCorrupted
from storage.locks import held_since, locked
from storage.store import Store

PLUMBING = "it checks and frees; it makes nothing"


def problems(store: Store, digest: str | None = None) -> Iterator[str]:
    """What is wrong with one artifact, or with everything in the store: one line each."""
    names = [digest] if digest else [name.removesuffix(".json") for name in store.place.names("artifacts")]
    checked: set[str] = set()
    for name in names:
        try:
            manifest = store.manifest(name)
        except (StoreCorrupted, NotFound) as error:
            yield str(error)
            continue
        for file, entry in manifest.files.items():
            if entry.object in checked:
                continue
            checked.add(entry.object)
            try:
                store.objects.local_path(entry)
            except AthanorError as error:
                yield f"artifact {name[:12]} ({manifest.kind}), file {file}: {error}"
    if digest is None:
        yield from _problems_of_builds(store, set(names))


def _problems_of_builds(store: Store, artifacts: set[str]) -> Iterator[str]:
    for build in store.builds():
        if build.identity.key != build.key:
            yield f"builds/{build.key}.json was changed: its content gives another key"
        if build.artifact not in artifacts:
            yield f"build {build.key[:12]} of {build.recipe}/{build.step}: its artifact {build.artifact[:12]} is gone"


@dataclass
class Garbage:
    """What a collection frees."""

    files: list[str] = field(default_factory=list)
    """Names in the store, of objects, manifests, builds, partition records and references."""
    folders: list[Path] = field(default_factory=list)
    """Scratch of builds that nobody goes on with, and views of artifacts that go."""
    bytes: int = 0
    artifacts: int = 0


def collect_garbage(store: Store, *, keep: int = 3, dry_run: bool = False) -> Garbage:
    """Free everything but the last ``keep`` builds of each step, the aliases, and what running builds wrote.

    Returns what was, or with ``dry_run`` would be, freed.
    """
    locks = store.home / "work" / "locks"
    with locked(locks / "collector"):
        running = {p.name: since for p in locks.iterdir() if (since := held_since(p)) and p.name != "collector"}
        oldest = min(running.values(), default=time.time())
        garbage = _garbage(store, keep, oldest, set(running))
        if not dry_run:
            for name in garbage.files:
                store.place.delete(name)
            for folder in garbage.folders:
                shutil.rmtree(folder, ignore_errors=True)
    return garbage


def _garbage(store: Store, keep: int, oldest_running: float, running: set[str]) -> Garbage:
    garbage = Garbage()
    live_artifacts = set(store.aliases().values())
    live_builds: set[str] = set()
    for recipe, step in store.steps():
        history = store.history(recipe, step)
        live_artifacts.update(entry.artifact for entry in history[-keep:])
        live_builds.update(entry.key for entry in history[-keep:])
        garbage.files.extend(f"refs/steps/{recipe}/{step}/{entry.number:06}.json" for entry in history[:-keep])
    live_partitions: set[str] = set()
    for build in store.builds():
        if build.key in live_builds or build.artifact in live_artifacts:
            live_builds.add(build.key)
            live_partitions.update(build.partition_results.values())
        elif not _is_new(store, f"builds/{build.key}.json", oldest_running):
            garbage.files.append(f"builds/{build.key}.json")
    live_objects = _sweep_records(store, live_artifacts, live_partitions, oldest_running, garbage)
    for name in store.place.names("objects"):
        if name.replace("/", "") not in live_objects and not _is_new(store, f"objects/{name}", oldest_running):
            garbage.files.append(f"objects/{name}")
            garbage.bytes += store.place.size(f"objects/{name}") or 0
    garbage.folders.extend(_abandoned(store, running))
    return garbage


def _sweep_records(
    store: Store, artifacts: set[str], partitions: set[str], oldest_running: float, garbage: Garbage
) -> set[str]:
    """Sort manifests and partition records into garbage and not; the objects that the latter need."""
    live: set[str] = set()
    for name in store.place.names("artifacts"):
        digest, file = name.removesuffix(".json"), f"artifacts/{name}"
        if digest in artifacts or _is_new(store, file, oldest_running):
            content = store.place.read(file)
            if content is not None:
                live.update(entry.object for entry in Manifest.model_validate_json(content).files.values())
        else:
            garbage.files.append(file)
            garbage.folders.append(store.home / "views" / digest)
            garbage.artifacts += 1
    for name in store.place.names("partitions"):
        file = f"partitions/{name}"
        if name.removesuffix(".json") in partitions or _is_new(store, file, oldest_running):
            content = store.place.read(file)
            if content is not None:
                live.update(FileEntry(**entry).object for entry in json.loads(content)["files"].values())
        else:
            garbage.files.append(file)
    return live


def _abandoned(store: Store, running: set[str]) -> Iterator[Path]:
    """Scratch folders of builds that are not running; their next run starts from the beginning."""
    for folder in sorted((store.home / "work").iterdir()):
        if folder.is_dir() and folder.name != "locks" and folder.name not in running:
            yield folder


def _is_new(store: Store, name: str, since: float) -> bool:
    """Whether a file was written or asked for after ``since`` (seconds since 1970)."""
    try:
        return bool(store.place.fs.modified(store.place.full(name)).timestamp() >= since)
    except FileNotFoundError:
        return False
