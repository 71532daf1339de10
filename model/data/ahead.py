"""Reading ahead: what the next step needs is made while the present one is worked on."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

PLUMBING = "it makes the same things in the same order, only earlier"

T = TypeVar("T")


class Ahead(Generic[T]):
    """``make(number)`` for each of consecutive numbers, in a thread and one ahead; closed by ``with``."""

    def __init__(self, make: Callable[[int], T], numbers: range) -> None:
        self._make, self._numbers = make, numbers
        self._thread = ThreadPoolExecutor(1, "reading ahead")
        self._next: Future[T] | None = self._begun(numbers.start)
        self.waited = 0.0
        """Seconds that ``take`` has waited so far."""

    def _begun(self, number: int) -> Future[T] | None:
        return self._thread.submit(self._make, number) if number in self._numbers else None

    def take(self, number: int) -> T:
        """What was made for the next number; begins with the one after it. Raises what ``make`` raised."""
        assert self._next is not None, f"{number} is beyond the end"
        began = time.monotonic()
        made = self._next.result()
        self.waited += time.monotonic() - began
        self._next = self._begun(number + 1)
        return made

    def __enter__(self) -> Ahead[T]:
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.shutdown(cancel_futures=True)
