"""Pages that are plain text: whole files, lines, or paragraphs of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from tasks.sources.base import Bad, Item, Page, PassedOver
from tasks.sources.files import whole_file
from tasks.sources.in_files import InFiles
from tasks.sources.lines import numbered_lines
from tasks.sources.places import SourceFile
from tasks.sources.sniff import TEXT, is_binary


class Text(InFiles):
    """Text files, compressed or not, whatever they are called. Their encoding is found as for pages.

    A page's ``url`` is the file's path relative to the root; with ``each: line`` or ``block``, ``#`` and
    the number of its first line follow.
    """

    kind: Literal["text"] = "text"
    each: Literal["file", "line", "block"] = "file"
    """What one page is: a whole file, a line that is not empty, or a block of lines between empty ones."""

    @property
    def holds_many(self) -> bool:
        return self.each != "file"

    def pages_of(self, file: SourceFile) -> Iterator[Item]:
        if self.each == "file":
            yield whole_file(file, self.max_page_bytes, lambda _, content: None if is_binary(content) else TEXT)
        else:
            yield from self._pieces(file)

    def _pieces(self, file: SourceFile) -> Iterator[Item]:
        first, block, size = 0, list[bytes](), 0
        for line in numbered_lines(file, self.max_page_bytes):
            if isinstance(line, Bad):
                if block:
                    yield self._piece(file, first, block, size)
                    block, size = [], 0
                yield line
                continue
            number, _, content = line
            empty = not content.strip()
            if block and (empty or self.each == "line"):
                yield self._piece(file, first, block, size)
                block, size = [], 0
            if not empty:
                first = first if block else number
                size += len(content)
                # A block too large is passed over, so it need not be kept: only its beginning is.
                if size <= self.max_page_bytes or not block:
                    block.append(content)
        if block:
            yield self._piece(file, first, block, size)

    def _piece(self, file: SourceFile, first: int, block: list[bytes], size: int) -> Page | PassedOver:
        name, content = f"{file.name}#{first}", b"".join(block).rstrip(b"\r\n")
        if size > self.max_page_bytes:
            return PassedOver(name, "too_large")
        if is_binary(content):
            return PassedOver(name, "not_a_page")
        return Page(url=name, content=content, content_type=TEXT)
