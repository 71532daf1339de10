"""Collecting pages from sources into partitions that stay put when the sources grow."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal, Self

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, model_validator

from storage.artifact import JsonValue
from storage.corpus import HELD_OUT, Pages, document_id
from storage.errors import SourceError, StepFailed
from storage.takedown import Takedowns
from tasks.pages.compaction import compacted
from tasks.pages.index import digest_of_page, read_index, write_index
from tasks.pages.refresh import Refresh
from tasks.pages.writer import Size, Writer
from tasks.sources.base import At, Bad, Page, Past, Same, Source, Terms, fingerprints, named
from tasks.sources.kinds import SOURCES, AnySource
from tasks.spill import Spill
from tasks.tally import FORGOTTEN
from tasks.task import Context, Result, Sample, Task, World

_SHOWN = 8
_SAME_TOLD = 256
"""Of pages that are the same, which come by thousands a second, every so many-th is told as progress."""
_WITHDRAWN = "withdrawn"
"""Counted in a collection: the withdrawals of requests to forget that it has obeyed."""


class Collect(Task):
    """Fetch the pages of all sources.

    Pages are cut into partitions in the order in which they come, source after source. A later
    collection leaves every page in its partition, in its place, with its ``first_seen``; a changed
    page gets its new content there, and new ones go into new partitions behind the others. So what
    follows has to work only on partitions that changed. A page that comes more than once counts as
    the version that was collected last (``dropped.older_version``).

    A refresh costs what changed: pages that a source knows to be the same are not read, and partitions
    that hold nothing else stay the files that they are. Memory: a few partitions, and about 0.6 KB a
    page for the index of the previous collection. Disk: changed pages are spilt once to scratch.
    """

    makes = Pages
    libraries = tuple(sorted({library for source in SOURCES for library in source.libraries}))
    grows = True
    forgets = "pages"

    sources: list[AnySource] = Field(min_length=1)
    """Where pages come from."""
    partition_pages: int = Field(64, ge=1)
    """A partition is full with so many pages …"""
    partition_megabytes: float = Field(16.0, gt=0)
    """… or before it would hold more than this (a larger page is alone in its partition)."""
    vanished: Literal["drop", "keep"] = "drop"
    """What becomes of pages that an earlier collection has and that no longer come: they are dropped, or kept as
    they were last. Pages of a source that the recipe no longer names are dropped in any case."""
    compact_partitions: int = Field(8, ge=1)
    """When more than so many partitions at the end are each less than half full, as refreshes with few new pages
    leave them behind, they are merged into full ones. Pages keep their ids and their ``first_seen``."""

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
        partitions = previous.partitions if previous else []
        index = read_index(previous)
        withdrawn = len(context.takedowns.withdrawn)
        # Of a file that is as it was, only the pages come that are known; what was left out of it would stay out.
        anew = previous is not None and previous.manifest.counts.get(_WITHDRAWN, 0) != withdrawn
        refresh = _last_refresh(previous, index)
        size = Size(self.partition_pages, int(self.partition_megabytes * 1_000_000))
        terms = {source.name: source.terms(context.world) for source in self.sources}
        tally = _Tally()
        for left in context.output.iterdir():  # by a collection that was killed, when the sources were others
            left.unlink()
        number = 1 + max((int(Path(partition.name).stem) for partition in partitions), default=-1)
        with (
            Spill(context.scratch / "changed") as spill,
            Writer(context.output, number, size) as writer,
        ):
            pages = Refresh(index, refresh + 1, spill, writer)
            for source, item, identity in self._items(context, tally, index, anew):
                if not _taken(pages, source, terms[source.name], item, identity):
                    tally.dropped["older_version"] += 1
            writer.close()
            if not pages.pages:
                names = ", ".join(source.name for source in self.sources)
                raise SourceError(f"no page came from {names} ({tally.said()}); correct the sources' paths")
            vanished = pages.vanished()
            if self.vanished == "keep":
                pages.keep_vanished({source.name: source.held_out for source in self.sources}, context.takedowns)
            found = pages.write(partitions, terms, context)
            untouched = pages.untouched
            found = compacted(found, context.output, untouched, size, self.compact_partitions, writer.number)
        for name, path in untouched.items():
            context.take_over(name, path)
        write_index(found, context.output)
        metrics: dict[str, float] = {"pages_new": pages.new, "pages_changed": pages.changed, "pages_vanished": vanished}
        metrics |= {"rows": len(found), "rows_reused": len(found) - pages.new - pages.changed}
        metrics |= {"partitions": pc.count_distinct(found["partition"]).as_py(), "partitions_reused": len(untouched)}
        counts: dict[str, JsonValue] = {"rows": len(found), "refresh": refresh + bool(pages.new)}
        counts |= {_WITHDRAWN: withdrawn} if withdrawn else {}
        return self._result(tally, found, counts, metrics)

    def _items(
        self, context: Context, tally: _Tally, index: pa.Table, anew: bool
    ) -> Iterator[tuple[Source, Page | Same, str]]:
        """What came of each source that is to be taken, with the page's id; ``anew``: read all files of many pages."""
        came = 0
        for source, limit in zip(self.sources, _shares(context.world.limit, len(self.sources)), strict=True):
            good = bad = 0
            if limit == 0:
                continue
            scratch = context.scratch / "sources" / source.name
            forgotten = partial(_is_forgotten, context.takedowns, source)
            versions = {} if anew and source.holds_many else _versions(index, source)
            past = Past(versions, scratch, context.progress, forgotten)
            for item in source.pages(context.world, past):
                if isinstance(item, (Page, Same)):
                    identity = document_id(source.name, item.url, source.held_out)
                    if context.takedowns.concern_page(identity, item.url):
                        tally.dropped[FORGOTTEN] += 1
                        continue
                    good, came = good + 1, came + 1
                    if isinstance(item, Page) or came % _SAME_TOLD == 0:
                        context.progress(came, None, "pages", source.name)
                    yield source, item, identity
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

    def _result(
        self, tally: _Tally, index: pa.Table, counts: dict[str, JsonValue], metrics: dict[str, float]
    ) -> Result:
        metrics |= {
            "pages": len(index),
            "bytes_out": pc.sum(index["bytes"]).as_py(),
            "quarantined": len(tally.bad),
        }
        metrics |= {f"dropped.{reason}": count for reason, count in sorted(tally.dropped.items())}
        metrics |= {f"quarantined.{r}": c for r, c in sorted(Counter(bad.reason for _, bad in tally.bad).items())}
        samples = [
            Sample(f"quarantined: {name}/{bad.name}"[:200], f"{bad.reason}: {bad.detail}"[:1000])
            for name, bad in tally.bad[:_SHOWN]
        ]
        return Result(counts=counts, metrics=metrics, headline=f"{len(index):,} pages", samples=samples)


