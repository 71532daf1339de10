"""How far a measurement is, and how long the rest will take, on standard error."""

from __future__ import annotations

import sys
import time


class Progress:
    """A part of ``make bench-train`` that consists of ``total`` units of work, of about equal time."""

    def __init__(self, part: str, total: float) -> None:
        self._part, self._total, self._done = part, total, 0.0
        self._began = time.monotonic()

    def did(self, what: str, amount: float = 1.0) -> None:
        """Say that ``amount`` units were done, and what they were."""
        self._done += amount
        passed = time.monotonic() - self._began
        left = passed / self._done * max(self._total - self._done, 0.0)
        print(
            f"{self._part}: {what}; {passed / 60:.1f} min so far, about {left / 60:.1f} min left",
            file=sys.stderr,
            flush=True,
        )
