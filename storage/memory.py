"""What a step remembers of the partitions it has worked on, from build to build."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from storage.artifact import FileEntry, JsonValue
from storage.errors import StoreCorrupted
from storage.identity import canonical_json
from storage.store import Store
from storage.stored import LateFiles


@dataclass(frozen=True)
class PartitionRecord:
    """What became of a partition."""

    stats: dict[str, JsonValue]
    files: Mapping[str, Path]
    """The files it was made into, ``{stem}`` in their names standing for the partition's."""
    rows: str = ""
    """What is remembered of its rows (see ``tasks.rows``), if single rows can be reused."""


@dataclass
class StepMemory:
    """Remembers for one build what its partitions were made into; see ``tasks.context.PartitionMemory``.

    Results have keys, which stand for all that goes into them, and places, which stay the same while
    a partition's content changes. What is remembered is not flushed to the disk: after a loss of power
    some of it may have to be made again.
    """

    store: Store
    earlier: Mapping[str, str] = field(default_factory=dict)
    """Place → key of the result that earlier builds of the step had there last."""
    enabled: bool = True
    """False while rebuilding afresh: nothing is recalled."""
    results: dict[str, str] = field(default_factory=dict)
    """Place → key of what this build recalled or made."""

    def recall(self, key: str) -> PartitionRecord | None:
        """The result with this key, if all its files are still there; those of a remote store are fetched on demand."""
        content = self.store.place.read(f"partitions/{key}.json") if self.enabled else None
        if content is None:
            return None
        try:
            record = json.loads(content)
            entries = {name: FileEntry(**entry) for name, entry in record["files"].items()}
            if not all(self.store.objects.has(entry) for entry in entries.values()):
                return None
            files = self._files(entries)
        except (ValueError, StoreCorrupted):  # neither was flushed before the power failed
            return None
        return PartitionRecord(record["stats"], files, record.get("rows", ""))

    def before(self, place: str) -> PartitionRecord | None:
        """The result that an earlier build had at this place."""
        key = self.earlier.get(place)
        return self.recall(key) if key else None

    def remember(self, key: str, record: PartitionRecord) -> Mapping[str, Path]:
        """Take the files into the store, and write down what they are; returns them as they are to be opened then."""
        local = self.store.place.local
        entries = {name: self.store.take(path, lasting=local) for name, path in sorted(record.files.items())}
        files = {name: entry.model_dump() for name, entry in entries.items()}
        content = {"stats": record.stats, "files": files, "rows": record.rows}
        self.store.place.write(f"partitions/{key}.json", canonical_json(content).encode(), flushed=False)
        return record.files if local else self._files(entries)

    def _files(self, entries: Mapping[str, FileEntry]) -> Mapping[str, Path]:
        if self.store.place.local:
            return {name: self.store.objects.local_path(entry) for name, entry in entries.items()}
        return LateFiles({name: self.store.stored(entry) for name, entry in entries.items()})

    def used(self, key: str, place: str) -> None:
        """Note that this build has its result at ``place`` under this key."""
        self.results[place] = key
