"""What the training processes of a host are started with."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from model.launching import host
from model.request import Run

KEPT = "MALLOC_TRIM_THRESHOLD_"
HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")
HUGE_AREAS = """
import ctypes, pathlib
place = ctypes.CDLL(None).malloc
place.restype = ctypes.c_void_p
address = place(ctypes.c_size_t(256 << 20)) + (128 << 20)
found = False
for line in pathlib.Path("/proc/self/smaps").read_text().splitlines():
    name, _, rest = line.partition(" ")
    if not name.endswith(":"):
        first, last = (int(end, 16) for end in name.split("-"))
        found = first <= address < last
    elif found and name == "VmFlags:":
        print("hg" in rest.split())
"""
"""Whether the kernel is asked for huge pages where a large buffer lies."""


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(scratch=tmp_path, metrics_file=tmp_path / "metrics", output=tmp_path / "model", processes=2)


def test_processes_share_the_cores(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(host, "_processors", lambda: 8)
    assert host.environment(run, 0)["OMP_NUM_THREADS"] == "4"
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert host.environment(run, 0)["OMP_NUM_THREADS"] == "3"


def test_buffers_are_kept_where_they_are_in_the_hosts_memory(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(KEPT, raising=False)
    assert int(host.environment(run, 0)[KEPT]) > 1 << 30
    assert KEPT not in host.environment(run.model_copy(update={"device": "cuda"}), 0)
    monkeypatch.setenv(KEPT, "1000")  # what the user has set stays
    assert KEPT not in host.environment(run, 0)


@pytest.mark.skipif(
    not HUGE_PAGES.exists() or "[madvise]" not in HUGE_PAGES.read_text("ascii"),
    reason="the kernel does not wait to be asked for huge pages",
)
@pytest.mark.skipif(
    tuple(map(int, re.findall(r"\d+", os.confstr("CS_GNU_LIBC_VERSION") or "0"))) < (2, 35), reason="of glibc 2.35"
)
def test_large_buffers_lie_in_huge_pages(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    told = [
        subprocess.run([sys.executable, "-c", HUGE_AREAS], env=given, capture_output=True, text=True, check=True).stdout
        for given in (dict(os.environ), os.environ | host.environment(run, 0))
    ]
    assert told == ["False\n", "True\n"]


def test_the_compiler_is_there_where_it_is_asked_for_alone(run: Run, tmp_path: Path) -> None:
    assert host.everywhere(run)["TORCHDYNAMO_DISABLE"] == "1"
    compiles = host.everywhere(run.model_copy(update={"compile": True, "compiled": tmp_path / "kept"}))
    assert compiles["TORCHDYNAMO_DISABLE"] == "0"
    elsewhere = host.everywhere(run.model_copy(update={"compile": True}))
    folders = [Path(values["TORCHINDUCTOR_CACHE_DIR"]) for values in (compiles, elsewhere)]
    assert [folder.parent for folder in folders] == [tmp_path / "kept", run.scratch / "compiled"]
    assert folders[0].name == folders[1].name  # of the processor
