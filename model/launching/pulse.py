"""Hosts of a run tell each other that they are there, so that one that is cut off is noticed.

A host whose processes end closes its connections, which the others see at once. One that is cut
off, or whose machine stops, says nothing: the others would wait in a collective for half an hour.
So a process of each host counts up in the rendezvous' store, and looks at the others' counts.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from types import TracebackType

from torch.distributed import DistError, TCPStore  # type: ignore[attr-defined]  # left out of its __all__

from model.launching.hosts import Hosts

_BEATS = 6
"""Of a host in the time after which it counts as lost."""


class Pulse:
    """Tells the other hosts of this one while its ``with`` block lasts, and calls ``lost`` if one falls silent.

    ``lost`` is called with a message, on a thread of its own. Does nothing in processes that are not
    the first of their host.
    """

    def __init__(self, hosts: Hosts | None, lost: Callable[[str], None]) -> None:
        # Ray watches its nodes itself.
        self._active = hosts is not None and hosts.launcher != "ray" and os.environ.get("LOCAL_RANK") == "0"
        if hosts is None or not self._active:
            return
        self._number = int(os.environ["GROUP_RANK"])
        self._count = int(os.environ["GROUP_WORLD_SIZE"])
        self._silence, self._join, self._lost = hosts.silence_seconds, hosts.join_seconds, lost
        self._heard: dict[int, float] = {}
        """When each host was last heard from, on this host's clock."""
        self._names = {self._number: socket.gethostname()}
        self._ended = threading.Event()

    def __enter__(self) -> None:
        if self._active:
            # A host that is still on its way has as long as hosts have to join.
            first = time.monotonic() + self._join
            # The first host hears all others, and each of them the first: the store is there.
            self._heard = dict.fromkeys(range(self._count) if self._number == 0 else [0], first)
            self._heard.pop(self._number, None)
            threading.Thread(target=self._beat, daemon=True).start()
            threading.Thread(target=self._watch, daemon=True).start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._active:
            self._ended.set()

    def _beat(self) -> None:
        """Count up, and note whose count has risen. A store that cannot be reached blocks here, or fails."""
        counts: dict[int, int] = {}
        try:
            address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
            store = TCPStore(address, port, is_master=False, timeout=timedelta(seconds=self._silence))
            store.set(f"pulse/{self._number}/name", socket.gethostname())
            while not self._ended.wait(self._silence / _BEATS):
                store.add(f"pulse/{self._number}", 1)
                for other in self._heard:
                    count = store.add(f"pulse/{other}", 0)
                    if count != counts.get(other):
                        counts[other], self._heard[other] = count, time.monotonic()
                    if count and other not in self._names:
                        self._names[other] = store.get(f"pulse/{other}/name").decode()
        except (DistError, RuntimeError):
            return  # the others are not heard any more, which the watch tells

    def _watch(self) -> None:
        while not self._ended.wait(self._silence / _BEATS):
            for other, heard in self._heard.items():
                if time.monotonic() - heard > self._silence:
                    name = f" ({self._names[other]})" if other in self._names else ""
                    self._lost(f"host {other}{name} was not heard from for {self._silence:g} s")
                    return
