"""``make bench-data``: every data task beside its peers, in one process on the same data.

A part is a module of this package with ``measure() -> list[Table]``. Without arguments all parts
are measured, with arguments those named (``make bench-data PARTS=rules``); each replaces its
section of ``benchmarks/results/data.md``, which says when and on what machine it was measured.
"""

from __future__ import annotations

import os
import re
import sys
from datetime import date
from importlib import import_module
from pathlib import Path

from benchmarks.corpora import DataMissing
from benchmarks.measure import machine

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


def section_of(part: str) -> str:
    """The part's tables as Markdown, with the day and the machine; or why there are none."""
    print(f"measuring {part} …", file=sys.stderr, flush=True)
    try:
        tables = [table.markdown() for table in import_module(f"benchmarks.{part}").measure()]
    except (DataMissing, ModuleNotFoundError) as missing:
        tables = [f"## {part}\n\nNot measured: {missing}\n"]
    return "\n".join([f"<!-- {part} -->", f"*Measured on {date.today():%Y-%m-%d}: {machine()}.*\n", *tables])


def sections_in(text: str) -> dict[str, str]:
    """The sections of a file of results, by part."""
    found = re.split(r"^(?=<!-- \w+ -->$)", text, flags=re.MULTILINE)[1:]
    return {section.split()[1]: section for section in found}


def main(parts: list[str]) -> None:
    """Measure the parts named, or all, and write them down."""
    if unknown := set(parts) - set(PARTS):
        sys.exit(f"there is no part {', '.join(sorted(unknown))}; take of {', '.join(PARTS)}")
    known = sections_in(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    RESULTS.parent.mkdir(exist_ok=True)
    for part in parts or PARTS:
        known[part] = section_of(part)
        written = "\n".join([HEAD, *(known[name].strip() + "\n" for name in PARTS if name in known)])
        RESULTS.write_text(written, encoding="utf-8")
        print(known[part], flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
