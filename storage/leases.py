"""Leases: locks that several hosts hold through a store on object storage, where no file can be locked.

    leases/NAME/000007        who holds it: written once, and only if there was none
    leases/NAME/000007.beat   written again and again by a living holder
    leases/NAME/000007.end    written when it was given back

The highest number holds. A lease whose beat stands still for its whole time, by the clock of
whoever waits, has lost its holder, and whoever writes the next number first takes it over: a
conditional put lets one win. The former holder, should it only have slept, sees the higher number
(``Lease.check``) and must not commit. No clock is compared with another host's.
"""

from __future__ import annotations

import json
import os
import platform
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from storage.environment import number_from
from storage.errors import LeaseLost, StoreUnavailable
from storage.place import Place, Stat

PLUMBING = "who waits for whom cannot shape bytes"

DEFAULT_LEASE_SECONDS = 60.0
_BEATS_PER_LEASE = 4
_FORGOTTEN_SECONDS = 86_400.0
"""A lease that was given back, or lost its holder, this long ago is removed by the collector."""


def lease_seconds() -> float:
    """How long a silent holder keeps a lease: ``ATHANOR_LEASE_SECONDS``, 60 by default."""
    return number_from("ATHANOR_LEASE_SECONDS", DEFAULT_LEASE_SECONDS, 1, "give seconds, 1 or more (60 is usual)")


@dataclass(frozen=True)
class Held:
    """What a listing says of one lease."""

    number: int
    """The highest number; 0 if nobody ever held it."""
    ended: bool
    """Whether it was given back."""
    taken: float
    """When the highest number was written (seconds since 1970, by the store's clock)."""
    beat: float
    """When its holder was last heard of, by the store's clock."""

    @property
    def free(self) -> bool:
        return self.number == 0 or self.ended


class Lease:
    """One lease that this process holds; it beats in a thread of its own until ``give_back``."""

    def __init__(self, place: Place, name: str, number: int, seconds: float) -> None:
        self._place = place
        self._folder = f"leases/{name}"
        self._name = f"{self._folder}/{number:06}"
        self.number = number
        self._seconds = seconds
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat, name=f"lease-{name[:12]}", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Raises LeaseLost if somebody else has taken this process for dead, and the lease from it."""
        now = held(self._place.stats(self._folder))
        if now.number != self.number or now.ended:
            raise LeaseLost(
                f"{self._place.shown}/{self._folder}: another host took this over, since this one was not heard "
                f"of for {self._seconds:.0f} s; run again to go on from what that host makes"
            )

    def give_back(self) -> None:
        """Let the next one have it at once."""
        self._over.set()
        self._thread.join()
        try:
            self._place.write(f"{self._name}.end", b"")
        except StoreUnavailable:
            return  # then it ends by itself, when its time is over

    def _beat(self) -> None:
        count = 0
        while not self._over.wait(self._seconds / _BEATS_PER_LEASE):
            count += 1
            try:
                self._place.write(f"{self._name}.beat", str(count).encode())
            except StoreUnavailable:
                continue  # the build itself will meet it where it writes; until then it may pass


@contextmanager
def leased(
    place: Place,
    name: str,
    *,
    home: str,
    seconds: float | None = None,
    on_wait: Callable[[], None] | None = None,
) -> Iterator[Lease]:
    """Hold the lease ``name``, waiting for whoever holds it. ``on_wait`` is called once if somebody does.

    ``home`` identifies the folder whose lock on this name the caller holds: an earlier holder with
    the same one must be dead, and is not waited for.
    """
    lease = _acquire(place, name, home, seconds or lease_seconds(), on_wait)
    try:
        yield lease
    finally:
        lease.give_back()


def _acquire(place: Place, name: str, home: str, seconds: float, on_wait: Callable[[], None] | None) -> Lease:
    folder = f"leases/{name}"
    watch = Watch()
    while True:
        files = place.stats(folder)
        state = held(files)
        if not state.free:
            owner = _owner(place, f"{folder}/{state.number:06}")
            if owner.get("home") != home and not watch.silent(state, owner.get("seconds", seconds)):
                if on_wait:
                    on_wait()
                    on_wait = None
                time.sleep(_pause(seconds))
                continue
        if _take(place, f"{folder}/{state.number + 1:06}", home, seconds):
            for old in files:
                place.delete(f"{folder}/{old}")
            return Lease(place, name, state.number + 1, seconds)


def _take(place: Place, name: str, home: str, seconds: float) -> bool:
    """Whether this call is the one that wrote the file."""
    token = uuid.uuid4().hex
    record = {"host": platform.node(), "pid": os.getpid(), "home": home, "seconds": seconds, "token": token}
    if place.write(name, json.dumps(record).encode(), exclusive=True):
        return True
    return _owner(place, name).get("token") == token  # its answer may have been lost


def _owner(place: Place, name: str) -> dict[str, Any]:
    content = place.read(name)
    return dict(json.loads(content)) if content else {}


class Watch:
    """Sees, by its own clock, for how long a lease has not been heard of."""

    def __init__(self) -> None:
        self._seen: Held | None = None
        self._since = 0.0

    def silent(self, state: Held, seconds: float) -> bool:
        """Whether it has looked the same for ``seconds``."""
        if state != self._seen:
            self._seen, self._since = state, time.monotonic()
        return time.monotonic() - self._since > seconds


def held(files: Mapping[str, Stat]) -> Held:
    """The state of a lease, from the files in its folder."""
    numbers = [int(name) for name in files if name.isdigit()]
    if not numbers:
        return Held(0, False, 0.0, 0.0)
    name = f"{max(numbers):06}"
    taken = files[name].modified
    beat = files[f"{name}.beat"].modified if f"{name}.beat" in files else taken
    return Held(max(numbers), f"{name}.end" in files, taken, beat)


def wait_until_free(place: Place, name: str, on_wait: Callable[[], None] | None = None) -> None:
    """Wait while a living holder has the lease; one that has lost its holder is ended."""
    watch = Watch()
    seconds = lease_seconds()
    while not (state := held(place.stats(f"leases/{name}"))).free:
        if watch.silent(state, seconds):
            place.write(f"leases/{name}/{state.number:06}.end", b"")
            return
        if on_wait:
            on_wait()
            on_wait = None
        time.sleep(_pause(seconds))


def _pause(seconds: float) -> float:
    """Seconds between two looks at a lease of ``seconds``."""
    return min(max(seconds / 20, 0.1), 5.0)


def all_leases(place: Place) -> dict[str, Held]:
    """The state of every lease of a store."""
    folders: dict[str, dict[str, Stat]] = {}
    for path, file in place.stats("leases").items():
        name, _, rest = path.rpartition("/")
        folders.setdefault(name, {})[rest] = file
    return {name: held(files) for name, files in folders.items()}


def is_running(state: Held, now: float) -> bool:
    """Whether the holder may still be at work; ``now`` by the store's clock. Rather yes than no."""
    return not state.free and now - state.beat < 10 * lease_seconds()


def is_forgotten(state: Held, now: float) -> bool:
    """Whether nobody can be waiting for this lease any more, so that its files may go."""
    return not is_running(state, now) and now - state.beat > _FORGOTTEN_SECONDS
