"""PyArrow works without pandas, and others can still have it."""

from __future__ import annotations

import subprocess
import sys
import textwrap


def test_arrays_do_not_import_pandas() -> None:
    program = textwrap.dedent("""
        import sys
        from storage.without_pandas import without_pandas
        without_pandas()
        import pyarrow as pa
        assert pa.table({"number": pa.array([1, None])})["number"].to_pylist() == [1, None]
        assert "pandas" not in sys.modules
        import pandas
        assert pandas.Series([1, 2]).sum() == 3
    """)
    subprocess.run([sys.executable, "-c", program], check=True)
