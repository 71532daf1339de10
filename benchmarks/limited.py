"""``python -m benchmarks.limited MEGABYTES LIMIT``: every data step on so much HTML, within LIMIT megabytes of memory.

Each step is a run of its own in a control group (Linux, root) that may take no more than LIMIT; ``athanor up`` runs
outside it. Pages beyond those that Debian's packages hold are the same ones in other words. Writes
``benchmarks/results/limited.md``.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import string
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import date
from pathlib import Path

from benchmarks.corpora import CACHE
from benchmarks.measure import Table, machine
from benchmarks.runs import Run, run, served
from benchmarks.scale import RECIPE, STEPS, lay_out

MEGABYTES, LIMIT = 5_000.0, 2_000.0
RESULTS = Path(__file__).parent / "results" / "limited.md"
_TEXT = re.compile(rb">[^<]+<")
_ENTER = 'echo $$ > "$0" && exec "$@"'
"""Shell: go into the control group, then become the command."""
_PATIENCE_SECONDS = 60.0


class NoControlGroup(Exception):
    """This machine, or this user, cannot make one."""


@contextmanager
def control_group(limit: int) -> Iterator[Path]:
    """The folder of a control group, of version 1 or 2, whose processes may take so many bytes together.

    Raises NoControlGroup. Processes that are left in it at the end are killed.
    """
    lines = Path("/proc/self/cgroup").read_text().splitlines() if Path("/proc/self/cgroup").exists() else []
    old = any(":memory:" in line for line in lines)
    folder = Path("/sys/fs/cgroup/memory" if old else "/sys/fs/cgroup") / f"athanor-{os.getpid()}-{time.monotonic_ns()}"
    try:
        folder.mkdir()
        (folder / ("memory.limit_in_bytes" if old else "memory.max")).write_text(str(limit))
        if (folder / "memory.swap.max").exists():
            (folder / "memory.swap.max").write_text("0")
    except OSError as error:
        if folder.exists():
            _remove(folder)
        raise NoControlGroup(f"no control group can be made here: {error}") from error
    try:
        yield folder
    finally:
        _remove(folder)


def _remove(folder: Path) -> None:
    """Remove a control group; a process that was killed stays in it until the kernel has taken back its memory."""
    until = time.monotonic() + _PATIENCE_SECONDS
    while True:
        for pid in (folder / "cgroup.procs").read_text().split():
            with suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        try:
            return folder.rmdir()
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.1)


def killed_in(group: Path) -> int:
    """How many processes of a control group were killed for want of memory."""
    for name in ("memory.events", "memory.oom_control"):
        if (group / name).exists():
            counts = dict(line.split() for line in (group / name).read_text().splitlines())
            return int(counts["oom_kill"])
    raise NoControlGroup(f"{group}: it does not say what was killed")


def lay_out_more(folder: Path, megabytes: float) -> tuple[int, float]:
    """So much HTML: that of the packages, then the same in other words as often as is needed. Pages and megabytes."""
    pages, size = 0, 0.0
    for turn in range(sys.maxsize):
        laid = lay_out(folder / f"{turn}", megabytes - size)
        for path in laid if turn else ():
            content = path.read_bytes()
            path.unlink()  # the link, not the package's file
            path.write_bytes(in_other_words(content, turn))
        pages += len(laid)
        size += sum(path.stat().st_size for path in laid) / 1e6
        # What is left is less than the next page.
        if not laid or size > 0.999 * megabytes:
            break
    return pages, size


def in_other_words(page: bytes, turn: int) -> bytes:
    """The page with the letters outside its tags exchanged, so that it is no copy."""
    letters = string.ascii_lowercase.encode()
    exchanged = bytes(random.Random(turn).sample(letters, len(letters)))
    table = bytes.maketrans(letters, exchanged)
    return _TEXT.sub(lambda found: found[0].translate(table), page)


def measure(folder: Path, megabytes: float, limit: float) -> Table:
    """Run step after step, each in a control group of its own."""
    home = folder / "home"
    home.mkdir(parents=True)
    pages, size = lay_out_more(folder / "corpus", megabytes)
    recipe = folder / "scale.yaml"
    recipe.write_text(RECIPE)
    rows = []
    with served(home) as environment:
        for step in STEPS:
            with control_group(int(limit * 1e6)) as group:
                enter = ("sh", "-c", _ENTER, str(group / "cgroup.procs"))
                made = run(recipe, environment, "--until", step, before=enter)
                rows.append([step, *_row(made, step, group)])
            print(" | ".join(rows[-1]), file=sys.stderr, flush=True)
    columns = ["step", "seconds", "peak, MB", "killed for want of memory"]
    note = (
        f"{size:,.0f} MB of HTML, {pages:,} pages; every step of the recipe of `make bench-scale` is a run of its own "
        f"in a control group that may take {limit:,.0f} MB, beside `athanor up`. Peak memory is that of the run and "
        "all its processes, shared pages counted once; the group's cache of files is not in it."
    )
    return Table(f"Every data step within {limit:,.0f} MB", columns, rows, [note])


def _row(made: Run, step: str, group: Path) -> list[str]:
    return [f"{made.step(step):.1f}", f"{made.peak / 1e6:,.0f}", f"{killed_in(group)}"]


def main(megabytes: float = MEGABYTES, limit: float = LIMIT) -> None:
    """Measure, and write it down."""
    # Beside the packages: hard links do not reach across disks.
    folder = Path(tempfile.mkdtemp(prefix="limited.", dir=CACHE))
    try:
        table = measure(folder, megabytes, limit)
    finally:
        shutil.rmtree(folder)
    head = f"# In little memory\n\nWritten by `python -m benchmarks.limited` on {date.today():%Y-%m-%d}: {machine()}.\n"
    text = f"{head}\n{table.markdown()}"
    RESULTS.write_text(text, encoding="utf-8")
    print(text, flush=True)


if __name__ == "__main__":
    main(*map(float, sys.argv[1:]))
