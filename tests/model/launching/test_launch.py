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


def test_it_is_told_where_a_training_begins_and_when_its_network_is_compiled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "_POLL_SECONDS", 0.0)
    run = Run(scratch=tmp_path, metrics_file=tmp_path / "metrics", output=tmp_path / "model", compile=True)

    def row(step: int) -> None:
        with run.metrics_file.open("a", encoding="utf-8") as metrics:
            metrics.write(json.dumps({"step": step, "tokens": 8 * step, "loss": 2.0}) + "\n")

    acted = Acted(
        lambda: row(3),
        lambda: (tmp_path / "plan.json").write_text(json.dumps({"tokens": 80, "begun": 24, "begun_step": 3})),
        (tmp_path / COMPILING).touch,
        (tmp_path / COMPILING).unlink,
        lambda: row(4),
        lambda: row(5),
    )
    told: list[tuple[int, str, int]] = []

    def progress(done: int, total: int | None, unit: str, note: str = "", begun: int = 0) -> None:
        assert (total, unit) == (80, "tokens")
        told.append((done, note, begun))

    assert launch._watch(acted, run, progress) == 0  # type: ignore[arg-type]
    # The rate is that of the steps behind the first, and what an earlier run did is no part of it.
    expected = [(24, "", 24), (24, "compiling the network", 24), (32, "loss 2.000", 32), (40, "loss 2.000", 32)]
    assert told == expected
