"""What a person sees of a run: a line a step while it works, and a table when it ends."""

from __future__ import annotations

import shutil
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TextIO

from flows.outcome import StepOutcome
from flows.plan import Decision
from flows.recipe import Step
from tasks.task import Progress

_PLAIN_SECONDS = 10.0
"""How often a step says how far it is where lines cannot be rewritten."""
_LIVE_SECONDS = 0.2


@dataclass
class _Line:
    """A step at work."""

    since: float
    note: str
    shown: float = 0.0
    worked_since: float | None = None
    """Since when what is told of goes on, where that is known to be later."""


class Terminal:
    """Live lines on standard error: rewritten in place on a terminal, plain lines elsewhere."""

    def __init__(self, steps: Sequence[str], stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._live = self._stream.isatty()
        self._width = max((len(step) for step in steps), default=0)
        self._lines: dict[str, _Line] = {}
        self._drawn = 0
        self._drawn_at = 0.0
        self._lock = threading.RLock()

    def started(self, step: Step, why: str) -> None:
        with self._lock:
            self._lines[step.name] = _Line(time.monotonic(), "")
            self._say(f"{step.name:{self._width}}  building: {why}")

    def waiting(self, step: Step, note: str) -> None:
        with self._lock:
            self._say(f"{step.name:{self._width}}  {note}")

    def progress(self, step: Step) -> Progress:
        def report(done: int, total: int | None, unit: str, note: str = "", begun: int = 0) -> None:
            with self._lock:
                line, now = self._lines.setdefault(step.name, _Line(time.monotonic(), "")), time.monotonic()
                if done == begun:  # what is told of has not gone on yet
                    line.worked_since = now
                line.note = progress_text(done, total, unit, note, now - (line.worked_since or line.since), begun)
                if self._live and now - self._drawn_at >= _LIVE_SECONDS:
                    self._redraw()
                elif not self._live and now - max(line.shown, line.since) >= _PLAIN_SECONDS:
                    line.shown = now
                    self._say(f"{step.name:{self._width}}  {line.note}")

        return report

    def ended(self, outcome: StepOutcome) -> None:
        with self._lock:
            self._lines.pop(outcome.step, None)
            artifact = f" {outcome.artifact[:12]}" if outcome.artifact else ""
            after = f" in {seconds_text(outcome.seconds)}" if outcome.status == "built" else ""
            said = said_of(outcome)
            self._say(f"{outcome.step:{self._width}}  {outcome.status}{after}{artifact}{': ' if said else ''}{said}")

    def say(self, text: str) -> None:
        """A line about the run as a whole."""
        with self._lock:
            self._say(text)

    def _say(self, text: str) -> None:
        self._clear()
        self._stream.write(text + "\n")
        if self._live:
            self._redraw()
        self._stream.flush()

    def _redraw(self) -> None:
        self._clear()
        lines = [f"{name:{self._width}}  {line.note}" for name, line in self._lines.items() if line.note]
        self._stream.write("".join(f"{text[: _columns()]}\n" for text in lines))
        self._stream.flush()
        self._drawn, self._drawn_at = len(lines), time.monotonic()

    def _clear(self) -> None:
        if self._live and self._drawn:
            self._stream.write(f"\x1b[{self._drawn}A\x1b[J")
            self._drawn = 0


def _columns() -> int:
    return max(20, shutil.get_terminal_size().columns - 1)


def progress_text(done: int, total: int | None, unit: str, note: str, seconds: float, begun: int = 0) -> str:
    """``1,200 of 5,000 documents, 310/s, 12 s left, loss 3.21``; the rate is that of what came after ``begun``."""
    parts = [f"{done:,} of {total:,} {unit}" if total is not None else f"{done:,} {unit}"]
    if done > begun and seconds >= 1:
        rate = (done - begun) / seconds
        parts.append(f"{rate:,.0f}/s" if rate >= 10 else f"{rate:.1f}/s")
        if total is not None and total > done:
            parts.append(f"{seconds_text((total - done) / rate)} left")
    return ", ".join([*parts, *([note] if note else [])])


def seconds_text(seconds: float) -> str:
    """``0.4 s``, ``12 s``, ``3 min 20 s``, ``2 h 5 min``."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def figure_text(value: float | None) -> str:
    """A figure for people: counts whole, as ``2,785,180``, others by their first six digits; empty for none."""
    if value is None:
        return ""
    return f"{int(value):,}" if float(value).is_integer() and abs(value) < 1e15 else f"{value:,.6g}"


def said_of(outcome: StepOutcome) -> str:
    """The one number that matters and what was reused, or why there is none."""
    if outcome.status in ("failed", "skipped"):
        return outcome.why
    return ", ".join(filter(None, [outcome.headline, reuse_words(outcome), outcome.verdict]))


def reuse_words(outcome: StepOutcome) -> str:
    """How much of a built step's work had been done before: ``39 of 40 partitions, 2,559 of 2,560 rows reused``."""
    parts = [
        f"{int(outcome.metrics[f'{what}_reused']):,} of {int(outcome.metrics[what]):,} {what}"
        for what in ("partitions", "rows")
        if outcome.status == "built" and outcome.metrics.get(f"{what}_reused")
    ]
    return f"{', '.join(parts)} reused" if parts else ""


def run_table(outcomes: Sequence[StepOutcome]) -> str:
    """The table that ends a run."""
    rows = [("step", "status", "time", "artifact", "result")]
    for outcome in outcomes:
        said = said_of(outcome)
        took = seconds_text(outcome.seconds) if outcome.status != "skipped" else ""
        rows.append((outcome.step, outcome.status, took, (outcome.artifact or "")[:12], said))
    return table(rows, right=(2,))


def plan_table(decisions: dict[str, Decision], notes: dict[str, str]) -> str:
    """What ``plan`` prints."""
    rows = [("step", "action", "why")]
    for name, decision in decisions.items():
        rows.append((name, decision.action, "; ".join(filter(None, [decision.why, notes.get(name, "")]))))
    return table(rows)


def table(rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> str:
    """Columns of even width, the first row being the head; columns in ``right`` are right-aligned."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for number, row in enumerate(rows):
        cells = [f"{c:>{w}}" if i in right else f"{c:<{w}}" for i, (c, w) in enumerate(zip(row, widths, strict=True))]
        lines.append("  ".join(cells).rstrip())
        if number == 0:
            lines.append("  ".join("-" * width for width in widths))
    return "\n".join(lines)


def sample_text(outcomes: Sequence[StepOutcome]) -> str:
    """What the last model of the run writes, if it left samples."""
    for outcome in reversed(outcomes):
        if outcome.kind in ("model", "adapter", "report") and outcome.samples:
            lines = []
            for sample in outcome.samples[:2]:
                lines += [f"{sample['title']}:", *(f"  {line}" for line in _both(sample).splitlines()), ""]
            return "\n".join(lines).rstrip()
    return ""


def _both(sample: dict[str, str | None]) -> str:
    texts = [sample.get("before"), sample.get("after")]
    return "\n→\n".join(text[:400] for text in texts if text)
