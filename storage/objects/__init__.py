"""Immutable files named by the digest of their content: on this host's disk, or on object storage with copies here."""

from __future__ import annotations

from pathlib import Path

from storage.cache import ObjectCache
from storage.filecache import DigestCache
from storage.objects.base import Objects
from storage.objects.local import LocalObjects
from storage.objects.remote import RemoteObjects
from storage.place import Place

PLUMBING = "it keeps files by their content; it makes none"

_DIGESTS = "object_digests.db"
"""Beside the folder of copies: digests of objects that were compared, by the states of their files."""


def objects_at(place: Place, cache: Path, cache_limit: int) -> Objects:
    """The objects of the store at ``place``; copies of remote ones lie in the folder ``cache``, bounded in bytes."""
    digests = DigestCache(cache.parent / _DIGESTS)
    if place.local:
        return LocalObjects(place, digests)
    return RemoteObjects(place, digests, ObjectCache(cache, cache_limit))
