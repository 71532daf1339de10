"""What a source of pages is."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from storage.artifact import JsonValue
from tasks.task import Progress, Settings, World

MIN_TOLERATED = 1
"""So many bad inputs never fail a source that has good ones (unless ``max_bad_fraction`` is 0)."""


@dataclass(frozen=True)
class At:
    """Where a page lies for good, so that its content need not be copied."""

    container: str
    """The file, by its name relative to the source's root."""
    offset: int
    """Where in it the page's record can be read from; what is counted is the source's business."""


@dataclass(frozen=True)
class Page:
    """One page as fetched; ``url`` is unique within its source."""

    url: str
    content: bytes
    content_type: str
    """MIME type, with a charset where the source states one."""
    collected_at: datetime | None = None
    version: str | None = None
    """By what the source knows this version again at the next collection; None: it cannot tell."""
    at: At | None = None
    """Where it is to be left; None: its content is to be copied."""


@dataclass(frozen=True)
class Same:
    """A page that is as the previous collection has it, or cannot be had now: its row is kept as it is."""

    url: str
    """One of ``Past.versions``."""


@dataclass(frozen=True)
class Bad:
    """An input that should have been a page and cannot be read: it is quarantined, counted and reported."""

    name: str
    reason: str
    """A word, such as ``truncated``, by which these are counted."""
    detail: str = ""


@dataclass(frozen=True)
class PassedOver:
    """Something that the source left out on purpose, such as an image between the pages."""

    name: str
    reason: str


Item = Page | Same | Bad | PassedOver


def never(url: str) -> bool:
    """Nothing is forgotten."""
    return False


def unheard(done: int, total: int | None, unit: str, note: str = "", begun: int = 0) -> None:
    """A progress that nobody follows."""


@dataclass(frozen=True)
class Past:
    """What a source may go on from."""

    versions: Mapping[str, str] = field(default_factory=dict)
    """URL → version, of the pages that the previous collection has from this source and that have one."""
    scratch: Path | None = None
    """A folder of the source's own, which survives a kill of this collection; None if there is none."""
    progress: Progress = unheard
    forgotten: Callable[[str], bool] = never
    """Whether the page at a URL is to be left out: it need not be asked for, and is left out if it comes."""


NO_PAST = Past()


@dataclass(frozen=True)
class Terms:
    """What holds for all pages of a source."""

    license: str | None = None
    language: str | None = None


class Source(Settings):
    """Where pages come from. Subclasses add ``kind``, a literal, which is also the default ``name``."""

    libraries: ClassVar[tuple[str, ...]] = ()
    """Distributions whose versions shape what it finds."""
    only_collecting_tells: ClassVar[bool] = False
    """Whether no fingerprint can say that the pages are the same as before: then every run collects."""

    name: str = ""
    """Part of every document's identity; default: the kind (``files``, then ``files-2`` …)."""
    license: str | None = None
    """Licence of the pages, recorded with each of them."""
    language: str | None = Field(None, pattern="^[a-z]{2,3}(-[a-z0-9]{2,8})*$")
    """Language of the pages, if it is known (``en``, ``zh-cn``): that of each document until ``filter`` identifies it,
    and its declared language where the page declares none."""
    split: Literal["validation"] | None = None
    """``validation``: hold all pages of this source out. It is part of their ids; of copies, those trained on go."""
    max_bad_fraction: float = Field(0.01, ge=0, le=1)
    """The share of unreadable inputs from which the step fails. A single one never fails it, unless this is 0."""

    @property
    def held_out(self) -> bool:
        """Whether all its pages are for validation."""
        return self.split == "validation"

    @property
    def holds_many(self) -> bool:
        """Whether it reads files that hold many pages each, whose URLs may come in several files."""
        return False

    @abstractmethod
    def fingerprint(self, world: World) -> JsonValue:
        """What the pages depend on outside the recipe, found cheaply. Raises SourceError if there is nothing."""

    def terms(self, world: World) -> Terms:
        """Licence and language, where the recipe or the source itself states them."""
        return Terms(self.license, self.language)

    @abstractmethod
    def pages(self, world: World, past: Past = NO_PAST) -> Iterator[Item]:
        """The pages in a fixed order, one at a time: never all in memory.

        ``past`` may save it work; what comes must not depend on it, but for pages that cannot be had now.

        Raises SourceError for a source that is not there or holds no page.
        """

    def too_many(self, good: int, bad: int) -> bool:
        """Whether so many bad inputs make the whole source suspicious."""
        tolerated = int(self.max_bad_fraction * (good + bad))
        if self.max_bad_fraction > 0:
            tolerated = max(tolerated, MIN_TOLERATED)
        return bad > tolerated


def fingerprints(sources: Sequence[Any], world: World) -> JsonValue:
    """What the sources, by name, and the limit if there is one, contribute to a key."""
    found: dict[str, JsonValue] = {source.name: source.fingerprint(world) for source in sources}
    return {"sources": found} | ({"limit": world.limit} if world.limit is not None else {})


def named(sources: list[Any]) -> list[Any]:
    """The sources with default names filled in; ValueError if two have the same."""
    taken: set[str] = set()
    for position, source in enumerate(sources):
        if source.name in taken:
            raise ValueError(f"source {position + 1}: the name {source.name!r} is taken; give each source its own name")
        if source.name:
            taken.add(source.name)
    filled = []
    for source in sources:
        if not source.name:
            number = 1
            while (name := source.kind if number == 1 else f"{source.kind}-{number}") in taken:
                number += 1
            taken.add(name)
            source = source.model_copy(update={"name": name})
        filled.append(source)
    return filled
