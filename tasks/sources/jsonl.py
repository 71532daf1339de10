"""Pages from JSON lines."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import IO, Any, ClassVar, Literal

from tasks.sources.base import Bad, Item
from tasks.sources.columns import Columns
from tasks.sources.decompress import suffix_of
from tasks.sources.in_files import placed
from tasks.sources.lines import BOM, numbered_lines
from tasks.sources.places import SourceFile


class Jsonl(Columns):
    """JSON lines, compressed or not: one object a line. A line that is none is quarantined, and the file goes on."""

    kind: Literal["jsonl"] = "jsonl"
    endings: ClassVar[tuple[str, ...]] = (".jsonl", ".ndjson", ".json", ".jsonlines")

    def pages_of(self, file: SourceFile) -> Iterator[Item]:
        alone = not suffix_of(file.name)
        for line in numbered_lines(file, self._most_line):
            if isinstance(line, Bad):
                yield line
            elif line.content.strip():
                found = self._found(file.name, line.number, line.content)
                yield placed(found, file.name, line.start) if alone else found

    def pages_at(self, raw: IO[bytes], name: str) -> Callable[[int], Item]:
        def read(offset: int) -> Item:
            raw.seek(offset)
            return self._found(name, 0, raw.readline(self._most_line + 1).removeprefix(BOM))

        return read

    @property
    def _most_line(self) -> int:
        """A letter takes up to six bytes in JSON (``\\u4e2d``): a page within its limit fits into such a line."""
        return 6 * self.max_page_bytes

    def _found(self, name: str, number: int, line: bytes) -> Item:
        place = f"{name}:{number}"
        record = record_of(line)
        if isinstance(record, str):
            return Bad(place, "bad_line", record)
        return self.page(place, name, number, record)


def record_of(line: bytes) -> dict[str, Any] | str:
    """The object on a line, or what is wrong with it."""
    try:
        record = json.loads(line)
    except RecursionError:
        return "it is nested too deep"
    except ValueError as error:  # UnicodeDecodeError among them
        return f"it is not JSON ({error})"
    return record if isinstance(record, dict) else f"it is a JSON {type(record).__name__}, not an object"
