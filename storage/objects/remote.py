"""Objects on object storage: put if there is none, looked at afterwards, read by copies in a bounded local folder."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

from storage.artifact import FileEntry
from storage.cache import ObjectCache
from storage.disk import beside
from storage.errors import StoreCorrupted, StoreUnavailable
from storage.faults import explained
from storage.filecache import DigestCache
from storage.identity import digest_of_file
from storage.objects.base import Objects
from storage.place import Place

PLUMBING = "it keeps files by their content; it makes none"

_LIST_FROM = 512
"""Objects from which on listing the store is cheaper than asking for each: a listing names a thousand."""
_BELIEVED_SECONDS = 300.0
"""How long an object that was seen in a remote store is believed to be there."""


class RemoteObjects(Objects):
    """See ``Objects``; what was read or made here stays as a copy, until it makes room for others."""

    def __init__(self, place: Place, digests: DigestCache, cache: ObjectCache) -> None:
        super().__init__(place, digests)
        self._cache = cache
        self._seen: dict[str, tuple[int, float]] = {}
        """Bytes of objects, and when they were seen by this process's clock."""

    # Asking

    def _sizes(self, digests: list[str]) -> dict[str, int | None]:
        now = time.monotonic()
        seen = {d: self._seen[d][0] for d in digests if d in self._seen and now - self._seen[d][1] < _BELIEVED_SECONDS}
        unknown = [digest for digest in digests if digest not in seen]
        found: dict[str, int | None]
        if len(unknown) < _LIST_FROM:
            found = dict(zip(unknown, self._place.each(lambda d: self._place.size(self.name(d)), unknown), strict=True))
        else:
            prefixes = sorted({digest[:2] for digest in unknown})
            listings = self._place.each(lambda prefix: self._place.stats(f"objects/{prefix}"), prefixes)
            listed = {
                prefix + name: file.bytes
                for prefix, files in zip(prefixes, listings, strict=True)
                for name, file in files.items()
            }
            found = {digest: listed.get(digest) for digest in unknown}
        self._seen.update({digest: (size, now) for digest, size in found.items() if size is not None})
        return {**seen, **found}

    def entry_of_link(self, path: Path) -> FileEntry | None:
        if not path.is_symlink():
            return None
        target = path.resolve()
        digest = self._cache.digest_of(target)
        size = target.stat().st_size if target.is_file() else self._place.size(self.name(digest or "-"))
        return FileEntry(object=digest, bytes=size) if digest is not None and size is not None else None

    def entry_of_file(self, path: Path) -> FileEntry | None:
        return None

    def address(self, entry: FileEntry) -> Path:
        return self._cache.path(entry.object)

    # Putting and removing

    def put(self, path: Path, *, keep: bool = False, lasting: bool = True) -> FileEntry:
        linked = self.entry_of_link(path)
        if linked is not None:
            if not self.has(linked):
                self._upload(path, linked)  # only the copy was left
            return linked
        entry = FileEntry(object=digest_of_file(path), bytes=path.stat().st_size)
        with explained(str(path)):
            if not self.has(entry):
                self._upload(path, entry)
            if not keep and not path.is_symlink():
                self._keep_copy(path, entry, lasting)
        return entry

    def _keep_copy(self, path: Path, entry: FileEntry, lasting: bool) -> None:
        """Move a file that was put to where copies are."""
        if lasting:
            self._cache.pin(entry.object)
        copy = beside(self._cache.path(entry.object))
        shutil.move(path, copy)
        self._note(self._cache.add(entry.object, copy), entry)

    def _upload(self, path: Path, entry: FileEntry) -> None:
        name = self.name(entry.object)
        # An object is written once; only what has another size than its content should have is written over.
        if not self._place.upload(path, name, exclusive=True) and self._place.size(name) != entry.bytes:
            self._place.upload(path, name)
        there = self._place.size(name)
        if there != entry.bytes:
            raise StoreUnavailable(
                f"{self._place.shown}: {name} has {there} bytes after an upload of {entry.bytes}; run again, and if it "
                "stays so, ask whoever runs the object storage"
            )
        self._seen[entry.object] = (entry.bytes, time.monotonic())

    def destroy(self, entry: FileEntry) -> None:
        super().destroy(entry)
        self._cache.path(entry.object).unlink(missing_ok=True)
        self._seen.pop(entry.object, None)

    def forget(self) -> None:
        super().forget()
        self._seen.clear()

    # Reading

    def local_path(self, entry: FileEntry) -> Path:
        self._cache.pin(entry.object)
        return self.copy(entry)

    def hold(self, entry: FileEntry) -> None:
        """Have the copy stay, there or still to come, until it is released as often."""
        self._cache.hold(entry.object)

    def release(self, entry: FileEntry) -> None:
        """See ``hold``."""
        self._cache.release(entry.object)

    def tail(self, entry: FileEntry, most: int) -> bytes:
        """The last bytes of an object, read where it lies and compared with nothing."""
        content = self._place.read_part(self.name(entry.object), max(0, entry.bytes - most), entry.bytes)
        if content is None:
            raise self._gone(entry)
        return content

    def copy(self, entry: FileEntry) -> Path:
        """A local copy, to be opened now: later it may have made room for others. Raises as ``local_path`` does."""
        target = self.address(entry)
        if self._intact(target, entry):
            try:
                self._cache.touch(entry.object)
                return target
            except FileNotFoundError:  # removed just now, to make room for another
                pass
        return self._download(entry, target)

    def _download(self, entry: FileEntry, target: Path) -> Path:
        for attempt in (1, 2):
            beside_it = beside(target)
            try:
                with explained(str(target)):
                    self._place.download(self.name(entry.object), beside_it)
                    self._check(beside_it, entry)
                    return self._cache.add(entry.object, beside_it)
            except FileNotFoundError:
                self._seen.pop(entry.object, None)
                raise self._gone(entry) from None
            except StoreCorrupted:
                if attempt == 2:  # the first may have been cut short on its way
                    raise StoreCorrupted(
                        f"{self._place.shown}/{self.name(entry.object)}: content differs from its digest, so the store "
                        "was changed from outside; delete it, then `athanor run RECIPE --rebuild STEP` makes it anew"
                    ) from None
            finally:
                beside_it.unlink(missing_ok=True)
        raise AssertionError("unreachable")

    def verify(self, entry: FileEntry) -> None:
        self._cache.path(entry.object).unlink(missing_ok=True)
        self.copy(entry)
