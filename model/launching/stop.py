"""SIGTERM asks a run to write a checkpoint and end: machines that can be taken away send it beforehand."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

PLUMBING = "when a run ends has no influence on what it has learnt until then"


class StopRequest:
    """Notes SIGTERM, instead of ending the process, within its ``with`` block (in a main thread only)."""

    def __init__(self) -> None:
        self.asked = False
        self._before: Any = None

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGTERM, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
