"""Pages put aside on disk, to be read back in another order, by other processes too."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa

from storage.corpus import PAGES_SCHEMA, table_of


class Spill:
    """An Arrow file of pages, one record batch each; it is removed when the context ends."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._sink = pa.OSFile(str(path), "wb")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._sink.close()
        self.path.unlink(missing_ok=True)

    def add(self, row: dict[str, Any]) -> int:
        """Put a page aside; returns where."""
        at = int(self._sink.tell())
        batch = table_of([row], PAGES_SCHEMA).to_batches()[0]
        self._sink.write(batch.serialize())
        return at

    def flush(self) -> None:
        """Make what was put aside readable."""
        self._sink.flush()


def spilt_rows(path: Path, places: list[int]) -> list[pa.Table]:
    """The pages put aside at these places, as tables of one row. They must have been flushed."""
    if not places:
        return []
    with pa.OSFile(str(path), "rb") as file:
        tables = []
        for at in places:
            file.seek(at)
            tables.append(pa.Table.from_batches([pa.ipc.read_record_batch(file, PAGES_SCHEMA)]))
    return tables
