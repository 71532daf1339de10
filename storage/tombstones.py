"""Objects that were destroyed on request, and what stands in their place.

    tombstones/OBJECT.json    which request it was, and when

A tombstone says why an artifact cannot be opened any more, so that nobody takes it for damage.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime

from storage.artifact import FileEntry
from storage.identity import canonical_json
from storage.place import Place

PLUMBING = "it says why something is gone"

_FOLDER = "tombstones"


def bury(place: Place, objects: Iterable[str], request: int) -> None:
    """Put up a tombstone for each object, before it is destroyed."""
    content = canonical_json({"request": request, "at": datetime.now(UTC).isoformat(timespec="seconds")}).encode()
    place.each(lambda digest: place.write(f"{_FOLDER}/{digest}.json", content), sorted(objects))


def buried(place: Place) -> set[str]:
    """Digests of all objects that were destroyed on request."""
    return {name.removesuffix(".json") for name in place.names(_FOLDER)}


def epitaph(place: Place, entry: FileEntry) -> str | None:
    """Why an object is gone, in one line, if it was destroyed on request."""
    content = place.read(f"{_FOLDER}/{entry.object}.json")
    if content is None:
        return None
    stone = json.loads(content)
    return (
        f"object {entry.object[:12]} was destroyed on {stone['at'][:10]} by request {stone['request']} to forget "
        "documents that it held (`athanor forget` lists them); run the recipe to build without them"
    )
