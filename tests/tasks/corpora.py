"""Small corpora made for tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from storage.corpus import DOCUMENTS_SCHEMA, PAGES_SCHEMA, Documents, Pages, document_id, table_of, write_table

Page = tuple[bytes, str]
"""Content and content type."""


def make_pages(folder: Path, partitions: Sequence[Mapping[str, Page]]) -> Pages:
    """Pages by URL, one mapping per partition."""
    for number, pages in enumerate(partitions):
        rows = [
            {
                "id": document_id("test", url),
                "url": url,
                "content": content,
                "content_type": content_type,
                "source": "test",
                "license": "CC0",
                "first_seen": 1,
                "collected_at": None,
            }
            for url, (content, content_type) in pages.items()
        ]
        write_table(table_of(rows, PAGES_SCHEMA), folder / f"{number:05}.parquet")
    return Pages.of_folder(folder)


def make_documents(folder: Path, partitions: Sequence[Mapping[str, str]]) -> Documents:
    """Texts by URL, one mapping per partition."""
    for number, texts in enumerate(partitions):
        rows = [
            {
                "id": document_id("test", url),
                "text": text,
                "url": url,
                "source": "test",
                "language": None,
                "license": "CC0",
                "first_seen": 2,
                "metadata": '{"title":"t"}',
            }
            for url, text in texts.items()
        ]
        write_table(table_of(rows, DOCUMENTS_SCHEMA), folder / f"{number:05}.parquet")
    return Documents.of_folder(folder)


def rows_of(documents: Documents) -> dict[str, dict[str, object]]:
    """Rows by URL, in their order."""
    return {row["url"]: row for table in documents.tables() for row in table.to_pylist()}
