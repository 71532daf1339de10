"""``make bench-train``: training beside its peers on the same machine and the same data.

Without arguments all parts are measured, with arguments those named (``make bench-train
PARTS=speed``); each replaces its section of ``benchmarks/results/train.md``.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from benchmarks.sections import measure_parts

PARTS = ("speed", "learning", "memory", "widths", "gpu")
os.environ.setdefault("TQDM_DISABLE", "1")
RESULTS = Path(__file__).parent / "results" / "train.md"
HEAD = """# Training beside its peers

Written by `make bench-train`. The trainers take turns, each in processes of its own; compare within a table, not across
machines.
"""


if __name__ == "__main__":
    measure_parts(RESULTS, HEAD, {part: f"benchmarks.training.{part}" for part in PARTS}, sys.argv[1:])
