"""Python runs this before anything else in processes whose PYTHONPATH names its folder (see ``tests.model.trouble``).

What is asked for by ``ATHANOR_TROUBLES`` happens to the real training processes, started in the real way.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import json
import os
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

ASKED = json.loads(os.environ.get("ATHANOR_TROUBLES", "{}"))
"""``pauses``: step → file; after it is recorded, the first process waits until the file is there, or SIGTERM has come.
``nan``: steps at which the loss of the last process is no number."""


class Finder(importlib.abc.MetaPathFinder):
    """Changes ``model.loop`` as soon as it is imported."""

    def find_spec(self, name: str, path: Any, target: ModuleType | None = None) -> Any:
        if name != "model.loop":
            return None
        sys.meta_path.remove(self)
        found = importlib.machinery.PathFinder.find_spec(name, path)
        assert found is not None
        assert found.loader is not None
        execute = found.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            execute(module)
            change(module.Loop)

        found.loader.exec_module = exec_module  # type: ignore[method-assign]
        return found


def change(loop: Any) -> None:
    record, step_of = loop._record, loop._step

    def recorded(self: Any, step: int, *rest: Any) -> None:
        record(self, step, *rest)
        gate = ASKED.get("pauses", {}).get(str(step))
        while gate is not None and self.engine.rank == 0 and not (Path(gate).exists() or self._saver._stop.asked):
            time.sleep(0.02)

    def stepped(self: Any, step: int, batches: Any) -> Any:
        plain = self.objective
        if step in ASKED.get("nan", []) and self.engine.rank == self.engine.processes - 1:
            self.objective = Spoilt(plain)
        try:
            return step_of(self, step, batches)
        finally:
            self.objective = plain

    loop._record, loop._step = recorded, stepped


class Spoilt:
    """An objective whose losses are no numbers."""

    def __init__(self, objective: Any) -> None:
        self.prepare, self.counts, self._losses = objective.prepare, objective.counts, objective.losses

    def losses(self, network: Any, batch: Any) -> list[Any]:
        return [replace(term, summed=term.summed * float("nan")) for term in self._losses(network, batch)]


if ASKED:
    sys.meta_path.insert(0, Finder())
