"""Timing in pairs, and tables of the results."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path


@dataclass(frozen=True)
class Table:
    """One table of results in Markdown."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = field(default_factory=tuple)
    """What was measured on, how, and what a reader should know to believe it."""

    def markdown(self) -> str:
        lines = [f"## {self.title}", "", _line(self.columns), _line(["---"] * len(self.columns))]
        lines += [_line(row) for row in self.rows]
        for note in self.notes:
            lines += ["", note]
        return "\n".join(lines) + "\n"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def compare(work: Mapping[str, Callable[[], object]], rounds: int = 3) -> dict[str, float]:
    """Seconds of processor time of each piece of work: the median over rounds in which all take turns.

    Processor time of this process, threads included, so that neighbours on the machine disturb
    little, and a library with threads is not given more cores than the others.
    """
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(rounds):
        for name, function in work.items():
            began = time.process_time()
            function()
            seconds[name].append(time.process_time() - began)
    return {name: statistics.median(times) for name, times in seconds.items()}


def rate(amount: float, seconds: float) -> str:
    """An amount a second, to three digits: ``1,180``, ``0.132``."""
    value = amount / seconds
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def ratio(value: float, other: float) -> str:
    """How many times ``other`` fits in ``value``: ``7.4 ×``."""
    return f"{value / other:.2g} ×" if value / other < 100 else f"{value / other:,.0f} ×"


def versions(*distributions: str) -> str:
    """``trafilatura 2.0.0, resiliparse 2.0.1``."""
    return ", ".join(f"{name} {version(name)}" for name in distributions)


def machine() -> str:
    """The processor and the Python that measured."""
    processor = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        processor = f"{len(names)} × {names[0]}" if names else processor
    return f"{processor}, {platform.system()}, Python {platform.python_version()}"
