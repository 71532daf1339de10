"""What a step remembers of the partitions it has worked on, from build to build.

    partitions/KEY.json   what a partition was made into
    results/BUILD.json    the same of all partitions of a build, without what only few of them will be asked for

The first is written as soon as a partition is finished, so nothing is lost with a build that is
killed. The second is read once by the next build, which then asks for the first only of partitions
that have changed: on object storage one request instead of thousands.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from storage.artifact import FileEntry, JsonValue
from storage.errors import Destroyed, StoreCorrupted, StoreUnavailable
from storage.identity import canonical_json
from storage.store import Store
from storage.stored import LateFiles

PARTITIONS = "partitions"
RESULTS = "results"


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
    earlier: Sequence[str] = ()
    """Names of earlier builds' results, oldest first."""
    enabled: bool = True
    """False while rebuilding afresh: nothing is recalled."""
    results: dict[str, str] = field(default_factory=dict)
    """Place → key of what this build recalled or made."""
    _short: dict[str, dict[str, JsonValue]] = field(default_factory=dict)
    """Key → what is known of a result without reading it."""
    _places: dict[str, str] = field(default_factory=dict)
    """Place → key of the result that earlier builds had there last."""

    def __post_init__(self) -> None:
        names = self.earlier if self.enabled else ()
        for content in self.store.place.each(lambda name: self.store.place.read(f"{RESULTS}/{name}.json"), names):
            for place, result in results_in(content).items():
                self._places[place] = result["key"]
                self._short[result["key"]] = result
        if not self.store.place.local:  # asked for together: one by one, each would be a request
            self.store.objects.missing(entry for result in self._short.values() for entry in _entries(result).values())

    def recall(self, key: str) -> PartitionRecord | None:
        """The result with this key, if earlier builds say that they had it: its stats in short, and nothing of rows."""
        short = self._short.get(key)
        return self._record(short, short["short"]) if short is not None else None

    def whole(self, key: str) -> PartitionRecord | None:
        """The result with this key, if there is one, whoever made it: with all that was remembered of it."""
        result = self._read(key) if self.enabled else None
        return self._record(result, result["stats"], result["rows"]) if result is not None else None

    def _read(self, key: str) -> dict[str, Any] | None:
        content = self.store.place.read(f"{PARTITIONS}/{key}.json")
        try:
            result: dict[str, Any] = json.loads(content or b"{}")
            self._short[key] = {name: result[name] for name in ("files", "short")}
        except (ValueError, KeyError):  # there is none, or it was not flushed before the power failed
            return None
        return result

    def before(self, place: str) -> PartitionRecord | None:
        """All of the result that an earlier build had at this place."""
        key = self._places.get(place)
        return self.whole(key) if key else None

    def remember(
        self, key: str, record: PartitionRecord, short: dict[str, JsonValue] | None = None
    ) -> Mapping[str, Path]:
        """Move the files into the store, and write down what they are; returns them as they are to be opened then.

        ``short``: the stats as ``recall`` is to give them, if that is less than all.
        """
        local = self.store.place.local
        entries = {name: self.store.move_in(path, lasting=local) for name, path in sorted(record.files.items())}
        files = {name: entry.model_dump() for name, entry in entries.items()}
        self._short[key] = {"files": files, "short": record.stats if short is None else short}
        content = {**self._short[key], "stats": record.stats, "rows": record.rows}
        self.store.place.write(f"{PARTITIONS}/{key}.json", json.dumps(content).encode(), flushed=False)
        return {n: self.store.objects.address(e) for n, e in entries.items()} if local else self._files(entries)

    def used(self, key: str, place: str) -> None:
        """Note that this build has its result at ``place`` under this key."""
        if key in self._short or self._read(key) is not None:  # read, if it was made before this build was killed
            self.results[place] = key

    def write(self, name: str) -> str:
        """Write down in short what this build has at each place; returns the name, or nothing if it has no results."""
        if not self.results:
            return ""
        content = {place: {"key": key, **self._short[key]} for place, key in self.results.items()}
        self.store.place.write(f"{RESULTS}/{name}.json", canonical_json(content).encode(), flushed=False)
        return name

    def _record(self, result: dict[str, Any], stats: dict[str, JsonValue], rows: str = "") -> PartitionRecord | None:
        """The result, if all its files are still there; those of a remote store are fetched on demand."""
        entries = _entries(result)
        # Files that are here are looked at when their places are asked for.
        if not self.store.place.local and not all(self.store.objects.has(entry) for entry in entries.values()):
            return None
        try:
            return PartitionRecord(stats, self._files(entries), rows)
        except (StoreCorrupted, StoreUnavailable, Destroyed):  # not flushed before the power failed, or removed since
            return None

    def _files(self, entries: Mapping[str, FileEntry]) -> Mapping[str, Path]:
        if self.store.place.local:
            return {name: self.store.objects.local_path(entry) for name, entry in entries.items()}
        return LateFiles({name: self.store.stored(entry) for name, entry in entries.items()})


def results_in(content: bytes | None) -> dict[str, Any]:
    """Place → result, of a file of results; nothing if there is none, or it is garbled."""
    try:
        found: dict[str, Any] = json.loads(content or b"{}")
    except ValueError:  # not flushed before the power failed
        return {}
    return found


def keys_in(contents: Iterable[bytes | None]) -> set[str]:
    """The keys of all results in these files."""
    return {result["key"] for content in contents for result in results_in(content).values()}


def _entries(result: Mapping[str, Any]) -> dict[str, FileEntry]:
    return {name: FileEntry(**entry) for name, entry in result["files"].items()}
