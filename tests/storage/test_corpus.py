"""Partitions of a corpus: what is written of them, and read again."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.corpus import DOCUMENTS_SCHEMA, read_table, table_of, write_table

TEXTS = st.text(st.characters(exclude_categories=("Cs",)))


@given(
    rows=st.lists(
        st.fixed_dictionaries(
            {"id": TEXTS, "text": TEXTS, "url": TEXTS, "source": TEXTS, "first_seen": st.integers(0, 9)},
            optional={"title": TEXTS, "language_confidence": st.just(0.5), "tags": st.lists(TEXTS)},
        )
    )
)
def test_a_partition_is_read_as_it_was_written(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, object]]
) -> None:
    folder = tmp_path_factory.mktemp("partition")
    table = table_of(rows, DOCUMENTS_SCHEMA)
    write_table(table, folder / "a.parquet")
    assert read_table(folder / "a.parquet").equals(table)
    assert read_table(folder / "a.parquet", ["url", "id"]).equals(table.select(["url", "id"]))
    write_table(read_table(folder / "a.parquet"), folder / "b.parquet")
    assert (folder / "a.parquet").read_bytes() == (folder / "b.parquet").read_bytes()


def test_long_columns_are_compressed(tmp_path: Path) -> None:
    row = {"id": "a" * 32, "text": "a long text " * 1000, "url": "u", "source": "s", "first_seen": 1}
    write_table(table_of([row], DOCUMENTS_SCHEMA), tmp_path / "a.parquet")
    columns = pq.read_metadata(tmp_path / "a.parquet").row_group(0)
    codecs = {columns.column(n).path_in_schema: columns.column(n).compression for n in range(columns.num_columns)}
    assert {name for name, codec in codecs.items() if codec == "ZSTD"} == {
        "text", "url", "title", "canonical_url", "metadata"
    }  # fmt: skip
