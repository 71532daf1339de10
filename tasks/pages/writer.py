"""Writing pages into partitions as they come."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from storage.corpus import PAGES_SCHEMA, table_of, write_table
from tasks.pages.index import entry_of, length_of, name_of

_WRITTEN_BESIDE = 2
"""So many full partitions may wait for the thread that compresses and writes them."""


@dataclass(frozen=True)
class Size:
    """When a partition is full."""

    pages: int
    bytes: int

    def is_full(self, pages: int, size: int, more: int) -> bool:
        """Whether a page of ``more`` bytes has to go into the next partition."""
        return pages > 0 and (pages >= self.pages or size + more > self.bytes)

    def is_small(self, pages: int, size: int) -> bool:
        """Whether a partition is less than half full."""
        return 2 * pages < self.pages and 2 * size < self.bytes


class Writer:
    """Fills partitions one after the other, numbered from ``number``; a thread compresses and writes them."""

    def __init__(self, folder: Path, number: int, size: Size) -> None:
        self._folder, self._size = folder, size
        self.number = number
        """The partition that is being filled."""
        self.entries: list[dict[str, Any]] = []
        """The index of what was added."""
        self._rows: list[dict[str, Any]] = []
        self._bytes = 0
        self._thread = ThreadPoolExecutor(1)
        self._writing: deque[Future[None]] = deque()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._thread.shutdown(cancel_futures=True)

    def add(self, row: dict[str, Any], version: str | None, digest: bytes) -> int:
        """Put a page into the next place; returns its number among all that were added."""
        size = length_of(row)
        if self._size.is_full(len(self._rows), self._bytes, size):
            self._flush()
        self._rows.append(row)
        self._bytes += size
        self.entries.append(entry_of(self.number, row, version, digest))
        return len(self.entries) - 1

    def close(self) -> None:
        """Write what has gathered, and wait until all is written."""
        if self._rows:
            self._flush()
        while self._writing:
            self._writing.popleft().result()

    def _flush(self) -> None:
        if len(self._writing) >= _WRITTEN_BESIDE:
            self._writing.popleft().result()
        self._writing.append(self._thread.submit(_write, self._rows, self._folder / name_of(self.number)))
        self._rows, self._bytes = [], 0
        self.number += 1


def _write(rows: list[dict[str, Any]], path: Path) -> None:
    write_table(table_of(rows, PAGES_SCHEMA), path)
