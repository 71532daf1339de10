"""The store: artifacts by content, builds by key, and names that move.

    objects/ab/cdef…       immutable files, named by the digest of their content
    artifacts/DIGEST.json  what an artifact is: kind, files, counts
    builds/KEY.json        how it came to be: one record per key
    partitions/KEY.json    what single partitions were made into; results/KEY.json: those of a build
    refs/steps/RECIPE/STEP/NUMBER.json   history of a step; refs/aliases/NAME.json
    leases/KEY/…           who builds what, on object storage (see storage.leases)

An artifact is committed objects first, then manifest, then build, so a killed run leaves nothing
half-written that could be found.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

from storage.artifact import (
    STORED,
    Artifact,
    FileEntry,
    JsonValue,
    Manifest,
    Stored,
    check_new,
    copy_folder,
    files_below,
    link_all,
)
from storage.builds import Build
from storage.cache import cache_limit
from storage.disk import link, remove_later
from storage.errors import NotFound, StoreCorrupted, StoreUnavailable
from storage.faults import explained
from storage.identity import canonical_json
from storage.kinds import artifact_class
from storage.leases import Held, Lease, held, leased, wait_until_free
from storage.locks import locked
from storage.names import Names, is_safe
from storage.objects import objects_at
from storage.place import CONCURRENT_TRANSFERS, Place
from storage.stored import AnyFile, LateFiles, StoredFile

COLLECTOR = "collector"
"""Name of the lock, and of the lease, of whoever frees what nothing refers to."""
_BUILDS_AT_A_TIME = 256


@dataclass(frozen=True)
class Work:
    """Scratch of a running build; it survives a kill, so that the next run resumes."""

    key: str
    output: Path
    scratch: Path
    lock_fds: tuple[int, ...]


@dataclass(frozen=True)
class _Claim:
    """A build that this process has on object storage."""

    lease: Lease
    collector: Held
    """The collector's lease when the build began."""


