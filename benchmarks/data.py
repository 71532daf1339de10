"""``make bench-data``: every data task beside its peers, in one process on the same data.

Without arguments all parts are measured, with arguments those named (``make bench-data
PARTS=rules``); each replaces its section of ``benchmarks/results/data.md``.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from benchmarks.sections import measure_parts

PARTS = (
    "extraction",
    "languages",
    "rules",
    "classifiers",
    "personal_data",
    "near_copies",
    "passages",
    "overlap",
    "tokens",
    "reading",
)
# datatrove tells every stage's progress; a table is easier to find without.
os.environ.setdefault("LOGURU_LEVEL", "ERROR")
os.environ.setdefault("TQDM_DISABLE", "1")
RESULTS = Path(__file__).parent / "results" / "data.md"
HEAD = """# Data tasks beside their peers

Written by `make bench-data`. Times are processor time of one process, the median of rounds in which all take turns;
compare within a table, not across machines.
"""


if __name__ == "__main__":
    measure_parts(RESULTS, HEAD, {part: f"benchmarks.{part}" for part in PARTS}, sys.argv[1:])
