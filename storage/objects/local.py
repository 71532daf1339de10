"""Objects on a disk of this host: read-only files that were renamed into their places."""

from __future__ import annotations

import errno
import os
import shutil
import stat
from functools import cached_property
from pathlib import Path

from storage.artifact import FileEntry
from storage.disk import beside, flush_all
from storage.faults import explained
from storage.identity import digest_of_file
from storage.objects.base import Objects, changed

PLUMBING = "it keeps files by their content; it makes none"

_DIGITS = 64
"""Of a digest."""
_READ_ONLY = stat.S_IRUSR | stat.S_IRGRP | stat.S_IROTH


class LocalObjects(Objects):
    """See ``Objects``; an object's file is the object."""

    def _sizes(self, digests: list[str]) -> dict[str, int | None]:
        return {digest: self._place.size(self.name(digest)) for digest in digests}

    def entry_of_link(self, path: Path) -> FileEntry | None:
        return self.entry_of_file(Path(os.readlink(path))) if path.is_symlink() else None

    def entry_of_file(self, path: Path) -> FileEntry | None:
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

    def address(self, entry: FileEntry) -> Path:
        return Path(self._place.full(self.name(entry.object)))

    def put(self, path: Path, *, keep: bool = False, lasting: bool = True) -> FileEntry:
        linked = self.entry_of_link(path)
        if linked is not None:
            return linked
        entry = FileEntry(object=digest_of_file(path), bytes=path.stat().st_size)
        target = self.address(entry)
        with explained(str(path)):
            if self._intact(target, entry):
                os.utime(target)  # its age tells the collector that somebody has just asked for it
                self._note(target, entry)
            elif self._move_in(path, target, keep):
                self._note(target, entry)
        return entry

    def _move_in(self, path: Path, target: Path, keep: bool) -> bool:
        """Have the file at ``target``; whether it is the very one that was at ``path``, and not a copy."""
        target.parent.mkdir(parents=True, exist_ok=True)
        if not keep and not path.is_symlink():
            try:
                os.replace(path, target)
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise
            else:
                # Not before: what a killed build has left must be written again.
                target.chmod(_READ_ONLY)
                return True
        beside_it = beside(target)
        try:
            shutil.copyfile(path, beside_it)
            beside_it.chmod(_READ_ONLY)
            os.replace(beside_it, target)
        finally:
            beside_it.unlink(missing_ok=True)
        return False

    def flush(self) -> None:
        super().flush()
        folder = Path(self._place.full("objects"))
        folder.mkdir(parents=True, exist_ok=True)
        flush_all(folder)

    def local_path(self, entry: FileEntry) -> Path:
        target = self.address(entry)
        try:
            self._check(target, entry)
        except FileNotFoundError:
            raise self._gone(entry) from None
        return target

    def verify(self, entry: FileEntry) -> None:
        target = self.local_path(entry)
        if digest_of_file(target) != entry.object:  # a disk can lose bits without anybody's writing
            raise changed(target)
