"""Partitions of a corpus: what is read of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.corpus import read_rows

TABLE = pa.table({"number": np.arange(20), "text": [f"text {number}" for number in range(20)]})


@pytest.fixture(scope="module", params=[1, 3, 20, 100])
def written(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The table in a file with so many rows in a group."""
    path: Path = tmp_path_factory.mktemp("groups") / "rows.parquet"
    pq.write_table(TABLE, path, row_group_size=request.param)
    return path


@given(numbers=st.sets(st.integers(0, 19)))
def test_rows_are_read_by_their_numbers(written: Path, numbers: set[int]) -> None:
    rows = np.array(sorted(numbers), np.int64)
    assert read_rows(written, rows).to_pylist() == TABLE.take(pa.array(rows)).to_pylist()
