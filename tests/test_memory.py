"""A corpus eight times as large takes no more memory in any data step: what is held is a partition."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES, KILOBYTES, TIMES = 400, 20.0, 8
MAY_GROW = (TIMES - 1) * PAGES * KILOBYTES * 1000 / 2
"""Bytes: half of what a step would hold more that read the whole corpus; more than what is held per page, and twice
by how much the same step's peak was seen to differ from run to run (16 MB, by when freed memory is given back)."""


def peaks(folder: Path, pages: int) -> dict[str, tuple[int, int]]:
    """Step → peaks of the parent and of its workers, measured in a process that has done nothing else."""
    command = [sys.executable, "-m", "tests.memory", str(pages), str(KILOBYTES), str(folder)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, timeout=1800)
    assert done.returncode == 0, done.stderr
    found: dict[str, tuple[int, int]] = json.loads(done.stdout)
    return found


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peaks of memory are read from Linux's /proc")
def test_memory_is_bounded_by_the_partition_not_by_the_corpus(tmp_path: Path) -> None:
    small, large = peaks(tmp_path / "small", PAGES), peaks(tmp_path / "large", TIMES * PAGES)
    more = {step: [after - before for before, after in zip(small[step], large[step], strict=True)] for step in small}
    assert {step: grown for step, grown in more.items() if max(grown) > MAY_GROW} == {}
