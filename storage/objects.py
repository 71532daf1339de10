"""Immutable files named by the digest of their content, at any fsspec address.

On a local disk an object is a read-only file that was renamed into its place. On object storage it
is put if there is none, its size is looked at afterwards, and a copy stays in a bounded local cache.
"""

from __future__ import annotations

import os
import shutil
import stat
import time
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

from storage.artifact import FileEntry
from storage.cache import ObjectCache
from storage.disk import flush_all
from storage.errors import AthanorError, Destroyed, StoreCorrupted, StoreUnavailable
from storage.faults import explained
from storage.filecache import DigestCache
from storage.identity import digest_of_file
from storage.place import Place, beside
from storage.tombstones import epitaph

PLUMBING = "it keeps files by their content; it makes none"

DIGESTS = "object_digests.db"
"""Beside the folder of copies: digests of objects that were compared, by the states of their files."""
_DIGITS = 64
"""Of a digest."""
_LIST_FROM = 512
"""Objects from which on listing the store is cheaper than asking for each: a listing names a thousand."""
_BELIEVED_SECONDS = 300.0
"""How long an object that was seen in a remote store is believed to be there."""


class Objects:
    """The objects of a store, and a local folder where remote ones are kept once read."""

    def __init__(self, place: Place, cache: ObjectCache, digests: DigestCache) -> None:
        """``digests``: what is remembered of files that were compared with their names."""
        self._place = place
        self._cache = cache
        self._digests = digests
        self._checked: set[tuple[int, int, int]] = set()
        self._seen: dict[str, tuple[int, float]] = {}
        """Of remote objects: bytes, and when they were seen by this process's clock."""

    @property
    def is_local(self) -> bool:
        """Whether objects are files of this host, rather than copies of them."""
        return self._place.local

    @staticmethod
    def name(digest: str) -> str:
        return f"objects/{digest[:2]}/{digest[2:]}"

    # Asking

    def has(self, entry: FileEntry) -> bool:
        """Whether the object is there with its size; its content is checked when it is opened."""
        return not self.missing([entry])

    def missing(self, entries: Iterable[FileEntry]) -> list[FileEntry]:
        """Those of ``entries`` that are not there with their size."""
        wanted = {entry.object: entry for entry in entries}
        if self._place.local:
            sizes: dict[str, int | None] = {digest: self._place.size(self.name(digest)) for digest in wanted}
        else:
            sizes = self._remote_sizes(list(wanted))
        return [entry for digest, entry in wanted.items() if sizes[digest] != entry.bytes]

    def _remote_sizes(self, digests: list[str]) -> dict[str, int | None]:
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

    def forget(self) -> None:
        """Believe nothing: some objects may have been removed."""
        self._seen.clear()
        self._checked.clear()
        self._digests.forget()

    def entry_of_link(self, path: Path) -> FileEntry | None:
        """The object that ``path`` is a link to, if it is one of this store."""
        if not path.is_symlink():
            return None
        if self._place.local:
            return self.entry_of_file(Path(os.readlink(path)))
        target = path.resolve()
        digest = self._cache.digest_of(target)
        size = target.stat().st_size if target.is_file() else self._place.size(self.name(digest or "-"))
        return FileEntry(object=digest, bytes=size) if digest is not None and size is not None else None

    def entry_of_file(self, path: Path) -> FileEntry | None:
        """The object of a local store whose very file this is; None if it is none, or one that is gone."""
        return self._entry_at(str(path)) or self._entry_at(os.path.realpath(path))

    def _entry_at(self, place: str) -> FileEntry | None:
        """The object at this place of the disk, if one is there."""
        folder = next((folder for folder in self._folders if place.startswith(folder)), None)
        parts = place[len(folder) :].split("/") if folder else []
        if [len(part) for part in parts] != [2, _DIGITS - 2]:
            return None
        try:
            status = os.stat(place)
        except FileNotFoundError:
            return None
        return FileEntry(object="".join(parts), bytes=status.st_size) if stat.S_ISREG(status.st_mode) else None

    @cached_property
    def _folders(self) -> tuple[str, str]:
        """How the folder of objects is called, by the store's address and in the end, if links lead there."""
        folder = self._place.full("objects")
        return f"{folder}/", f"{Path(folder).resolve()}/"

    def destroy(self, entry: FileEntry) -> None:
        """Remove an object and its copy for good, whoever needs it."""
        self._place.delete(self.name(entry.object))
        self._cache.path(entry.object).unlink(missing_ok=True)
        self._seen.pop(entry.object, None)

    # Putting

    def flush(self) -> None:
        """Wait until all that was put is on the disk; on object storage it is already."""
        self._digests.write()
        if self._place.local:
            folder = Path(self._place.full("objects"))
            folder.mkdir(parents=True, exist_ok=True)
            flush_all(folder)

    def put(self, path: Path, *, keep: bool = False, lasting: bool = True) -> FileEntry:
        """Take a file's content into the store. The file itself is moved there, or to the cache, unless ``keep``.

        In the cache it stays while this process lives, if it is to be ``lasting``.

        Whoever writes down that it is there calls ``flush`` before.
        """
        linked = self.entry_of_link(path)
        if linked is not None:
            if not self._place.local and not self.has(linked):
                self._upload(path, linked)  # only the copy was left
            return linked
        entry = FileEntry(object=digest_of_file(path), bytes=path.stat().st_size)
        with explained(str(path)):
            if not self._place.local:
                self._put_remote(path, entry, keep, lasting)
                return entry
            target = Path(self._place.full(self.name(entry.object)))
            if self._intact(target, entry):
                os.utime(target)  # its age tells the collector that somebody has just asked for it
                self._note(target, entry)
            elif self._move_in(path, target, keep):
                self._note(target, entry)
        return entry

    def _put_remote(self, path: Path, entry: FileEntry, keep: bool, lasting: bool) -> None:
        if not self.has(entry):
            self._upload(path, entry)
        if not keep and not path.is_symlink():
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

    def _intact(self, target: Path, entry: FileEntry) -> bool:
        try:
            self._check(target, entry)
        except (StoreCorrupted, FileNotFoundError):
            return False
        return True

    def _move_in(self, path: Path, target: Path, keep: bool) -> bool:
        """Have the file at ``target``; whether it is the very one that was at ``path``, and not a copy."""
        source = path.resolve() if path.is_symlink() else path
        beside_it = beside(target)
        copied = keep or path.is_symlink() or source.stat().st_dev != beside_it.stat().st_dev
        try:
            if copied:
                shutil.copyfile(source, beside_it)
            else:
                os.replace(source, beside_it)
            beside_it.chmod(stat.S_IRUSR | stat.S_IRGRP | stat.S_IROTH)
            os.replace(beside_it, target)
        finally:
            beside_it.unlink(missing_ok=True)
        return not copied

    # Reading

    @property
    def cache_folder(self) -> Path:
        """Where copies of remote objects are kept."""
        return self._cache.folder

    def address(self, entry: FileEntry) -> Path:
        """Where the object's file lies, or its copy will once it is asked for."""
        if self._place.local:
            return Path(self._place.full(self.name(entry.object)))
        return self._cache.path(entry.object)

    def local_path(self, entry: FileEntry) -> Path:
        """A local, read-only file with the object's content, which stays while this process lives.

        Raises StoreCorrupted if the content differs from the digest, StoreUnavailable if it is gone.
        """
        if not self._place.local:
            self._cache.pin(entry.object)
            return self.copy(entry)
        target = self.address(entry)
        try:
            self._check(target, entry)
        except FileNotFoundError:
            raise self._gone(entry) from None
        return target

    def hold(self, entry: FileEntry) -> None:
        """Have the copy of a remote object stay, there or still to come, until it is released as often."""
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
        """A local copy of a remote object, to be opened now: later it may have made room for others."""
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
        """Compare the content in the store itself, not a copy, with its digest; raises as ``local_path`` does."""
        if self._place.local:
            target = self.local_path(entry)
            if digest_of_file(target) != entry.object:  # a disk can lose bits without anybody's writing
                raise _changed(target)
        else:
            self._cache.path(entry.object).unlink(missing_ok=True)
            self.copy(entry)

    def _gone(self, entry: FileEntry) -> AthanorError:
        why = epitaph(self._place, entry)
        if why is not None:
            return Destroyed(why)
        return StoreUnavailable(
            f"object {entry.object[:12]} is gone from {self._place.shown}; run the recipe again to rebuild it"
        )

    def _check(self, path: Path, entry: FileEntry) -> None:
        """Compare content and digest, once for every state of the file."""
        status = path.stat()
        state = (status.st_ino, status.st_size, status.st_mtime_ns)
        if state in self._checked:
            return
        if status.st_size != entry.bytes or self._digests.digest_of_file(path) != entry.object:
            raise _changed(path)
        self._checked.add(state)

    def _note(self, path: Path, entry: FileEntry) -> None:
        """Its content has just been compared, or digested: nobody need do it again while the file stays as it is."""
        self._digests.note(path, entry.object)


def _changed(path: Path) -> StoreCorrupted:
    return StoreCorrupted(
        f"{path}: content differs from its digest, so the store was changed from outside; "
        "`athanor run RECIPE --rebuild STEP` makes it anew"
    )
