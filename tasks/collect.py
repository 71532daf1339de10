"""Collecting pages from sources into partitions that stay put when the sources grow."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import pyarrow as pa
from pydantic import Field, model_validator

from storage.artifact import JsonValue
from storage.corpus import PAGES_SCHEMA, Pages, Partition, document_id, read_table, table_of, write_table
from storage.errors import SourceError, StepFailed
from tasks.sources.base import Bad, Page, Past, Same, Source, fingerprints, named
from tasks.sources.kinds import SOURCES, AnySource
from tasks.spill import Spill
from tasks.task import Context, Result, Sample, Task, World

_SHOWN = 8
_VERSIONS = "versions.arrow"
"""Of the pages whose source knows them again by a version: ``id`` and ``version``."""


class Collect(Task):
    """Fetch the pages of all sources.

    Pages are ordered by source and URL and cut into partitions. A later collection leaves every
    page in its partition, in its place, with its ``first_seen``; changed pages get their new
    content there, vanished ones leave, and new ones go into new partitions behind the others. So
    what follows has to work only on partitions that changed.

    Memory: one partition, and about 0.3 KB a page for the index of the previous collection. Disk:
    the pages seen before are spilt once to scratch while they are put back in their order.
    """

    makes = Pages
    libraries = tuple(sorted({library for source in SOURCES for library in source.libraries}))
    grows = True

    sources: list[AnySource] = Field(min_length=1)
    """Where pages come from."""
    partition_pages: int = Field(64, ge=1)
    """A partition is full with so many pages …"""
    partition_megabytes: float = Field(16.0, gt=0)
    """… or before it would hold more than this (a larger page is alone in its partition)."""

    @model_validator(mode="after")
    def _name_sources(self) -> Self:
        object.__setattr__(self, "sources", named(self.sources))
        return self

    def shaping_libraries(self) -> tuple[str, ...]:
        """The libraries of the kinds of source that are used."""
        return tuple(sorted({library for source in self.sources for library in source.libraries}))

    def outside(self, world: World) -> JsonValue:
        """Fingerprints of the sources by name, and the limit if there is one."""
        return fingerprints(self.sources, world)

    def only_running_tells(self) -> list[str]:
        """Names of the sources that have no fingerprint."""
        return [source.name for source in self.sources if source.only_collecting_tells]

    def run(self, context: Context) -> Result:
        previous = context.previous if isinstance(context.previous, Pages) else None
        known = _Known.of(previous)
        seen: set[str] = set()
        tally = _Tally()
        new = _Writer(self, context.output, known.next_number)
        with Spill(context.scratch / "seen-before") as spill:
            for source, page in self._pages(context, tally, known):
                identity = document_id(source.name, page.url)
                if identity in seen:
                    raise StepFailed(f"source {source.name}: the URL {page.url!r} came twice; URLs must be unique")
                seen.add(identity)
                place = known.places.get(identity)
                if isinstance(page, Same):
                    if place is None:
                        raise StepFailed(f"source {source.name}: {page.url!r} is called the same, and was never there")
                    known.stays(place, source.license)
                    continue
                if page.version is not None:
                    known.versions[identity] = page.version
                row = _row(identity, source.name, source.license, page, known.first_seen(identity))
                if place is None:
                    tally.new += 1
                    new.add(row)
                else:
                    known.found(place, spill.add(row))
            new.close()
            tally.bytes += known.write(context.output, spill)
            _write_versions({i: known.versions[i] for i in seen if i in known.versions}, context.output)
        if not tally.pages:
            names = ", ".join(source.name for source in self.sources)
            raise SourceError(f"no page came from {names} ({tally.said()}); correct the sources' paths")
        return self._result(tally, known, new)

    def _pages(self, context: Context, tally: _Tally, known: _Known) -> Iterator[tuple[Source, Page | Same]]:
        for source, limit in zip(self.sources, _shares(context.world.limit, len(self.sources)), strict=True):
            good = bad = 0
            if limit == 0:
                continue
            past = Past(known.versions_of(source.name), context.scratch / "sources" / source.name, context.progress)
            for item in source.pages(context.world, past):
                if isinstance(item, (Page, Same)):
                    good += 1
                    tally.page(item)
                    context.progress(tally.pages, None, "pages", source.name)
                    yield source, item
                    if good == limit:
                        break
                elif isinstance(item, Bad):
                    bad += 1
                    tally.quarantine(source.name, item)
                else:
                    tally.dropped[item.reason] += 1
            if source.too_many(good, bad):
                raise SourceError(
                    f"source {source.name}: {bad} of {good + bad} inputs cannot be read "
                    f"({'; '.join(tally.bad_of(source.name))}); repair or remove them, or raise `max_bad_fraction` "
                    f"(now {source.max_bad_fraction})"
                )

    def _result(self, tally: _Tally, known: _Known, new: _Writer) -> Result:
        refresh = known.refresh + 1 if tally.new else known.refresh
        metrics: dict[str, float] = {
            "pages": tally.pages,
            "pages_new": tally.new,
            "pages_vanished": known.rows - (tally.pages - tally.new),
            "bytes_out": tally.bytes,
            "partitions": new.written + known.written,
            "quarantined": len(tally.bad),
        }
        metrics |= {f"dropped.{reason}": count for reason, count in sorted(tally.dropped.items())}
        metrics |= {f"quarantined.{r}": c for r, c in sorted(Counter(bad.reason for _, bad in tally.bad).items())}
        samples = [
            Sample(f"quarantined: {name}/{bad.name}"[:200], f"{bad.reason}: {bad.detail}"[:1000])
            for name, bad in tally.bad[:_SHOWN]
        ]
        counts = {"rows": tally.pages, "refresh": refresh}
        return Result(counts=counts, metrics=metrics, headline=f"{tally.pages:,} pages", samples=samples)


def _shares(limit: int | None, sources: int) -> list[int | None]:
    """How many pages each source may give, so that every source is tried: the limit in nearly equal parts."""
    if limit is None:
        return [None] * sources
    return [limit // sources + (position < limit % sources) for position in range(sources)]


def _row(identity: str, source: str, license_: str | None, page: Page, first_seen: int) -> dict[str, Any]:
    return {
        "id": identity,
        "url": page.url,
        "content": page.content,
        "content_type": page.content_type,
        "source": source,
        "license": license_,
        "first_seen": first_seen,
        "collected_at": page.collected_at,
    }


@dataclass
class _Tally:
    """What came from the sources."""

    pages: int = 0
    new: int = 0
    bytes: int = 0
    bad: list[tuple[str, Bad]] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)

    def page(self, page: Page | Same) -> None:
        self.pages += 1
        if isinstance(page, Page):
            self.bytes += len(page.content)

    def quarantine(self, source: str, bad: Bad) -> None:
        self.bad.append((source, bad))

    def bad_of(self, source: str) -> list[str]:
        return [f"{bad.name}: {bad.reason}" for name, bad in self.bad if name == source][:3]

    def said(self) -> str:
        reasons = self.dropped + Counter(bad.reason for _, bad in self.bad)
        return ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items())) or "nothing was there"


class _Writer:
    """Writes rows into partitions as they come."""

    def __init__(self, task: Collect, folder: Path, number: int) -> None:
        self._most_rows, self._most_bytes = task.partition_pages, int(task.partition_megabytes * 1_000_000)
        self._folder, self._number = folder, number
        self._rows: list[dict[str, Any]] = []
        self._bytes = 0
        self.written = 0

    def add(self, row: dict[str, Any]) -> None:
        size = len(row["content"])
        if self._rows and (len(self._rows) >= self._most_rows or self._bytes + size > self._most_bytes):
            self.close()
        self._rows.append(row)
        self._bytes += size

    def close(self) -> None:
        """Write what has gathered."""
        if self._rows:
            write_table(table_of(self._rows, PAGES_SCHEMA), self._folder / f"{self._number:05}.parquet")
            self._number += 1
            self.written += 1
        self._rows, self._bytes = [], 0


Place = tuple[int, int]
"""Number of a partition in the previous artifact's list, and row in it."""


