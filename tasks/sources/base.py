"""What a source of pages is."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import Field

from storage.artifact import JsonValue
from tasks.task import Settings, World

MIN_TOLERATED = 1
"""So many bad inputs never fail a source that has good ones (unless ``max_bad_fraction`` is 0)."""


@dataclass(frozen=True)
class Page:
    """One page as fetched; ``url`` is unique within its source."""

    url: str
    content: bytes
    content_type: str
    """MIME type, with a charset where the source states one."""
    collected_at: datetime | None = None


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


class Source(Settings):
    """Where pages come from. Subclasses add ``kind``, a literal, which is also the default ``name``."""

    name: str = ""
    """Part of every document's identity; default: the kind (``files``, then ``files-2`` …)."""
    license: str | None = None
    """Licence of the pages, recorded with each of them."""
    max_bad_fraction: float = Field(0.01, ge=0, le=1)
    """The share of unreadable inputs from which the step fails. A single one never fails it, unless this is 0."""

    @abstractmethod
    def fingerprint(self, world: World) -> JsonValue:
        """What the pages depend on outside the recipe, found cheaply. Raises SourceError if there is nothing."""

    @abstractmethod
    def pages(self, world: World) -> Iterator[Page | Bad | PassedOver]:
        """The pages in ascending order of their URLs, one at a time: never all in memory.

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
