"""Corpora: pages, documents and examples in Parquet (zstd), one file per partition."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.parquet as pq

from storage.artifact import Artifact
from storage.identity import digest_of_text
from storage.stored import AnyFile, StoredFile, located, places_of

PAGES_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("url", pa.string(), nullable=False),
        pa.field("content", pa.binary()),
        pa.field("content_type", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("license", pa.string()),
        pa.field("language", pa.string()),
        pa.field("first_seen", pa.int32(), nullable=False),
        pa.field("collected_at", pa.timestamp("us", tz="UTC")),
        pa.field("container", pa.string()),
        pa.field("offset", pa.int64()),
        pa.field("length", pa.int64()),
        pa.field("digest", pa.binary(16)),
    ]
)
"""The content of a page lies here, or was left where it is: then ``content`` is null, ``container`` a file of
the source, ``offset`` the record's place in it (see ``tasks.sources``), and ``length`` the content's bytes.
``digest`` (of content and type, see ``tasks.pages.index``) shows whether it is still the same. ``content_type`` is a
MIME type, with a charset where the source states one: ``text/html; charset=gb18030``. ``language`` is what the recipe,
or the source itself, says of all its pages."""

_TEXTS = pa.list_(pa.field("element", pa.string()))
"""Named as Parquet names it, so that a table that was read is written as the same bytes."""

DOCUMENTS_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("text", pa.string(), nullable=False),
        pa.field("url", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("language", pa.string()),
        pa.field("license", pa.string()),
        pa.field("first_seen", pa.int32(), nullable=False),
        pa.field("metadata", pa.string()),
        pa.field("title", pa.string()),
        pa.field("canonical_url", pa.string()),
        pa.field("published", pa.string()),
        pa.field("declared_language", pa.string()),
        pa.field("ai_opt_out", _TEXTS),
        pa.field("language_confidence", pa.float32()),
        pa.field("tags", _TEXTS),
    ]
)
"""``metadata`` is a JSON object as canonical text, or null. ``published`` is a date, ``2024-05-31``.
``ai_opt_out`` lists the signals by which a page asks not to be used (``noai``, ``noindex``,
``tdm-reservation``). ``language`` and ``language_confidence`` are what identification found,
``declared_language`` what the page says. ``tags`` are the faults that a filter found and kept."""

EXAMPLES_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("document_id", pa.string(), nullable=False),
        pa.field("prompt", pa.string(), nullable=False),
        pa.field("response", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
    ]
)
"""``document_id`` is the page an example was drawn from (else the example's own id): it decides the split."""

HELD_OUT = "~validation"
"""Ends the id of a page whose source is held out for validation as a whole."""
_FOOTER_BYTES = 1 << 16
"""Most footers are shorter; so much is read at first of a file that lies elsewhere."""
_DERIVED = "#"
"""Stands in an id between that of a document and the number of a text made from it."""


@dataclass(frozen=True)
class TableSize:
    """How much a Parquet file holds."""

    rows: int
    uncompressed_bytes: int


def size_of(path: Path) -> TableSize:
    """The size of one Parquet file; its footer is read when the file has changed since it was last asked for."""
    status = path.stat()
    return _size_of(path, (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns))


@lru_cache(maxsize=1 << 16)
def _size_of(path: Path, state: tuple[int, int, int, int]) -> TableSize:
    return _table_size(pq.read_metadata(path))


def _table_size(metadata: pq.FileMetaData) -> TableSize:
    groups = range(metadata.num_row_groups)
    return TableSize(metadata.num_rows, sum(metadata.row_group(number).total_byte_size for number in groups))


@dataclass(frozen=True)
class Partition:
    """One file of a corpus."""

    name: str
    where: AnyFile
    """Its file, or what fetches it."""
    digest: str

    @property
    def path(self) -> Path:
        """Its file, to be opened now: fetched if it lies elsewhere."""
        return located(self.where)

    @property
    def size(self) -> TableSize:
        """What its file's footer says, read once; the rest of a file that lies elsewhere is not fetched."""
        if isinstance(self.where, Path):
            return size_of(self.where)
        return _size_elsewhere(self.where)


@lru_cache(maxsize=1 << 16)
def _size_elsewhere(file: StoredFile) -> TableSize:
    here = file.here()
    if here is not None:
        try:
            return size_of(here)
        except FileNotFoundError:  # it has just made room for another
            pass
    tail = file.tail(_FOOTER_BYTES)
    length = int.from_bytes(tail[-8:-4], "little") + 8
    metadata = pq.read_metadata(pa.BufferReader(tail if length <= len(tail) else file.tail(length)))
    return _table_size(metadata)


class Corpus(Artifact):
    """An artifact of partitions, all with one schema."""

    schema: ClassVar[pa.Schema]
    opened_by_path = True

    @property
    def partitions(self) -> list[Partition]:
        names = self.names("*.parquet")
        places = places_of(self._objects)
        return [Partition(n, places.get(n) or self.path(n), self.manifest.files[n].object) for n in names]

    @property
    def rows(self) -> int:
        partitions = self.partitions
        if not any(isinstance(partition.where, StoredFile) for partition in partitions):
            return sum(partition.size.rows for partition in partitions)
        from storage.place import CONCURRENT_REQUESTS

        with ThreadPoolExecutor(CONCURRENT_REQUESTS, thread_name_prefix="footers") as threads:
            return sum(threads.map(lambda partition: partition.size.rows, partitions))

    def tables(self, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """One table per partition, in the order of their names."""
        for partition in self.partitions:
            yield read_table(partition.path, columns)


class Pages(Corpus):
    """Raw pages, as fetched."""

    kind = "pages"
    schema = PAGES_SCHEMA


class Documents(Corpus):
    """Plain text, one row a document."""

    kind = "documents"
    schema = DOCUMENTS_SCHEMA


class Examples(Corpus):
    """Prompt and response pairs: ``train.parquet`` and ``validation.parquet``."""

    kind = "examples"
    schema = EXAMPLES_SCHEMA

    def split(self, name: str) -> pa.Table:
        """The rows of split ``train`` or ``validation``, in the order of their ids."""
        return read_table(self.path(f"{name}.parquet"))


def document_id(source: str, url: str, held_out: bool = False) -> str:
    """Identity of a page and of the document made of it: 32 hexadecimal digits.

    With ``held_out`` a mark follows, by which all steps know that it is for validation alone.

    ``url`` is the page's URL, or for files the POSIX path relative to the source's root
    (followed by ``#`` and the record's key, in a container).
    """
    return digest_of_text(f"{source}\n{url}")[:32] + (HELD_OUT if held_out else "")


def derived_id(document: str, number: int) -> str:
    """Identity of the ``number``-th text (from 1) made from a document, which stays on its side of every split."""
    return f"{document}{_DERIVED}{number}"


def is_validation(document: str, fraction: float) -> bool:
    """Whether the document with this id belongs to the validation split.

    Depends on the id alone, so growth never moves a document, and the validation split of a
    smaller fraction is contained in that of a larger one. Of a source with ``split: validation``
    all documents do, whatever the fraction. A text derived from a document is on
    that document's side, so no paraphrase of what is held out is trained on.
    """
    origin = document.partition(_DERIVED)[0]
    if origin.endswith(HELD_OUT):
        return True
    position = int(digest_of_text(f"split\n{origin}")[:13], 16) / 16**13
    return position < fraction


def read_table(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Read one Parquet file."""
    # Without datasets and threads: a partition is small, and is read by one of many workers.
    with pq.ParquetFile(path) as file:
        if columns is None:
            return file.read(use_threads=False)
        return file.read(columns=list(columns), use_threads=False).select(list(columns))


def table_of(rows: Sequence[dict[str, Any]], schema: pa.Schema) -> pa.Table:
    """A table from rows, checked against ``schema``."""
    return pa.Table.from_pylist(list(rows), schema=schema)


_DISTINCT = {
    "id", "document_id", "url", "canonical_url", "title", "metadata", "content", "digest", "text", "prompt", "response"
}  # fmt: skip
"""Columns whose values hardly ever repeat. Without dictionaries and statistics of these a partition is smaller, and
takes a fifth less time to write and a quarter less to read."""


_LONG = _DISTINCT - {"id", "document_id", "digest"}
"""Columns that are compressed. Of the others a partition has a few hundred bytes, which takes longer to compress, and
each time to read, than it saves."""


def write_table(table: pa.Table, path: Path) -> None:
    """Write a partition: the same table gives the same bytes, on any host."""
    path.parent.mkdir(parents=True, exist_ok=True)
    names = table.column_names
    repeated, long = [n for n in names if n not in _DISTINCT], [n for n in names if n in _LONG]
    pq.write_table(
        table.replace_schema_metadata(None),
        path,
        compression=dict.fromkeys(long, "zstd"),
        compression_level=dict.fromkeys(long, 3),
        use_dictionary=repeated,
        write_statistics=repeated,
    )
