"""``make bench-scale``: time and peak memory as a corpus grows, built whole and refreshed, beside a running server.

HTML documentation from Debian's packages goes through every data step, from collecting to token shards, at 1, 2, 4 and
8 times a size. At each size: the first build, a run with nothing changed, a refresh after 1 % of the pages changed, and
one after a hundred did. Writes ``benchmarks/results/scale.md``.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import psutil

from benchmarks.corpora import CACHE, html_files
from benchmarks.measure import Table, machine

PACKAGES = (
    *("rust-doc", "cppreference-doc-en-html", "debian-handbook", "libboost1.74-doc", "python3.11-doc"),
    *("python-django-doc", "sqlite3-doc", "postgresql-doc-15", "apache2-doc", "libreoffice-help-zh-cn"),
    *("installation-guide-amd64", "python-scipy-doc"),
)
MEGABYTES = 125
"""Of HTML, at the smallest size."""
TIMES = (1, 2, 4, 8)
RESULTS = Path(__file__).parent / "results" / "scale.md"
RECIPE = """\
name: scale
seed: 1
steps:
  pages:     {task: collect, sources: [{kind: files, path: corpus}]}
  documents: {task: clean_html, pages: pages}
  kept:      {task: filter, documents: documents, rules: [length, characters]}
  scrubbed:  {task: scrub_pii, documents: kept}
  unique:    {task: dedup, documents: scrubbed, max_source_loss: 1}
  tokenizer: {task: train_tokenizer, documents: unique, vocab_size: 32_000}
  shards:    {task: shard, documents: unique, tokenizer: tokenizer}
resources: {workers: 2}
"""
STEPS = ("pages", "documents", "kept", "scrubbed", "unique", "tokenizer", "shards")
_POLL_SECONDS = 0.25
_PATIENCE_SECONDS = 900.0


@dataclass(frozen=True)
class Run:
    """One ``athanor run``, seen from outside."""

    seconds: float
    """From the command's start to its end."""
    peak: int
    """Bytes of memory of the command and all its processes together, shared pages counted once."""
    report: dict[str, Any]
    """What ``--json`` printed."""

    def step(self, name: str) -> float:
        return float(self.report["steps"][name]["seconds"])

    def total(self, metric: str) -> int:
        """A metric added up over the steps."""
        return int(sum(step["metrics"].get(metric, 0) for step in self.report["steps"].values()))

    @property
    def built(self) -> int:
        return sum(step["status"] == "built" for step in self.report["steps"].values())


# The corpus


def lay_out(folder: Path, megabytes: float) -> list[Path]:
    """Hard links to so much HTML of all packages, drawn by a fixed seed; sorted."""
    pages = [(package, path) for package in PACKAGES for path in html_files(package)]
    random.Random(1).shuffle(pages)
    laid, left = [], megabytes * 1e6
    for package, path in pages:
        left -= path.stat().st_size
        if left < 0:
            break
        target = folder / package / path.relative_to(CACHE / package)
        target.parent.mkdir(parents=True, exist_ok=True)
        os.link(path, target)
        laid.append(target)
    return sorted(laid)


def change(pages: Sequence[Path], count: int, seed: int) -> None:
    """Give ``count`` pages one more paragraph each."""
    for number, path in enumerate(random.Random(seed).sample(list(pages), count)):
        content = path.read_bytes()
        head, end, tail = content.rpartition(b"</body>")
        added = f"<p>Revision {seed} of this page says one thing more: the {number}th page was changed.</p>".encode()
        path.unlink()  # the link, not the package's file
        path.write_bytes(head + added + end + tail if end else content + added)


# Running


@contextmanager
def served(home: Path) -> Iterator[dict[str, str]]:
    """``athanor up`` over a home; yields the environment for runs beside it."""
    environment = os.environ | {"ATHANOR_HOME": str(home)}
    command = [str(Path(sys.executable).with_name("athanor")), "up"]
    with (home / "up.log").open("wb") as log:
        server = subprocess.Popen(command, cwd=home, env=environment, stdout=log, stderr=log)
        try:
            until = time.monotonic() + _PATIENCE_SECONDS
            while b"Ctrl-C" not in (home / "up.log").read_bytes():
                if server.poll() is not None or time.monotonic() > until:
                    raise RuntimeError(f"athanor up did not start: {(home / 'up.log').read_text()}")
                time.sleep(_POLL_SECONDS)
            yield environment
        finally:
            server.terminate()
            server.wait()


def run(recipe: Path, environment: dict[str, str], *options: str, before: Sequence[str] = ()) -> Run:
    """Run the recipe as a user would; ``before``: a command that runs the one behind it."""
    command = [*before, str(Path(sys.executable).with_name("athanor")), "run", str(recipe), "--json", *options]
    began = time.monotonic()
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) as process:
        peak = _Peak(process.pid)
        output, _ = process.communicate()
    seconds = time.monotonic() - began
    if process.returncode:
        raise RuntimeError(f"athanor run ended with {process.returncode}: {output.decode()[-2000:]}")
    return Run(seconds, peak.end(), json.loads(output))


