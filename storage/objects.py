"""Immutable files named by the digest of their content, at any fsspec address.

On a local disk a write goes to a file beside its place, is flushed, made read-only and renamed,
so an object is whole or absent; on object storage a put is already all or nothing.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

import fsspec
from fsspec.implementations.local import LocalFileSystem

from storage.artifact import FileEntry
from storage.disk import flush
from storage.errors import StoreCorrupted, StoreUnavailable
from storage.identity import digest_of_file


class Place:
    """A folder at an fsspec address: small files written whole, listed and read."""

    def __init__(self, url: str) -> None:
        self.fs, root = fsspec.core.url_to_fs(url)
        self.root = str(root).rstrip("/")
        self.local = isinstance(self.fs, LocalFileSystem)

    def full(self, name: str) -> str:
        return f"{self.root}/{name}"

    def read(self, name: str) -> bytes | None:
        """Content of a small file, or None if there is none."""
        try:
            content: bytes = self.fs.cat_file(self.full(name))
        except FileNotFoundError:
            return None
        return content

    def write(self, name: str, content: bytes, *, exclusive: bool = False) -> bool:
        """Write a small file whole; with ``exclusive``, only if there is none. Whether it was written."""
        with explained(self.full(name)):
            if not self.local:
                return self._write_remote(name, content, exclusive)
            path = Path(self.full(name))
            beside = _beside(path)
            try:
                beside.write_bytes(content)
                flush(beside)
                if not exclusive:
                    os.replace(beside, path)
                    return True
                try:
                    os.link(beside, path)
                except FileExistsError:
                    return False
                return True
            finally:
                beside.unlink(missing_ok=True)
                flush(path.parent)

    def _write_remote(self, name: str, content: bytes, exclusive: bool) -> bool:
        try:
            self.fs.pipe_file(self.full(name), content, mode="create" if exclusive else "overwrite")
        except FileExistsError:
            return False
        return True

    def names(self, folder: str) -> list[str]:
        """Sorted names of the files anywhere below ``folder``, relative to it."""
        base = self.full(folder)
        if not self.fs.exists(base):
            return []
        found = (PurePosixPath(str(path)).relative_to(base).as_posix() for path in self.fs.find(base))
        return sorted(name for name in found if not PurePosixPath(name).name.startswith("."))

    def folders(self, folder: str) -> list[str]:
        """Sorted names of the folders directly in ``folder``."""
        base = self.full(folder)
        if not self.fs.exists(base):
            return []
        entries = self.fs.ls(base, detail=True)
        return sorted(PurePosixPath(str(e["name"])).name for e in entries if e["type"] == "directory")

    def size(self, name: str) -> int | None:
        """Bytes of a file, or None if there is none."""
        try:
            return int(self.fs.size(self.full(name)))
        except FileNotFoundError:
            return None

    def delete(self, name: str) -> None:
        try:
            self.fs.rm_file(self.full(name))
        except FileNotFoundError:
            return


class Objects:
    """The objects of a store, and a local folder where remote ones are kept once read."""

    def __init__(self, place: Place, cache: Path) -> None:
        self._place = place
        self._cache = cache
        self._checked: set[tuple[int, int, int]] = set()

    @staticmethod
    def name(digest: str) -> str:
        return f"objects/{digest[:2]}/{digest[2:]}"

    def has(self, entry: FileEntry) -> bool:
        """Whether the object is there with its size; its content is checked when it is opened."""
        return self._place.size(self.name(entry.object)) == entry.bytes

    def entry_of_link(self, path: Path) -> FileEntry | None:
        """The object that ``path`` is a link to, if it is one of this store."""
        if not path.is_symlink():
            return None
        target = path.resolve()
        base = self._cache if not self._place.local else Path(self._place.full("objects")).resolve()
        if not target.is_relative_to(base) or not target.is_file():
            return None
        return FileEntry(object="".join(target.relative_to(base).parts), bytes=target.stat().st_size)

    def put(self, path: Path, *, keep: bool = False) -> FileEntry:
        """Take a file's content into the store. The file itself is moved there, unless ``keep``."""
        linked = self.entry_of_link(path)
        if linked is not None:
            return linked
        entry = FileEntry(object=digest_of_file(path), bytes=path.stat().st_size)
        with explained(str(path)):
            if not self._place.local:
                if not self.has(entry):
                    self._place.fs.put_file(str(path), self._place.full(self.name(entry.object)))
                return entry
            target = Path(self._place.full(self.name(entry.object)))
            if self._intact(target, entry):
                os.utime(target)  # its age tells the collector that somebody has just asked for it
            else:
                self._move_in(path, target, keep)
        return entry

    def _intact(self, target: Path, entry: FileEntry) -> bool:
        try:
            self._check(target, entry)
        except (StoreCorrupted, FileNotFoundError):
            return False
        return True

    def _move_in(self, path: Path, target: Path, keep: bool) -> None:
        source = path.resolve() if path.is_symlink() else path
        beside = _beside(target)
        try:
            if keep or path.is_symlink() or source.stat().st_dev != beside.stat().st_dev:
                shutil.copyfile(source, beside)
            else:
                os.replace(source, beside)
            flush(beside)
            beside.chmod(stat.S_IRUSR | stat.S_IRGRP | stat.S_IROTH)
            os.replace(beside, target)
            flush(target.parent)
        finally:
            beside.unlink(missing_ok=True)

    def local_path(self, entry: FileEntry) -> Path:
        """A local, read-only file with the object's content.

        Raises StoreCorrupted if the content differs from the digest, StoreUnavailable if it is gone.
        """
        if self._place.local:
            target = Path(self._place.full(self.name(entry.object)))
        else:
            target = self._cache / entry.object[:2] / entry.object[2:]
            if not target.exists():
                self._download(entry, target)
        try:
            self._check(target, entry)
        except FileNotFoundError:
            raise StoreUnavailable(
                f"object {entry.object[:12]} is gone from {self._place.root}; run the recipe again to rebuild it"
            ) from None
        return target

    def _download(self, entry: FileEntry, target: Path) -> None:
        beside = _beside(target)
        try:
            with explained(str(target)):
                self._place.fs.get_file(self._place.full(self.name(entry.object)), str(beside))
                os.replace(beside, target)
        finally:
            beside.unlink(missing_ok=True)

    def _check(self, path: Path, entry: FileEntry) -> None:
        """Compare content and digest, once per process and state of the file."""
        status = path.stat()
        state = (status.st_ino, status.st_size, status.st_mtime_ns)
        if state in self._checked:
            return
        if status.st_size != entry.bytes or digest_of_file(path) != entry.object:
            raise StoreCorrupted(
                f"{path}: content differs from its digest, so the store was changed from outside; "
                "`athanor run RECIPE --rebuild STEP` makes it anew"
            )
        self._checked.add(state)


@contextmanager
def explained(place: str) -> Iterator[None]:
    """Turn what an operating system says about a failed write into one line with a remedy."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StoreUnavailable(
                f"{place}: the disk is full; free some space (`athanor gc`) and run again"
            ) from error
        if isinstance(error, PermissionError) or error.errno == errno.EROFS:
            raise StoreUnavailable(f"{place}: no permission to write; check the owner or set ATHANOR_HOME") from error
        raise


def _beside(path: Path) -> Path:
    """An empty hidden file in the folder where ``path`` will be, on the same disk hence renamed in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=".", dir=path.parent)
    os.close(handle)
    return Path(name)
