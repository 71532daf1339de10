"""What a collection notes of its pages, so that the next one need not read them: a row a page, without content."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from storage.corpus import Pages
from tasks.sources.base import Page

INDEX = "index.arrow"
"""Its file beside the partitions."""

INDEX_SCHEMA = pa.schema(
    [
        pa.field("partition", pa.int32(), nullable=False),
        pa.field("id", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("url", pa.string(), nullable=False),
        pa.field("license", pa.string()),
        pa.field("language", pa.string()),
        pa.field("first_seen", pa.int32(), nullable=False),
        pa.field("collected_at", pa.timestamp("us", tz="UTC")),
        pa.field("version", pa.string()),
        pa.field("digest", pa.binary(16), nullable=False),
        pa.field("bytes", pa.int64(), nullable=False),
    ]
)
"""Rows in the order of partitions and of the rows in them. ``partition`` is a number: ``12`` for ``00012.parquet``.
``version`` is that of ``tasks.sources.base.Page``."""

_COPIED = ("id", "source", "url", "license", "language", "first_seen", "collected_at")


def name_of(partition: int) -> str:
    """The file of a partition."""
    return f"{partition:05}.parquet"


def digest_of_page(content: bytes, content_type: str) -> bytes:
    """Whether two versions of a page are the same is told by this: 16 bytes."""
    digest = hashlib.sha256(content_type.encode())
    digest.update(b"\n")
    digest.update(content)
    return digest.digest()[:16]


def digest_of_version(page: Page) -> bytes:
    """As ``digest_of_page``; of a page that is left where it is, the place counts too."""
    digest = digest_of_page(page.content, page.content_type)
    if page.at is None:
        return digest
    return hashlib.sha256(digest + f"{page.at.offset} {page.at.container}".encode()).digest()[:16]


def length_of(row: Mapping[str, Any]) -> int:
    """Bytes of a page's content, wherever it lies."""
    return len(row["content"]) if row["content"] is not None else int(row["length"])


def entry_of(partition: int, page: Mapping[str, Any], version: str | None, digest: bytes) -> dict[str, Any]:
    """The row of the index for a row of a partition."""
    copied = {name: page[name] for name in _COPIED}
    return {"partition": partition, **copied, "version": version, "digest": digest, "bytes": length_of(page)}


def table_of_entries(entries: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Entries as a table."""
    return pa.Table.from_pylist(list(entries), schema=INDEX_SCHEMA)


def read_index(pages: Pages | None) -> pa.Table:
    """The index of a collection; empty if there is none."""
    if pages is None:
        return table_of_entries([])
    with pa.memory_map(str(pages.path(INDEX))) as file:
        return pa.ipc.open_file(file).read_all()


def write_index(index: pa.Table, folder: Path) -> None:
    """Write it beside the partitions: the same table gives the same bytes."""
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with (
        pa.OSFile(str(folder / INDEX), "wb") as sink,
        pa.ipc.new_file(sink, INDEX_SCHEMA, options=options) as writer,
    ):
        writer.write_table(index.combine_chunks())


def is_older(one: datetime | None, other: datetime | None) -> bool:
    """Whether a version collected at ``one`` is older than another; one of unknown age is the oldest."""
    return other is not None and (one is None or one < other)
