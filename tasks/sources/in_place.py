"""Reading pages where a collection has left them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa

from storage.errors import SourceError
from tasks.pages.index import digest_of_page
from tasks.sources.base import Item, Page
from tasks.sources.in_files import Containers
from tasks.sources.places import file_of
from tasks.task import Task

PLUMBING = "what it reads is what was collected, which the digest in a page's row shows"


@dataclass(frozen=True)
class Origins:
    """The sources that pages were left in."""

    sources: Mapping[str, Containers]
    folder: Path
    """The one that relative paths of the recipe start from."""

    @classmethod
    def of(cls, collection: Task | None, folder: Path) -> Self:
        """Of a collection's sources, those that leave pages in their files."""
        sources = getattr(collection, "sources", ())
        return cls({source.name: source for source in sources if isinstance(source, Containers)}, folder)


class Reader:
    """Reads the contents of pages, and keeps the file open that was read last."""

    def __init__(self, origins: Origins | None) -> None:
        self._origins = origins
        self._stack = ExitStack()
        self._opened: tuple[str, str] | None = None
        self._read: Callable[[int], Item] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def content(self, page: Mapping[str, Any]) -> bytes:
        """The content of a row of pages: its own, or what lies at its place.

        Raises SourceError if something else lies there than what was collected.
        """
        if page["content"] is not None:
            content: bytes = page["content"]
            return content
        source, container = page["source"], page["container"]
        try:
            found = self._reader(source, container)(page["offset"])
        except (OSError, pa.ArrowException, IndexError) as error:
            raise _gone(source, container, " ".join(str(error).split())) from error
        if not isinstance(found, Page) or digest_of_page(found.content, page["content_type"]) != page["digest"]:
            raise _gone(source, container, f"{page['url']} is not there as it was")
        return found.content

    def _reader(self, source: str, container: str) -> Callable[[int], Item]:
        """What reads the pages of a file."""
        if self._read is None or self._opened != (source, container):
            origin = self._origins.sources.get(source) if self._origins else None
            if origin is None or self._origins is None:
                raise SourceError(
                    f"source {source}: its pages lie in {container}, and no source of that name is at hand; "
                    "take the pages from the step that collects them, in the recipe that names the source"
                )
            self._stack.close()
            self._opened = None
            file = file_of(self._origins.folder, origin.path, container, f"source {source}")
            if not file.allowed:
                raise _gone(source, container, "a link leads out of the source")
            self._read = origin.pages_at(self._stack.enter_context(file.open()), container)
            self._opened = source, container
        return self._read


def _gone(source: str, container: str, said: str) -> SourceError:
    return SourceError(
        f"source {source}: {container} has changed since its pages were collected ({said}); "
        "run again, with --rebuild for the step that collects them if that does not help"
    )
