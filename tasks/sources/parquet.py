"""Pages from Parquet files, and from folders of Hugging Face's ``datasets``."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator
from functools import lru_cache
from itertools import accumulate
from typing import IO, ClassVar, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from storage.artifact import JsonValue
from tasks.sources.base import Bad, Item, Terms
from tasks.sources.columns import Columns
from tasks.sources.dataset_card import terms_in_card
from tasks.sources.in_files import placed
from tasks.sources.places import SourceFile
from tasks.task import World

_BATCH_ROWS = 16
"""Few, since a raw page may have tens of megabytes."""
_PARQUET, _ARROW = b"PAR1", b"ARROW1"
_BROKEN = (pa.ArrowException, OSError)
"""What Arrow raises on a broken file."""


class Parquet(Columns):
    """Parquet files, and Arrow files as ``datasets.save_to_disk`` writes them. Only the columns in use are read.

    A folder of a Hugging Face dataset is such a folder; its licence and language, as the ``README.md`` there
    states them, hold where the recipe says nothing. A row group that cannot be read is quarantined, and the
    file goes on. Memory: the columns in use of one row group.
    """

    kind: Literal["parquet"] = "parquet"
    endings: ClassVar[tuple[str, ...]] = (".parquet", ".arrow")

    def terms(self, world: World) -> Terms:
        own = super().terms(world)
        if own.license is not None and own.language is not None:
            return own
        stated = terms_in_card(world, self.path, f"source {self.name or self.kind}")
        return Terms(own.license or stated.license, own.language or stated.language)

    def fingerprint(self, world: World) -> JsonValue:
        found, terms = super().fingerprint(world), self.terms(world)
        assert isinstance(found, dict)
        return {**found, "license": terms.license, "language": terms.language}

    def pages_of(self, file: SourceFile) -> Iterator[Item]:
        try:
            with file.open() as stream:
                arrow = stream.read(len(_ARROW)) == _ARROW or file.name.lower().endswith(".arrow")
                stream.seek(0)
                for first, part in (_arrow_parts if arrow else _parquet_parts)(stream, self.wanted()):
                    if isinstance(part, _Wrong):
                        yield Bad(f"{file.name}:{first}" if first else file.name, part.reason, str(part))
                        continue
                    for number, record in enumerate(part.to_pylist(), first):
                        found = self.page(f"{file.name}:{number}", file.name, number, record)
                        yield found if arrow else placed(found, file.name, number)
        except OSError as error:
            yield Bad(file.name, "unreadable", error.strerror or str(error))

    def pages_at(self, raw: IO[bytes], name: str) -> Callable[[int], Item]:
        file = pq.ParquetFile(raw, pre_buffer=False)
        sizes = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
        ends = list(accumulate(sizes))

        @lru_cache(1)
        def records(group: int) -> pa.Table:
            return file.read_row_group(group, columns=self.wanted(), use_threads=False)

        def read(number: int) -> Item:
            group = bisect_left(ends, number)
            record = records(group).slice(number - 1 - (ends[group] - sizes[group]), 1).to_pylist()[0]
            return self.page(f"{name}:{number}", name, number, record)

        return read


class _Wrong(Exception):
    """A file, or a part of it, that cannot be read; ``reason`` is counted."""

    def __init__(self, reason: str, detail: object) -> None:
        super().__init__(" ".join(str(detail).split())[:500])
        self.reason = reason


Part = tuple[int, pa.RecordBatch | _Wrong]
"""Number of a part's first record, from 1 (0: the whole file), and its records or what is wrong with it."""


def _parquet_parts(stream: IO[bytes], columns: list[str]) -> Iterator[Part]:
    """Records of the columns, row group by row group."""
    start = stream.read(len(_PARQUET))
    stream.seek(0)
    try:
        file = pq.ParquetFile(stream, pre_buffer=False)
    except _BROKEN as error:
        yield 0, _Wrong("truncated" if start == _PARQUET else "corrupt", _data_fault(error))
        return
    chosen = _chosen(file.schema_arrow, columns)
    if isinstance(chosen, _Wrong):
        yield 0, chosen
        return
    first = 1
    for group in range(file.num_row_groups):
        number = first
        try:
            for batch in file.iter_batches(_BATCH_ROWS, row_groups=[group], columns=chosen, use_threads=False):
                yield number, batch
                number += batch.num_rows
        except _BROKEN as error:
            yield number, _Wrong("corrupt", f"row group {group}: {_data_fault(error)}")
        first += file.metadata.row_group(group).num_rows


def _arrow_parts(stream: IO[bytes], columns: list[str]) -> Iterator[Part]:
    """Records of the columns of an Arrow file, streamed or not, batch by batch."""
    number = 0
    try:
        whole = stream.read(len(_ARROW)) == _ARROW
        stream.seek(0)
        reader = pa.ipc.open_file(stream) if whole else pa.ipc.open_stream(stream)
        chosen = _chosen(reader.schema, columns)
        if isinstance(chosen, _Wrong):
            yield 0, chosen
            return
        names = list(dict.fromkeys(name if name in reader.schema.names else name.split(".")[0] for name in chosen))
        batches = (reader.get_batch(n) for n in range(reader.num_record_batches)) if whole else reader
        for batch in batches:
            for start in range(0, batch.num_rows, _BATCH_ROWS):
                part = batch.select(names).slice(start, _BATCH_ROWS)
                yield number + 1, part
                number += part.num_rows
    except _BROKEN as error:
        yield number and number + 1, _Wrong("corrupt", _data_fault(error))


def _data_fault(error: Exception) -> Exception:
    """The error, if the file's content is at fault; one of the operating system is raised again."""
    if isinstance(error, OSError) and error.errno is not None:
        raise error
    return error


def _chosen(schema: pa.Schema, columns: list[str]) -> list[str] | _Wrong:
    """The columns, or what is wrong with a file that lacks one."""
    for column in columns:
        if column not in schema.names and column.partition(".")[0] not in schema.names:
            return _Wrong(
                "schema", f"there is no column {column!r}; its columns are {', '.join(schema.names) or 'none'}"
            )
    return columns
