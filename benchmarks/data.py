"""``make bench-data``: every data task beside its peers, in one process on the same data.

A part is a module of this package with ``measure() -> list[Table]``. Without arguments all parts
run and ``benchmarks/results/data.md`` is written; ``python -m benchmarks.data extraction`` runs
one and prints its tables.
"""

from __future__ import annotations

import os
import sys
from datetime import date
from importlib import import_module
from pathlib import Path

from benchmarks.corpora import DataMissing
from benchmarks.measure import machine

PARTS = ("extraction", "languages", "rules", "classifiers", "personal_data", "near_copies", "overlap")
# datatrove tells every stage's progress; a table is easier to find without.
os.environ.setdefault("LOGURU_LEVEL", "ERROR")
os.environ.setdefault("TQDM_DISABLE", "1")
RESULTS = Path(__file__).parent / "results" / "data.md"


def tables_of(part: str) -> str:
    """The part's tables as Markdown, or why there are none."""
    print(f"measuring {part} …", file=sys.stderr, flush=True)
    try:
        return "\n".join(table.markdown() for table in import_module(f"benchmarks.{part}").measure())
    except (DataMissing, ModuleNotFoundError) as missing:
        return f"## {part}\n\nNot measured: {missing}\n"


def main(parts: list[str]) -> None:
    """Measure the parts named, or all."""
    if parts:
        print("\n".join(tables_of(part) for part in parts))
        return
    head = (
        "# Data tasks beside their peers\n\n"
        f"Written by `make bench-data` on {date.today():%Y-%m-%d}: {machine()}. Times are processor time of one\n"
        "process, the median of rounds in which all take turns; compare within a table, not across machines.\n"
    )
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text("\n".join([head, *(tables_of(part) for part in PARTS)]), encoding="utf-8")
    print(RESULTS.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main(sys.argv[1:])
