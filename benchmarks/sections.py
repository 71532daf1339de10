"""A file of results made of sections, each measured by a module of its own and replaced when that is measured again.

A part is a module of this package with ``measure() -> list[Table]``. Its section says when and on
what machine it was measured; where its data or its peers are absent, it says so.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from datetime import date
from importlib import import_module
from pathlib import Path

from benchmarks.corpora import DataMissing
from benchmarks.measure import machine


def section_of(part: str, module: str) -> str:
    """The part's tables as Markdown, with the day and the machine; or why there are none."""
    print(f"measuring {part} …", file=sys.stderr, flush=True)
    try:
        tables = [table.markdown() for table in import_module(module).measure()]
    except (DataMissing, ModuleNotFoundError) as missing:
        tables = [f"## {part}\n\nNot measured: {missing}\n"]
    return "\n".join([f"<!-- {part} -->", f"*Measured on {date.today():%Y-%m-%d}: {machine()}.*\n", *tables])


def sections_in(text: str) -> dict[str, str]:
    """The sections of a file of results, by part."""
    found = re.split(r"^(?=<!-- \w+ -->$)", text, flags=re.MULTILINE)[1:]
    return {section.split()[1]: section for section in found}


def measure_parts(results: Path, head: str, parts: Mapping[str, str], wanted: Sequence[str]) -> None:
    """Measure the parts wanted, or all, and write them into the file ``results`` below ``head``.

    ``parts``: name of each part → its module, in the order of the file.
    """
    if unknown := set(wanted) - set(parts):
        sys.exit(f"there is no part {', '.join(sorted(unknown))}; take of {', '.join(parts)}")
    known = sections_in(results.read_text(encoding="utf-8")) if results.exists() else {}
    results.parent.mkdir(exist_ok=True)
    for part in wanted or parts:
        known[part] = section_of(part, parts[part])
        written = "\n".join([head, *(known[name].strip() + "\n" for name in parts if name in known)])
        results.write_text(written, encoding="utf-8")
        print(known[part], flush=True)
