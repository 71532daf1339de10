"""What is told of a run while it goes on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from model.launching import launch
from model.request import COMPILING, Run


class Acted:
    """Processes that do one thing after the other, each time somebody asks for their status, and end."""

    def __init__(self, *acts: Callable[[], Any]) -> None:
        self._acts = list(acts)

    @property
    def status(self) -> int | None:
        if not self._acts:
            return 0
        self._acts.pop(0)()
        return None


def test_it_is_told_when_a_network_is_compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "_POLL_SECONDS", 0.0)
    run = Run(scratch=tmp_path, metrics_file=tmp_path / "metrics", output=tmp_path / "model", compile=True)
    acted = Acted(
        lambda: (tmp_path / "plan.json").write_text(json.dumps({"tokens": 80})),
        (tmp_path / COMPILING).touch,
        (tmp_path / COMPILING).unlink,
        lambda: run.metrics_file.write_text(json.dumps({"step": 1, "tokens": 8, "loss": 2.0}) + "\n"),
    )
    told: list[tuple[Any, ...]] = []
    assert launch._watch(acted, run, lambda *said: told.append(said)) == 0  # type: ignore[arg-type]
    assert told == [(0, 80, "tokens", "compiling the network"), (8, 80, "tokens", "loss 2.000")]
