"""What the objects of every store have in common: their names, and the comparison of content and digest."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from pathlib import Path

from storage.artifact import FileEntry
from storage.errors import AthanorError, Destroyed, StoreCorrupted, StoreUnavailable
from storage.filecache import DigestCache
from storage.place import Place
from storage.tombstones import epitaph

PLUMBING = "it keeps files by their content; it makes none"


class Objects(ABC):
    """The objects of a store: files that are written once, and never change."""

    def __init__(self, place: Place, digests: DigestCache) -> None:
        """``digests``: what is remembered of files that were compared with their names."""
        self._place = place
        self._digests = digests
        self._checked: set[tuple[int, int, int]] = set()

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
        sizes = self._sizes(list(wanted))
        return [entry for digest, entry in wanted.items() if sizes[digest] != entry.bytes]

    @abstractmethod
    def _sizes(self, digests: list[str]) -> Mapping[str, int | None]:
        """Bytes of each of these objects, None of what is not there."""

    @abstractmethod
    def entry_of_link(self, path: Path) -> FileEntry | None:
        """The object that ``path`` is a link to, if it is one of this store."""

    @abstractmethod
    def entry_of_file(self, path: Path) -> FileEntry | None:
        """The object whose very file this is; None if it is none, or one that is gone."""

    @abstractmethod
    def address(self, entry: FileEntry) -> Path:
        """Where the object's file lies, or its copy will once it is asked for."""

    # Putting and removing

    @abstractmethod
    def put(self, path: Path, *, keep: bool = False, lasting: bool = True) -> FileEntry:
        """Take a file's content into the store. The file itself is moved there, or among the copies, unless ``keep``.

        As a copy it stays while this process lives, if it is to be ``lasting``.

        Whoever writes down that it is there calls ``flush`` before.
        """

    def flush(self) -> None:
        """Wait until all that was put is there to stay."""
        self._digests.write()

    def destroy(self, entry: FileEntry) -> None:
        """Remove an object and its copy for good, whoever needs it."""
        self._place.delete(self.name(entry.object))

    def forget(self) -> None:
        """Believe nothing: some objects may have been removed."""
        self._checked.clear()
        self._digests.forget()

    # Reading

    @abstractmethod
    def local_path(self, entry: FileEntry) -> Path:
        """A local, read-only file with the object's content, which stays while this process lives.

        Raises StoreCorrupted if the content differs from the digest, StoreUnavailable if it is gone.
        """

    @abstractmethod
    def verify(self, entry: FileEntry) -> None:
        """Compare the content in the store itself, not a copy, with its digest; raises as ``local_path`` does."""

    def _gone(self, entry: FileEntry) -> AthanorError:
        why = epitaph(self._place, entry)
        if why is not None:
            return Destroyed(why)
        return StoreUnavailable(
            f"object {entry.object[:12]} is gone from {self._place.shown}; run the recipe again to rebuild it"
        )

    def _intact(self, path: Path, entry: FileEntry) -> bool:
        try:
            self._check(path, entry)
        except (StoreCorrupted, FileNotFoundError):
            return False
        return True

    def _check(self, path: Path, entry: FileEntry) -> None:
        """Compare content and digest, once for every state of the file."""
        status = path.stat()
        state = (status.st_ino, status.st_size, status.st_mtime_ns)
        if state in self._checked:
            return
        if status.st_size != entry.bytes or self._digests.digest_of_file(path) != entry.object:
            raise changed(path)
        self._checked.add(state)

    def _note(self, path: Path, entry: FileEntry) -> None:
        """Its content has just been compared, or digested: nobody need do it again while the file stays as it is."""
        self._digests.note(path, entry.object)


def changed(path: Path) -> StoreCorrupted:
    """The error for a file whose content is not that of its name."""
    return StoreCorrupted(
        f"{path}: content differs from its digest, so the store was changed from outside; "
        "`athanor run RECIPE --rebuild STEP` makes it anew"
    )
