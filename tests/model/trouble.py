"""Trouble for real training processes: they are made to wait at a step, or to find a loss that is no number.

A test acts while a run waits at a gate, so that nothing depends on who is faster.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path

from model.request import Request
from tests.model.training import ROOT, until

PATIENCE = 600.0
"""Seconds that a loaded machine may need for what takes a quiet one ten."""


class Gates:
    """Steps after which a run waits, until the gate is opened; the same gate does not close again."""

    def __init__(self, folder: Path, *steps: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._places = {step: folder / f"gate-{step}" for step in steps}

    def open(self, step: int) -> None:
        self._places[step].touch()

    def reached(self, described: Request, step: int) -> None:
        """Wait until the run waits there."""
        file = described.run.metrics_file
        until(lambda: file.exists() and f'"step": {step},' in file.read_text(), PATIENCE, f"step {step}")

    def environment(self, nan: Iterable[int] = ()) -> dict[str, str]:
        """Variables for the process that starts the run."""
        asked = {"pauses": {str(step): str(place) for step, place in self._places.items()}, "nan": list(nan)}
        path = [str(Path(__file__).parent / "troubles"), str(ROOT), os.environ.get("PYTHONPATH", "")]
        return {"ATHANOR_TROUBLES": json.dumps(asked), "PYTHONPATH": os.pathsep.join(path)}
