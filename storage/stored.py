"""Objects of a store elsewhere, which are fetched when somebody opens them.

A corpus is opened partition by partition: what nobody reads is never fetched, and what was read may
make room for others. Files of a local store are where they are, and cost nothing of this.
"""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from storage.artifact import FileEntry

if TYPE_CHECKING:
    from storage.objects.remote import RemoteObjects

PLUMBING = "it fetches bytes; it makes none"


@dataclass(frozen=True)
class StoredFile:
    """An object that any process can open, on any host that reaches the store: small, and can be pickled."""

    url: str
    cache: Path
    cache_limit: int
    entry: FileEntry

    def path(self) -> Path:
        """A local file with its content, to be opened now; raises as ``Objects.local_path`` does."""
        return self._objects.copy(self.entry)

    def lasting(self) -> Path:
        """A local file with its content, which stays while this process lives."""
        return self._objects.local_path(self.entry)

    def hold(self) -> Path:
        """A local file with its content, which stays until ``release`` has been called as often as this."""
        self._objects.hold(self.entry)
        return self.path()

    def release(self) -> None:
        """It need not stay any longer."""
        self._objects.release(self.entry)

    def here(self) -> Path | None:
        """Its copy, if there is one; it may be gone at any time."""
        path = self._objects.address(self.entry)
        return path if path.is_file() else None

    def tail(self, most: int) -> bytes:
        """Its last bytes, read where it lies."""
        return self._objects.tail(self.entry, most)

    @property
    def _objects(self) -> RemoteObjects:
        return _objects_at(self.url, self.cache, self.cache_limit)


AnyFile = Path | StoredFile
"""A file that is here, or can be fetched."""


def located(where: AnyFile) -> Path:
    """A local file to be opened now."""
    return where if isinstance(where, Path) else where.path()


class LateFiles(Mapping[str, Path]):
    """Files by their names, each fetched when it is asked for; it then stays while this process lives."""

    def __init__(self, places: Mapping[str, AnyFile]) -> None:
        self.places = dict(places)
        """Where they are, without fetching."""

    def __getitem__(self, name: str) -> Path:
        where = self.places[name]
        return where if isinstance(where, Path) else where.lasting()

    def __iter__(self) -> Iterator[str]:
        return iter(self.places)

    def __len__(self) -> int:
        return len(self.places)

    def __contains__(self, name: object) -> bool:
        return name in self.places

    def items(self) -> ItemsView[str, Path]:
        """All of them, several fetched at a time."""
        from storage.place import CONCURRENT_TRANSFERS

        with ThreadPoolExecutor(CONCURRENT_TRANSFERS, thread_name_prefix="fetch") as threads:
            return dict(zip(self.places, threads.map(self.__getitem__, self.places), strict=True)).items()


def places_of(files: Mapping[str, Path]) -> Mapping[str, AnyFile]:
    """Where files are, without fetching any."""
    return files.places if isinstance(files, LateFiles) else files


def files_at(places: Mapping[str, AnyFile]) -> Mapping[str, Path]:
    """Files by their names; those that are elsewhere are fetched when they are asked for."""
    here = {name: where for name, where in places.items() if isinstance(where, Path)}
    return here if len(here) == len(places) else LateFiles(places)


@lru_cache(maxsize=8)
def _objects_at(url: str, cache: Path, cache_limit: int) -> RemoteObjects:
    # Workers open what is here, and need none of this.
    from storage.objects import objects_at
    from storage.objects.remote import RemoteObjects
    from storage.place import Place

    objects = objects_at(Place(url), cache, cache_limit)
    assert isinstance(objects, RemoteObjects), "files of a local store are opened by their paths"
    return objects