class _Peak:
    """Watches how much memory a process and all below it hold together."""

    def __init__(self, process: int) -> None:
        self._process = psutil.Process(process)
        self._bytes = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def _watch(self) -> None:
        while not self._ended.wait(_POLL_SECONDS):
            with suppress(psutil.NoSuchProcess):
                tree = [self._process, *self._process.children(recursive=True)]
                self._bytes = max(self._bytes, sum(map(_proportional_bytes, tree)))

    def end(self) -> int:
        self._ended.set()
        self._thread.join()
        return self._bytes


def _proportional_bytes(process: psutil.Process) -> int:
    try:
        return int(process.memory_full_info().pss)
    except psutil.NoSuchProcess:
        return 0


# Tables


@dataclass(frozen=True)
class Size:
    """What was measured at one size."""

    megabytes: float
    pages: int
    full: Run
    unchanged: Run
    percent: Run
    hundred: Run


def measure_size(folder: Path, megabytes: float) -> Size:
    """All four runs over a corpus of this size, in a home of its own."""
    home = folder / "home"
    home.mkdir(parents=True)
    pages = lay_out(folder / "corpus", megabytes)
    recipe = folder / "scale.yaml"
    recipe.write_text(RECIPE)
    with served(home) as environment:
        full, unchanged = run(recipe, environment), run(recipe, environment)
        change(pages, max(1, len(pages) // 100), seed=1)
        percent = run(recipe, environment)
        change(pages, min(100, len(pages)), seed=2)
        hundred = run(recipe, environment)
    size = sum(path.stat().st_size for path in pages) / 1e6
    return Size(size, len(pages), full, unchanged, percent, hundred)


def tables(sizes: Sequence[Size]) -> list[Table]:
    """Time, memory and reuse by size, and where the time goes."""
    grown = [
        [
            f"{size.megabytes:,.0f}",
            f"{size.pages:,}",
            _seconds(size.full),
            _megabytes(size.full),
            _seconds(size.unchanged),
            _seconds(size.percent),
            f"{100 * size.percent.seconds / size.full.seconds:.1f} %",
            _megabytes(size.percent),
            _seconds(size.hundred),
            f"{size.percent.total('rows_reused'):,}",
        ]
        for size in sizes
    ]
    columns = ["HTML, MB", "pages", "whole, s", "peak, MB", "nothing changed, s", "1 % changed, s", "of the whole",
               "peak, MB", "100 changed, s", "rows reused after 1 %"]  # fmt: skip
    steps = [
        [f"{size.megabytes:,.0f}", what, *(f"{run.step(name):.1f}" for name in STEPS)]
        for size in sizes
        for what, run in (("whole", size.full), ("1 % changed", size.percent), ("100 changed", size.hundred))
    ]
    notes = [
        "Wall time of `athanor run` beside `athanor up` on the same machine, from the start of the command to its end; "
        "two workers. Peak memory is that of the command and all its processes, shared pages counted once; the servers "
        f"are not in it. HTML of {', '.join(PACKAGES)}, from files to token shards by way of clean_html, filter, "
        "scrub_pii, dedup and train_tokenizer. A changed page has one more paragraph."
    ]
    return [
        Table("As the corpus grows", columns, grown, notes),
        Table("Seconds by step", ["HTML, MB", "run", *STEPS], steps),
    ]


def _seconds(run: Run) -> str:
    return f"{run.seconds:.1f}"


def _megabytes(run: Run) -> str:
    return f"{run.peak / 1e6:,.0f}"


def main(times: Sequence[int]) -> None:
    """Measure the sizes named, or all, and write these down."""
    sizes = []
    for factor in times or TIMES:
        print(f"measuring {factor} × {MEGABYTES} MB …", file=sys.stderr, flush=True)
        # Beside the packages: hard links do not reach across disks.
        folder = Path(tempfile.mkdtemp(prefix="scale.", dir=CACHE))
        try:
            sizes.append(measure_size(folder, factor * MEGABYTES))
        finally:
            shutil.rmtree(folder)
        print(tables(sizes[-1:])[0].markdown(), flush=True)
    head = f"# As a corpus grows\n\nWritten by `make bench-scale` on {date.today():%Y-%m-%d}: {machine()}.\n"
    text = "\n".join([head, *(table.markdown() for table in tables(sizes))])
    RESULTS.write_text(text, encoding="utf-8")
    print(text, flush=True)


if __name__ == "__main__":
    main([int(argument) for argument in sys.argv[1:]])