class _Known:
    """The pages of the previous collection, and what became of them."""

    def __init__(self, partitions: Sequence[Partition], refresh: int) -> None:
        self.partitions, self.refresh = list(partitions), refresh
        self.places: dict[str, Place] = {}
        self.versions: dict[str, str] = {}
        """Page → version, for those that have one; of a page that changed, the new one."""
        self._urls: dict[str, dict[str, str]] = {}
        """Source → URL → page, for those that have a version."""
        self._seen: list[list[int]] = []
        """Per partition: ``first_seen`` of its rows."""
        self._found: list[list[_Found]] = [[] for _ in partitions]
        """Per partition: the pages that are still there."""
        self.written = 0

    @classmethod
    def of(cls, previous: Pages | None) -> _Known:
        if previous is None:
            return cls([], 0)
        known = cls(previous.partitions, 0)
        known.versions = _read_versions(previous)
        for number, table in enumerate(previous.tables(["id", "first_seen", "source", "url"])):
            known._seen.append(table["first_seen"].to_pylist())
            for row, identity in enumerate(table["id"].to_pylist()):
                known.places[identity] = (number, row)
                if identity in known.versions:
                    of_source = known._urls.setdefault(table["source"][row].as_py(), {})
                    of_source[table["url"][row].as_py()] = identity
        newest = max((max(seen, default=0) for seen in known._seen), default=0)
        known.refresh = max(newest, int(previous.manifest.counts.get("refresh", 0)))
        return known

    @property
    def rows(self) -> int:
        return len(self.places)

    @property
    def next_number(self) -> int:
        """The number that the first new partition gets."""
        return 1 + max((int(Path(partition.name).stem) for partition in self.partitions), default=-1)

    def versions_of(self, source: str) -> dict[str, str]:
        """URL → version of this source's pages, for those that have one."""
        return {url: self.versions[identity] for url, identity in self._urls.get(source, {}).items()}

    def first_seen(self, identity: str) -> int:
        """The refresh in which the page was first seen: this one, for a new page."""
        place = self.places.get(identity)
        return self.refresh + 1 if place is None else self._seen[place[0]][place[1]]

    def found(self, place: Place, at: int) -> None:
        """Note that the page at ``place`` is still there, its new version at ``at`` in the spill."""
        self._found[place[0]].append(_Found(place[1], at))

    def stays(self, place: Place, license_: str | None) -> None:
        """Note that the page at ``place`` is still there as it was, under its source's licence of now."""
        self._found[place[0]].append(_Found(place[1], None, license_))

    def write(self, folder: Path, spill: Spill) -> int:
        """Write the old partitions with their pages in the old order; one with no page left is gone.

        Returns the bytes of the pages that stayed as they were.
        """
        stayed = 0
        for partition, found in zip(self.partitions, self._found, strict=True):
            if not found:
                continue
            old = read_table(partition.path) if any(page.at is None for page in found) else None
            rows = []
            for page in sorted(found, key=lambda page: page.row):
                if page.at is not None:
                    rows.append(spill.row(page.at))
                    continue
                assert old is not None
                row = old.slice(page.row, 1)
                stayed += len(row["content"][0].as_py())
                rows.append(_with_license(row, page.license))
            write_table(pa.concat_tables(rows).combine_chunks(), folder / partition.name)
            self.written += 1
        return stayed


@dataclass(frozen=True)
class _Found:
    """A page of an old partition that is still there."""

    row: int
    at: int | None
    """Where its new version lies in the spill; None if it is as it was, but for its licence."""
    license: str | None = None


def _with_license(row: pa.Table, license_: str | None) -> pa.Table:
    column = row.schema.get_field_index("license")
    return row.set_column(column, row.schema.field(column), pa.array([license_], pa.string()))


def _write_versions(versions: dict[str, str], folder: Path) -> None:
    if not versions:
        return
    table = pa.table({"id": sorted(versions), "version": [versions[identity] for identity in sorted(versions)]})
    with pa.OSFile(str(folder / _VERSIONS), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)


def _read_versions(pages: Pages) -> dict[str, str]:
    if not pages.names(_VERSIONS):
        return {}
    with pa.memory_map(str(pages.path(_VERSIONS))) as file:
        table = pa.ipc.open_file(file).read_all()
        return dict(zip(table["id"].to_pylist(), table["version"].to_pylist(), strict=True))
