"""``make bench-scale``: time and peak memory as a corpus grows, built whole and refreshed, beside a running server.

HTML documentation from Debian's packages goes through every data step, from collecting to token shards, at 1, 2, 4 and
8 times a size, and at a twelfth of it. At each size: the first build, a run with nothing changed, a refresh after 1 %
of the pages changed, and one after a hundred did. Writes ``benchmarks/results/scale.md``.
"""

from __future__ import annotations

import os
import random
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from benchmarks.corpora import CACHE, html_files
from benchmarks.measure import Table, machine
from benchmarks.runs import Run, run, served
from flows.home import Home

PACKAGES = (
    *("rust-doc", "cppreference-doc-en-html", "debian-handbook", "libboost1.74-doc", "python3.11-doc"),
    *("python-django-doc", "sqlite3-doc", "postgresql-doc-15", "apache2-doc", "libreoffice-help-zh-cn"),
    *("installation-guide-amd64", "python-scipy-doc"),
)
MEGABYTES = 125
"""Of HTML, at the smallest size."""
TIMES = (0.08, 1, 2, 4, 8)
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
    written: Mapping[str, tuple[int, int]]
    """Step → files and bytes of what the first build made of it."""
    homes: tuple[tuple[int, int], tuple[int, int]]
    """Files and bytes of everything the home holds, after the first build and after the last."""


def measure_size(folder: Path, megabytes: float) -> Size:
    """All four runs over a corpus of this size, in a home of its own."""
    home = folder / "home"
    home.mkdir(parents=True)
    pages = lay_out(folder / "corpus", megabytes)
    recipe = folder / "scale.yaml"
    recipe.write_text(RECIPE)
    with served(home) as environment:
        full = run(recipe, environment)
        written, first = _written(Home(home), full), _files_below(home)
        unchanged = run(recipe, environment)
        change(pages, max(1, len(pages) // 100), seed=1)
        percent = run(recipe, environment)
        change(pages, min(100, len(pages)), seed=2)
        hundred = run(recipe, environment)
    size = sum(path.stat().st_size for path in pages) / 1e6
    return Size(size, len(pages), full, unchanged, percent, hundred, written, (first, _files_below(home)))


def _written(home: Home, made: Run) -> dict[str, tuple[int, int]]:
    store = home.open_store()
    manifests = {name: store.manifest(made.report["steps"][name]["artifact"]) for name in STEPS}
    return {name: (len(manifest.files), manifest.bytes) for name, manifest in manifests.items()}


def _files_below(folder: Path) -> tuple[int, int]:
    sizes = [path.lstat().st_size for path in folder.rglob("*") if not path.is_dir() or path.is_symlink()]
    return len(sizes), sum(sizes)


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
        Table(
            "Peak memory and what is written, by step",
            ["HTML, MB", "of the whole", *STEPS, "the home", "refreshed"],
            _amounts(sizes),
            [
                "Peak memory while a step is built; a step too short to be looked at has none. Files "
                "and MB are those of its artifact; the home holds the store, what is remembered for refreshes and "
                "both databases: after the first build, and after the three refreshes."
            ],
        ),
    ]


def _amounts(sizes: Sequence[Size]) -> list[list[str]]:
    rows = []
    for size in sizes:
        peaks = [f"{size.full.peaks[name] / 1e6:,.0f}" if name in size.full.peaks else "" for name in STEPS]
        files = [f"{size.written[name][0]:,}" for name in STEPS] + [f"{files:,}" for files, _ in size.homes]
        written = [size.written[name][1] for name in STEPS] + [length for _, length in size.homes]
        rows += [[f"{size.megabytes:,.0f}", "peak, MB", *peaks, "", ""]]
        rows += [[f"{size.megabytes:,.0f}", "files", *files]]
        rows += [[f"{size.megabytes:,.0f}", "MB", *(f"{length / 1e6:,.1f}" for length in written)]]
    return rows


def _seconds(run: Run) -> str:
    return f"{run.seconds:.1f}"


def _megabytes(run: Run) -> str:
    return f"{run.peak / 1e6:,.0f}"


def main(times: Sequence[float]) -> None:
    """Measure the sizes named, or all, and write these down."""
    sizes = []
    for factor in times or TIMES:
        print(f"measuring {factor:g} × {MEGABYTES} MB …", file=sys.stderr, flush=True)
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
    main([float(argument) for argument in sys.argv[1:]])
