"""What the training processes of a host are started with."""

from __future__ import annotations

from pathlib import Path

import pytest

from model.launching import host
from model.request import Run

KEPT = "MALLOC_TRIM_THRESHOLD_"


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
