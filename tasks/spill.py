"""Rows put aside on disk, to be read back in another order."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa

from storage.corpus import PAGES_SCHEMA, table_of


class Spill:
    """An Arrow file of pages, one record batch each; it is removed when the context ends."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._sink = pa.OSFile(str(path), "wb")
        self._reader: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._sink.close()
        if self._reader is not None:
            self._reader.close()
        self._path.unlink(missing_ok=True)

    def add(self, row: dict[str, Any]) -> int:
        """Put a page aside; returns where."""
        at = int(self._sink.tell())
        batch = table_of([row], PAGES_SCHEMA).to_batches()[0]
        self._sink.write(batch.serialize())
        return at

    def row(self, at: int) -> pa.Table:
        """The page put aside at ``at``, as a table of one row. All pages must have been added."""
        if self._reader is None:
            self._sink.flush()
            self._reader = pa.memory_map(str(self._path), "r")
        self._reader.seek(at)
        return pa.Table.from_batches([pa.ipc.read_record_batch(self._reader, PAGES_SCHEMA)])
