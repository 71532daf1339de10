"""Pages from JSON lines."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, ClassVar, Literal

from tasks.sources.base import Bad, Item
from tasks.sources.columns import Columns
from tasks.sources.lines import numbered_lines
from tasks.sources.places import SourceFile


class Jsonl(Columns):
    """JSON lines, compressed or not: one object a line. A line that is none is quarantined, and the file goes on."""

    kind: Literal["jsonl"] = "jsonl"
    endings: ClassVar[tuple[str, ...]] = (".jsonl", ".ndjson", ".json", ".jsonlines")

    def pages_of(self, file: SourceFile) -> Iterator[Item]:
        # A letter takes up to six bytes in JSON (\u4e2d): a page within its limit fits into such a line.
        for line in numbered_lines(file, 6 * self.max_page_bytes):
            if isinstance(line, Bad):
                yield line
            elif line[1].strip():
                number, content = line
                place = f"{file.name}:{number}"
                record = record_of(content)
                yield (
                    Bad(place, "bad_line", record)
                    if isinstance(record, str)
                    else self.page(place, file.name, number, record)
                )


def record_of(line: bytes) -> dict[str, Any] | str:
    """The object on a line, or what is wrong with it."""
    try:
        record = json.loads(line)
    except RecursionError:
        return "it is nested too deep"
    except ValueError as error:  # UnicodeDecodeError among them
        return f"it is not JSON ({error})"
    return record if isinstance(record, dict) else f"it is a JSON {type(record).__name__}, not an object"
