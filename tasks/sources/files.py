"""Pages that lie in files of their own: HTML and text."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import ClassVar, Literal

from tasks.sources.base import Bad, Item, Page, PassedOver
from tasks.sources.decompress import Unreadable, inner_name, read_bytes
from tasks.sources.in_files import InFiles
from tasks.sources.places import SourceFile
from tasks.sources.sniff import MARKDOWN, content_type_of, is_binary


class Files(InFiles):
    """HTML and text files, compressed or not (``.gz``, ``.bz2``, ``.xz``, ``.zst``, ``.lz4``), one page each.

    A page's ``url`` is the file's POSIX path relative to the source's root. What is neither HTML nor
    text (style sheets, pictures, data) is passed over.
    """

    kind: Literal["files"] = "files"

    @property
    def holds_many(self) -> bool:
        return False

    def pages_of(self, file: SourceFile) -> Iterator[Item]:
        yield whole_file(file, self.max_page_bytes, content_type_of)


class Markdown(InFiles):
    """Markdown files, compressed or not, one page each: kept as they are. In a folder, those called ``.md``."""

    kind: Literal["markdown"] = "markdown"
    endings: ClassVar[tuple[str, ...]] = (".md", ".markdown", ".mdx")

    @property
    def holds_many(self) -> bool:
        return False

    def pages_of(self, file: SourceFile) -> Iterator[Item]:
        yield whole_file(file, self.max_page_bytes, lambda _, content: None if is_binary(content) else MARKDOWN)


def whole_file(file: SourceFile, most: int, typed: Callable[[str, bytes], str | None]) -> Item:
    """The page that a file is; ``typed`` tells its type by name and content, None if it is no page."""
    try:
        content = read_bytes(file.open, file.name, most)
    except Unreadable as error:
        if error.reason == "too_large":
            return PassedOver(file.name, error.reason)
        return Bad(file.name, error.reason, str(error))
    content_type = typed(inner_name(file.name), content)
    if content_type is None:
        return PassedOver(file.name, "not_a_page")
    return Page(url=file.name, content=content, content_type=content_type)