class Store(Names):
    """Artifacts at an address, with local folders for scratch and for opened artifacts."""

    def __init__(self, url: str, home: Path) -> None:
        """``url`` is a path or any fsspec URL; ``home`` a local (or shared) folder.

        Raises StoreUnavailable if they cannot be written.
        """
        self.home = home.resolve()
        with explained(str(home)):
            self.home.mkdir(parents=True, exist_ok=True)
        self.place = Place(url)
        self._copies = self.home / "cache" / "objects"
        self.objects = objects_at(self.place, self._copies, cache_limit())
        self._building: dict[str, _Claim] = {}

    # Finding and opening

    def find(self, key: str) -> Build | None:
        """The build of this key, if its record, its manifest and all its objects are there."""
        build = self.record_of(key)
        if build is None or not self.is_whole(build.artifact):
            return None
        return build

    def record_of(self, key: str) -> Build | None:
        """The record of a build, whether or not its artifact is still there."""
        content = self.place.read(f"builds/{key}.json")
        return Build.model_validate_json(content) if content is not None else None

    def is_whole(self, digest: str) -> bool:
        """Whether an artifact's manifest and objects are all there."""
        try:
            manifest = self.manifest(digest)
        except NotFound:
            return False
        return not self.objects.missing(manifest.files.values())

    def manifest(self, digest: str) -> Manifest:
        """Raises NotFound for an unknown artifact, StoreCorrupted if the manifest is not what was written."""
        content = self.place.read(f"artifacts/{digest}.json")
        if content is None:
            raise NotFound(
                f"the store {self.place.root} has no artifact {digest[:12]}; `athanor list` shows what it has"
            )
        return _manifest_of(digest, content)

    def open(self, digest: str) -> Artifact:
        """The artifact as a folder of links to read-only files, each checked against its digest.

        Where files are opened by their paths alone, the folder is made only when somebody asks for it, and files of a
        remote store are fetched one by one, as they are asked for. So may be large files of other kinds.
        """
        manifest = self.manifest(digest)
        kind = artifact_class(manifest.kind)
        folder = self.home / "views" / digest
        if kind.opened_by_path and not self.place.local:
            return kind(folder, manifest, LateFiles({n: self.stored(entry) for n, entry in manifest.files.items()}))
        now = [name for name in manifest.files if self.place.local or not kind.is_fetched_later(name)]
        targets = self.place.each(self.objects.local_path, [manifest.files[name] for name in now], CONCURRENT_TRANSFERS)
        objects = dict(zip(now, targets, strict=True))
        if self.place.local and kind.opened_by_path:
            return kind(folder, manifest, objects)
        link_all(folder, objects)
        if len(now) < len(manifest.files):
            stored = Stored(url=self.place.url, cache=self._copies, cache_limit=cache_limit())
            (folder / STORED).write_text(stored.model_dump_json(), encoding="utf-8")
        return kind(folder, manifest)

    def file(self, manifest: Manifest, name: str) -> Path:
        """One file of an artifact, read-only and checked against its digest."""
        return self.objects.local_path(manifest.files[name])

    def stored(self, entry: FileEntry) -> StoredFile:
        """An object of a remote store, which is fetched when it is opened."""
        return StoredFile(self.place.url, self._copies, cache_limit(), entry)

    def export(self, digest: str, folder: Path) -> None:
        """Copy an artifact's files, writable, into a new or empty folder; UserError if it holds anything."""
        check_new(folder)
        artifact = self.open(digest)
        with explained(str(folder)):
            copy_folder(artifact, folder)

    # Building

    @contextmanager
    def building(self, key: str, on_wait: Callable[[], None] | None = None) -> Iterator[Work]:
        """Be the only builder of ``key``, waiting for another one to end; look again with ``find`` once inside.

        A lock keeps away the processes that share this home, a lease those of other hosts.
        """
        work = self.home / "work"
        with ExitStack() as stack:
            descriptor = stack.enter_context(locked(work / "locks" / key, on_wait=on_wait))
            if not self.place.local:
                stack.enter_context(self._claimed(key, on_wait))
            output, scratch = work / key / "output", work / key / "scratch"
            with explained(str(work)):
                output.mkdir(parents=True, exist_ok=True)
                scratch.mkdir(parents=True, exist_ok=True)
            # A killed commit leaves links to objects, through which a resumed task would write into the store.
            for path in [path for path in output.rglob("*") if path.is_symlink()]:
                path.unlink()
            yield Work(key, output, scratch, (descriptor,))

    @contextmanager
    def _claimed(self, key: str, on_wait: Callable[[], None] | None) -> Iterator[None]:
        """Hold the lease of ``key``, while no collector of another host is at work that does not know of it."""
        with leased(self.place, key, home=self._home_id(), on_wait=on_wait) as lease:
            wait_until_free(self.place, COLLECTOR, on_wait)
            self._building[key] = _Claim(lease, self._collector())
            try:
                yield
            finally:
                del self._building[key]

    @contextmanager
    def collecting(self) -> Iterator[Lease]:
        """Be the only collector among all hosts that share a store on object storage."""
        with leased(self.place, COLLECTOR, home=self._home_id()) as lease:
            yield lease

    def _collector(self) -> Held:
        return held(self.place.stats(f"leases/{COLLECTOR}"))

    def _home_id(self) -> str:
        """Tells this home from those of other hosts."""
        home = Place(str(self.home))
        home.write("id", uuid.uuid4().hex.encode(), exclusive=True)
        return (home.read("id") or b"").decode()

    def take(self, path: Path, *, keep: bool = False, lasting: bool = True) -> FileEntry:
        """Take a file's content as an object, leaving a link to it in its place, or the file itself with ``keep``.

        The link leads to a copy of what a remote store has, which stays while this process lives if it is ``lasting``.
        """
        with self._kept_from_collectors():
            return self._take(path, keep=keep, lasting=lasting)

    def move_in(self, path: Path, *, lasting: bool = True) -> FileEntry:
        """Take a file's content as an object; nothing is left in its place.

        A copy of what a remote store has stays while this process lives if it is ``lasting``.
        """
        with self._kept_from_collectors():
            entry = self.objects.put(path, lasting=lasting)
        path.unlink(missing_ok=True)  # it stays where the store has its content already
        return entry

    def _kept_from_collectors(self) -> AbstractContextManager[int]:
        """While it is open, no collector of this home frees anything."""
        return locked(self.home / "work" / "locks" / COLLECTOR, shared=True)

    def _take(self, path: Path, *, keep: bool = False, lasting: bool = True) -> FileEntry:
        entry = self.objects.put(path, keep=keep, lasting=lasting)
        if not keep and (self.place.local or not path.is_symlink()):
            link(path, self.objects.local_path(entry) if self.place.local else self.objects.address(entry))
        return entry

    def _share(self, path: AnyFile) -> FileEntry:
        """The object whose file this is."""
        if isinstance(path, StoredFile):
            return path.entry
        entry = self.objects.entry_of_file(path)
        if entry is None:
            raise StoreUnavailable(
                f"{path} is gone, though this build needs it: somebody has removed it from the store; run again"
            )
        return entry

    def commit(
        self, work: Work, kind: str, counts: Mapping[str, JsonValue], shared: Mapping[str, AnyFile] | None = None
    ) -> Manifest:
        """Make the files in ``work.output`` an artifact, and with them objects that are there: name → its file.

        Raises StoreUnavailable if one of these is gone.
        """
        shared = dict(shared or {})
        made = files_below(work.output)
        if self.place.local:  # one lock for all: most files are objects of earlier builds
            with self._kept_from_collectors():
                entries = [self._take(path) for path in made.values()]
                files = dict(zip(made, entries, strict=True)) | {n: self._share(where) for n, where in shared.items()}
        else:
            entries = self.place.each(partial(self.take, lasting=False), made.values(), CONCURRENT_TRANSFERS)
            files = dict(zip(made, entries, strict=True)) | {n: self._share(where) for n, where in shared.items()}
        manifest = self._write_manifest(Manifest(kind=kind, files=files, counts=dict(counts)))
        if work.key in self._building:
            self._put_back(self._building[work.key], made, files)
        return manifest

    def _put_back(self, claim: _Claim, paths: Mapping[str, Path], files: Mapping[str, FileEntry]) -> None:
        """Put again what a collector of another host may have freed before it could know that this build needs it.

        Raises StoreUnavailable if that is no file of ours: then the step has to be done again.
        """
        now = self._collector()
        if now == claim.collector:
            return
        wait_until_free(self.place, COLLECTOR)
        self.objects.forget()
        gone = set(self.objects.missing(files.values()))
        names = [name for name, entry in files.items() if entry in gone]
        for name in names:
            if name not in paths or not paths[name].is_file():
                raise StoreUnavailable(
                    f"object {files[name].object[:12]} is gone from {self.place.shown}, though this build needs it: a "
                    "collector of another host has removed it; run again"
                )
        self.place.each(self.take, [paths[name] for name in names], CONCURRENT_TRANSFERS)

    def adopt(self, kind: str, files: Mapping[str, Path], counts: Mapping[str, JsonValue] | None = None) -> Manifest:
        """Make copies of files an artifact: a user's, or those of another artifact, which are not stored twice."""
        names = sorted(files)
        entries = self.place.each(lambda name: self.take(files[name], keep=True), names, CONCURRENT_TRANSFERS)
        taken = dict(zip(names, entries, strict=True))
        return self._write_manifest(Manifest(kind=kind, files=taken, counts=dict(counts or {})))

    def _write_manifest(self, manifest: Manifest) -> Manifest:
        self.objects.flush()
        self.place.write(f"artifacts/{manifest.digest}.json", canonical_json(manifest.model_dump(mode="json")).encode())
        return manifest

    def record(self, build: Build) -> None:
        """Write a build's record; the scratch of its key is no longer needed.

        Raises LeaseLost if another host has taken over the build in the meantime: its result counts.
        """
        if build.key in self._building:
            self._building[build.key].lease.check()
        self.place.write(f"builds/{build.key}.json", build.model_dump_json(indent=1).encode())
        remove_later(self.home / "work" / build.key)

    # Records of builds

    def builds(self) -> Iterator[Build]:
        """Every build's record, whole or not."""
        keys = [name.removesuffix(".json") for name in self.place.names("builds")]
        for start in range(0, len(keys), _BUILDS_AT_A_TIME):
            for build in self.place.each(self.record_of, keys[start : start + _BUILDS_AT_A_TIME]):
                if build is not None:
                    yield build

    def builds_of(self, digest: str) -> list[Build]:
        """The builds that made this artifact, oldest first."""
        return sorted((b for b in self.builds() if b.artifact == digest), key=lambda build: build.started_at)


@lru_cache(maxsize=4)
def _manifest_of(digest: str, content: bytes) -> Manifest:
    """What the record of an artifact says; a step looks at the same few many times."""
    try:
        manifest = Manifest.model_validate_json(content)
    except ValueError as error:
        raise StoreCorrupted(f"artifacts/{digest}.json is not a manifest; run `athanor verify`") from error
    if manifest.digest != digest or not all(is_safe(name) for name in manifest.files):
        raise StoreCorrupted(f"artifacts/{digest}.json was changed; run `athanor verify`, then `--rebuild` the step")
    return manifest
