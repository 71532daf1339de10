"""No more workers than memory holds, and a partition whose worker ran out of it is tried again with fewer."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.limited import NoControlGroup, control_group
from tasks.engines import local as local_module
from tasks.engines.local import LocalEngine
from tasks.engines.memory import available_bytes

ROOT = Path(__file__).parents[3]
GIB = 2**30


def _proc(folder: Path, available: int, cgroup: str) -> Path:
    (folder / "self").mkdir(parents=True)
    (folder / "meminfo").write_text(f"MemTotal: 99 kB\nMemAvailable: {available // 1024} kB\n")
    (folder / "self" / "cgroup").write_text(cgroup)
    return folder


def test_the_least_of_machine_and_cgroups_counts_and_the_file_cache_is_free(tmp_path: Path) -> None:
    proc = _proc(tmp_path / "proc", 8 * GIB, "0::/outer/inner\n")
    for name, limit, used, cache in (("outer", f"{4 * GIB}", 3 * GIB, GIB), ("outer/inner", "max", GIB, 0)):
        folder = tmp_path / "cgroup" / name
        folder.mkdir(parents=True)
        (folder / "memory.max").write_text(f"{limit}\n")
        (folder / "memory.current").write_text(f"{used}\n")
        (folder / "memory.stat").write_text(f"anon 1\ninactive_file {cache}\n")
    assert available_bytes(proc, tmp_path / "cgroup") == 2 * GIB


def test_version_1_of_cgroups(tmp_path: Path) -> None:
    proc = _proc(tmp_path / "proc", 8 * GIB, "5:cpu:/x\n4:memory:/job\n0::/\n")
    folder = tmp_path / "cgroup" / "memory" / "job"
    folder.mkdir(parents=True)
    (folder / "memory.limit_in_bytes").write_text(f"{3 * GIB}\n")
    (folder / "memory.usage_in_bytes").write_text(f"{GIB}\n")
    (folder / "memory.stat").write_text("total_inactive_file 0\n")
    assert available_bytes(proc, tmp_path / "cgroup") == 2 * GIB
    (folder / "memory.limit_in_bytes").write_text("9223372036854771712\n")
    assert available_bytes(proc, tmp_path / "cgroup") == 8 * GIB


def test_where_nothing_is_known_nothing_is_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert available_bytes(tmp_path / "no-proc", tmp_path) is None
    monkeypatch.setattr(local_module, "_rooms", [None])
    assert LocalEngine(4, 10 * GIB).slots() == 8


def test_workers_are_as_many_as_fit_and_never_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_module, "_rooms", [2 * GIB])
    assert LocalEngine(8, 50_000_000).slots() == 3
    assert LocalEngine(8, 10 * GIB).slots() == 1
    engine = LocalEngine(2, 1000)
    assert engine.slots() == 4, "one waits for each worker"
    engine.shrink()
    assert engine.slots() == 1


@pytest.fixture
def cgroup() -> Iterator[Path]:
    """A control group of this test's own that may take 1.2 GB."""
    try:
        with control_group(1_200_000_000) as folder:
            yield folder
    except NoControlGroup as error:
        pytest.skip(str(error))


GREEDY = textwrap.dedent("""
    import json, os, sys
    from pathlib import Path
    Path(sys.argv[2], "cgroup.procs").write_text(str(os.getpid()))
    from tasks.engines import local
    from tasks.task import Resources
    from tests.tasks.test_parallel import _context, _partitions, greedy
    if __name__ == "__main__":
        folder = Path(sys.argv[1])
        local._rooms.append(None)  # as if nothing had been foreseen
        partitions = _partitions(folder / "in", [[f"{n}", "x"] for n in range(6)])
        context = _context(folder, resources=Resources(workers=3))
        payload = {"log": str(folder / "log"), "bytes": 450_000_000, "together": 3}
        results = context.map_partitions(greedy, payload, partitions)
        print(json.dumps([result.stats["words"] for result in results]))
""")


@pytest.mark.slow
def test_a_partition_whose_worker_was_killed_for_want_of_memory_is_tried_again(tmp_path: Path, cgroup: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(GREEDY)
    done = subprocess.run(
        [sys.executable, str(program), str(tmp_path), str(cgroup)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        timeout=1200,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [2] * 6
    attempts = (tmp_path / "log").read_text().split()
    assert len(attempts) > 6, "nothing was killed, so nothing was shown"