def _shares(limit: int | None, sources: int) -> list[int | None]:
    """How many pages each source may give, so that every source is tried: the limit in nearly equal parts."""
    if limit is None:
        return [None] * sources
    return [limit // sources + (position < limit % sources) for position in range(sources)]


def _last_refresh(previous: Pages | None, index: pa.Table) -> int:
    """The number of the last refresh that brought new pages."""
    counted = int(previous.manifest.counts.get("refresh", 0)) if previous else 0
    return max(counted, pc.max(index["first_seen"]).as_py() or 0)


def _versions(index: pa.Table, source: Source) -> dict[str, str]:
    """URL → version of this source's pages, for those that have one; none from before it changed sides."""
    mine = pc.and_(pc.equal(index["source"], source.name), pc.is_valid(index["version"]))
    same_side = pc.equal(pc.ends_with(index["id"], HELD_OUT), source.held_out)
    mine = index.filter(pc.and_(mine, same_side))
    return dict(zip(mine["url"].to_pylist(), mine["version"].to_pylist(), strict=True))


def _is_forgotten(takedowns: Takedowns, source: Source, url: str) -> bool:
    return takedowns.concern_page(document_id(source.name, url, source.held_out), url)


def _taken(pages: Refresh, source: Source, terms: Terms, item: Page | Same, identity: str) -> bool:
    """Hand on what came; False if a newer version of it came before."""
    if isinstance(item, Same):
        if not pages.knows(identity):
            raise StepFailed(f"source {source.name}: {item.url!r} is called the same, and was never there")
        return pages.same(identity)
    left = _left(item, item.at) if item.at else {"content": item.content}
    row: dict[str, Any] = {
        "id": identity,
        "url": item.url,
        **left,
        "content_type": item.content_type,
        "source": source.name,
        "license": terms.license,
        "language": terms.language,
        "collected_at": item.collected_at,
    }
    return pages.add(identity, row, item)


def _left(page: Page, at: At) -> dict[str, Any]:
    """The columns of a page whose content stays where it is."""
    digest = digest_of_page(page.content, page.content_type)
    place = {"container": at.container, "offset": at.offset}
    return {"content": None, **place, "length": len(page.content), "digest": digest}


@dataclass
class _Tally:
    """What could not be taken."""

    bad: list[tuple[str, Bad]] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)

    def quarantine(self, source: str, bad: Bad) -> None:
        self.bad.append((source, bad))

    def bad_of(self, source: str) -> list[str]:
        return [f"{bad.name}: {bad.reason}" for name, bad in self.bad if name == source][:3]

    def said(self) -> str:
        reasons = self.dropped + Counter(bad.reason for _, bad in self.bad)
        return ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items())) or "nothing was there"
