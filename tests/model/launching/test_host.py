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


def test_the_compiler_is_there_where_it_is_asked_for_alone(run: Run, tmp_path: Path) -> None:
    assert host.everywhere(run)["TORCHDYNAMO_DISABLE"] == "1"
    compiles = host.everywhere(run.model_copy(update={"compile": True, "compiled": tmp_path / "kept"}))
    assert compiles["TORCHDYNAMO_DISABLE"] == "0"
    elsewhere = host.everywhere(run.model_copy(update={"compile": True}))
    folders = [Path(values["TORCHINDUCTOR_CACHE_DIR"]) for values in (compiles, elsewhere)]
    assert [folder.parent for folder in folders] == [tmp_path / "kept", run.scratch / "compiled"]
    assert folders[0].name == folders[1].name  # of the processor
