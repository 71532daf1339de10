"""Looking after a store: checking every byte, and freeing what nothing refers to."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from storage.artifact import FileEntry, Manifest
from storage.disk import REMOVED, finish_removals
from storage.errors import AthanorError, Destroyed, NotFound, StoreCorrupted
from storage.identity import canonical_json
from storage.leases import Lease, all_leases, is_forgotten, is_running
from storage.locks import held_since, locked
from storage.memory import PARTITIONS, RESULTS, keys_in, results_in
from storage.place import CONCURRENT_TRANSFERS
from storage.store import COLLECTOR, Store
from storage.tombstones import bury

PLUMBING = "it checks and frees; it makes nothing"

_DELETED_AT_A_TIME = 1000
_READ_AT_A_TIME = 256


def problems(store: Store, digest: str | None = None) -> Iterator[str]:
    """What is wrong with one artifact, or with everything in the store: one line each."""
    names = [digest] if digest else [name.removesuffix(".json") for name in store.place.names("artifacts")]
    found: dict[str, str | None] = {}
    """What is wrong with each object that was looked at."""
    for name in names:
        try:
            manifest = store.manifest(name)
        except (StoreCorrupted, NotFound) as error:
            yield str(error)
            continue
        new = {file: entry for file, entry in manifest.files.items() if entry.object not in found}
        verdicts = store.place.each(partial(_problem, store), new.values(), CONCURRENT_TRANSFERS)
        for (file, entry), problem in zip(new.items(), verdicts, strict=True):
            if problem is not None and entry.object not in found:
                yield f"artifact {name[:12]} ({manifest.kind}), file {file}: {problem}"
            found[entry.object] = problem
    if digest is None:
        yield from _problems_of_builds(store, set(names))


def _problem(store: Store, entry: FileEntry) -> str | None:
    """What is wrong with an object, or None."""
    try:
        store.objects.verify(entry)
    except Destroyed:
        return None  # as somebody wanted
    except AthanorError as error:
        return str(error)
    return None


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
    uploads: int = 0
    """Uploads to object storage that were cut off; their parts are freed."""


@dataclass(frozen=True)
class _Running:
    """The builds that are under way."""

    oldest: float
    """When the first of them began (seconds since 1970, by the store's clock); now, if there are none."""
    here: set[str]
    """Keys of those in this home."""


def collect_garbage(store: Store, *, keep: int = 3, dry_run: bool = False) -> Garbage:
    """Free everything but the last ``keep`` builds of each step, the aliases, and what running builds wrote.

    Returns what was, or with ``dry_run`` would be, freed.
    """
    locks = store.home / "work" / "locks"
    with ExitStack() as stack:
        stack.enter_context(locked(locks / COLLECTOR))
        here = {p.name: since for p in locks.iterdir() if (since := held_since(p)) and p.name != COLLECTOR}
        lease = None if store.place.local else stack.enter_context(store.collecting())
        if lease is None:
            running = _Running(min(here.values(), default=time.time()), set(here))
        else:
            running = _running_anywhere(store, set(here))
        garbage = _garbage(store, keep, running.oldest, running.here)
        garbage.uploads = store.place.abandon_uploads(running.oldest, dry_run=dry_run)
        if not dry_run:
            _free(store, garbage, lease)
    return garbage


def _running_anywhere(store: Store, here: set[str]) -> _Running:
    """The builds of all hosts that share a store on object storage, by their leases."""
    leases = all_leases(store.place)
    now = leases.pop(COLLECTOR).taken  # it was taken just now, by the store's clock
    began = [state.taken for state in leases.values() if is_running(state, now)]
    return _Running(min(began, default=now), here)


def _free(store: Store, garbage: Garbage, lease: Lease | None) -> None:
    """Records before objects, so that a collection that is killed leaves nothing that looks whole but is not."""
    by_kind = [[name for name in garbage.files if name.startswith("objects/") == objects] for objects in (False, True)]
    for names in by_kind:
        for start in range(0, len(names), _DELETED_AT_A_TIME):
            if lease is not None:
                lease.check()
            store.place.each(store.place.delete, names[start : start + _DELETED_AT_A_TIME])
    store.objects.forget()
    _remove(store, garbage.folders)


def _remove(store: Store, folders: Iterable[Path]) -> None:
    """These folders of intermediate files, and what a killed process had not finished removing: gone on return."""
    finish_removals()
    for folder in [*folders, store.home / "work" / REMOVED]:
        shutil.rmtree(folder, ignore_errors=True)


def _garbage(store: Store, keep: int, oldest_running: float, running: set[str]) -> Garbage:
    garbage = Garbage()
    live_artifacts = set(store.aliases().values())
    live_builds: set[str] = set()
    for recipe, step in store.steps():
        history = store.history(recipe, step)
        live_artifacts.update(entry.artifact for entry in history[-keep:])
        live_builds.update(entry.key for entry in history[-keep:])
        garbage.files.extend(f"refs/steps/{recipe}/{step}/{entry.number:06}.json" for entry in history[:-keep])
    live_results: set[str] = set()
    dated = store.place.stats("builds")
    for build in store.builds():
        if build.key in live_builds or build.artifact in live_artifacts:
            live_builds.add(build.key)
            live_results.add(build.results)
        elif (record := dated.get(f"{build.key}.json")) is None or record.modified >= oldest_running:
            # Written while a build was running: with its artifact, which may be older by a moment.
            live_artifacts.add(build.artifact)
            live_results.add(build.results)
        else:
            garbage.files.append(f"builds/{build.key}.json")
    live_objects = _sweep_records(store, live_artifacts, live_results, oldest_running, garbage)
    for name, file in store.place.stats("objects").items():
        if name.replace("/", "") not in live_objects and file.modified < oldest_running:
            garbage.files.append(f"objects/{name}")
            garbage.bytes += file.bytes
    if not store.place.local:
        garbage.files.extend(_forgotten_leases(store, oldest_running))
    garbage.folders.extend(_abandoned(store, running))
    return garbage


def _sweep_records(
    store: Store, artifacts: set[str], results: set[str], oldest_running: float, garbage: Garbage
) -> set[str]:
    """Sort manifests and what is remembered of partitions into garbage and not; the objects that the latter need."""
    live: set[str] = set()
    for content in _kept_of(store, "artifacts", artifacts, oldest_running, garbage):
        live.update(entry.object for entry in Manifest.model_validate_json(content).files.values())
    gone = [name.removeprefix("artifacts/") for name in garbage.files if name.startswith("artifacts/")]
    garbage.artifacts = len(gone)
    garbage.folders.extend(store.home / "views" / name.removesuffix(".json") for name in gone)
    partitions = keys_in(_kept_of(store, RESULTS, results, oldest_running, garbage))
    for content in _kept_of(store, PARTITIONS, partitions, oldest_running, garbage):
        live.update(FileEntry(**entry).object for entry in json.loads(content)["files"].values())
    return live


def _kept_of(store: Store, folder: str, wanted: set[str], oldest_running: float, garbage: Garbage) -> Iterator[bytes]:
    """The contents of the records in ``folder`` that are wanted or new; the others are garbage."""
    kept = []
    for name, file in sorted(store.place.stats(folder).items()):
        if name.removesuffix(".json") in wanted or file.modified >= oldest_running:
            kept.append(f"{folder}/{name}")
        else:
            garbage.files.append(f"{folder}/{name}")
    for start in range(0, len(kept), _READ_AT_A_TIME):
        contents = store.place.each(store.place.read, kept[start : start + _READ_AT_A_TIME])
        yield from (content for content in contents if content is not None)


def _forgotten_leases(store: Store, now: float) -> Iterator[str]:
    """Files of leases that nobody can be waiting for."""
    forgotten = {name for name, state in all_leases(store.place).items() if is_forgotten(state, now)}
    for name in store.place.names("leases"):
        if name.rpartition("/")[0] in forgotten:
            yield f"leases/{name}"


def _abandoned(store: Store, running: set[str]) -> Iterator[Path]:
    """Scratch folders of builds that are not running; their next run starts from the beginning."""
    for folder in sorted((store.home / "work").iterdir()):
        if folder.is_dir() and folder.name not in {"locks", REMOVED, *running}:
            yield folder


def destroy(store: Store, entries: Sequence[FileEntry], urls: Collection[str], request: int) -> int:
    """Destroy objects on request, leaving tombstones, and all that repeats a part of them.

    Returns how many builds are running in this home, which may hold the same.

    That is: results of partitions that refer to them, samples of documents at these URLs in records
    of builds, and the scratch of builds that nobody goes on with.
    """
    locks = store.home / "work" / "locks"
    with locked(locks / COLLECTOR):
        bury(store.place, [entry.object for entry in entries], request)
        _destroy_partitions(store, {entry.object for entry in entries}, urls)
        for build in store.builds():
            samples = [sample for sample in build.samples if sample.get("place") not in urls]
            if len(samples) < len(build.samples):
                store.record(build.model_copy(update={"samples": samples}))
        for entry in entries:
            store.objects.destroy(entry)
        running = {path.name for path in locks.iterdir() if held_since(path)} - {COLLECTOR}
        _remove(store, _abandoned(store, running))
    return len(running)


def _destroy_partitions(store: Store, objects: Collection[str], urls: Collection[str]) -> None:
    """Delete what is remembered of partitions that were made into one of these, or that names a document.

    A sample is a row: its number, and then fields of ``tasks.task.Sample`` in their order.
    """

    def holds(result: dict[str, Any]) -> bool:
        samples = [*result.get("stats", {}).get("samples", []), *result.get("short", {}).get("samples", [])]
        files = result.get("files", {}).values()
        return any(e["object"] in objects for e in files) or any(text in urls for sample in samples for text in sample)

    for name in store.place.names(PARTITIONS):
        result = results_in(store.place.read(f"{PARTITIONS}/{name}"))
        if not result or holds(result):
            store.place.delete(f"{PARTITIONS}/{name}")
    for name in store.place.names(RESULTS):
        found = results_in(store.place.read(f"{RESULTS}/{name}"))
        kept = {place: result for place, result in found.items() if not holds(result)}
        if len(kept) < len(found):
            store.place.write(f"{RESULTS}/{name}", canonical_json(kept).encode())
