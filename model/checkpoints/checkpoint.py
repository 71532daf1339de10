"""Checkpoints: what a killed run continues from, bit for bit.

A checkpoint is a folder ``step-000000120`` with a part of every process (see ``model.checkpoints.part_file``)
and ``checkpoint.json``, the manifest, with the digests of the parts. A process writes its part in a
thread, from host copies, while training goes on; one checkpoint is under way at most. Once all parts
are on the disk, the first process writes the manifest beside its place, flushes and renames it, and
only then does the checkpoint count: a kill at any moment leaves the ones before. The folder must be
one that all processes see.

A checkpoint that cannot be written (a full disk) is left out and told of: what is trained does not
depend on it, and stopping would lose more than going on with the one before. A run that never
managed to write one has nothing to fall back on, and fails while little is lost.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch.distributed as dist

from model.checkpoints.part_file import Part, Parts, Written, write_part
from storage.disk import flush
from storage.errors import StoreUnavailable, UserError
from storage.identity import digest_of_file, digest_of_value

MANIFEST = "checkpoint.json"
_PART = "part-{rank:04}-of-{processes:04}.safetensors"
_KEPT = 2
_PATIENCE = 3
"""So many failures in a row, with no checkpoint at all, end the run."""


@dataclass(frozen=True)
class About:
    """What is kept of a moment beside tensors; the same on every process."""

    step: int
    loss: float
    """Of the step, nats per predicted token: what a run that resumes at its very end reports."""
    numbers: Mapping[str, float] = field(default_factory=dict)
    """The optimiser's, see ``model.checkpoints.state.numbers_of``."""
    memory: Mapping[str, Any] = field(default_factory=dict)
    """Whatever else the loop must know again, as JSON."""


@dataclass(frozen=True)
class Checkpoint:
    """A whole checkpoint, independent of the number of processes and of the ZeRO stage."""

    about: About
    parts: Parts


class Checkpoints:
    """The checkpoints of one run, in one folder. All processes must call the same methods in the same order."""

    def __init__(self, folder: Path, identity: str, kept: int = _KEPT) -> None:
        self._folder, self._identity, self._kept = folder, identity, kept
        joined = dist.is_initialized()
        self._rank, self._processes = (dist.get_rank(), dist.get_world_size()) if joined else (0, 1)
        self._thread = ThreadPoolExecutor(1, "checkpoint")
        self._writing: tuple[About, Future[Written]] | None = None
        self.newest: int | None = None
        """Step of the newest whole checkpoint; None if there is none."""
        self.failures = 0
        """Checkpoints of this process's life that could not be written."""

    # ---- writing ----

    @property
    def under_way(self) -> bool:
        """Whether a checkpoint has been begun and not settled; the same on every process."""
        return self._writing is not None

    @property
    def busy(self) -> bool:
        """Whether this process still writes its part."""
        return self._writing is not None and not self._writing[1].done()

    def begin(self, part: Part, about: About) -> None:
        """Write this process's part in the background; ``part`` must stay untouched until it is settled."""
        assert self._writing is None, "one checkpoint is under way at most"
        place = self._place(about.step)
        if self._rank == 0:
            (place / MANIFEST).unlink(missing_ok=True)  # of a damaged one, whose step is done again
        path = place / _PART.format(rank=self._rank, processes=self._processes)
        self._writing = about, self._thread.submit(_write, path, part)

    def settle(self) -> None:
        """Make the checkpoint that is under way count, once every process has written its part; waits for them.

        Raises StoreUnavailable if one after the other failed, and there is none to continue from.
        """
        if self._writing is None:
            return
        about, future = self._writing
        mine = future.exception() or future.result()
        told = _from_all(mine if isinstance(mine, Written) else f"process {self._rank}: {_in_short(mine)}")
        failure = next((one for one in told if isinstance(one, str)), None)
        if failure is None and self._rank == 0:
            failure = self._commit(about, told)
        failure = _from_all(failure)[0]
        self._writing = None
        if failure is None:
            self.newest = about.step
            self._forget(self._kept)
        else:
            self._failed(about.step, failure)

    def in_background(self, step: int, use: Callable[[int, Path], None]) -> None:
        """Have the first process use the folder of the whole checkpoint of ``step``, before it can be deleted."""
        if self._rank == 0:
            self._thread.submit(use, step, self._place(step))

    def at_once(self, step: int, use: Callable[[int, Path], None]) -> str | None:
        """Have the first process use the folder of the whole checkpoint of ``step``, and wait; all must call it.

        Returns what its disk refused, the same on every process, or None.
        """
        failure = None
        if self._rank == 0:
            try:
                use(step, self._place(step))
            except OSError as error:
                failure = _in_short(error)
        refused: str | None = _from_all(failure)[0]
        return refused

    def close(self) -> None:
        """Wait for all that is done in the background."""
        self._thread.shutdown()

    def _commit(self, about: About, written: list[Written]) -> str | None:
        """Write the manifest; what went wrong, if something did."""
        place = self._place(about.step)
        _delete([later for later in self._places() if later > place])  # they were refused
        names = [_PART.format(rank=rank, processes=self._processes) for rank in range(self._processes)]
        parts = {name: {"digest": part.digest, "bytes": part.bytes} for name, part in zip(names, written, strict=True)}
        described = {
            "identity": self._identity,
            "step": about.step,
            "loss": about.loss,
            "numbers": dict(about.numbers),
            "memory": dict(about.memory),
            "parts": parts,
        }
        beside = place / f".{MANIFEST}"
        try:
            content = {"about": described, "digest": digest_of_value(described)}
            beside.write_text(json.dumps(content, indent=1), encoding="utf-8")
            flush(beside)
            flush(place)
            beside.rename(place / MANIFEST)
            flush(place)
            flush(self._folder)
        except OSError as error:
            return _in_short(error)
        return None

    def _failed(self, step: int, failure: str) -> None:
        """Tell of a checkpoint that could not be written, and make room for the next."""
        self.failures += 1
        if self._rank == 0:
            shutil.rmtree(self._place(step), ignore_errors=True)
        self._forget(1)
        self.say(f"step {step}: no checkpoint could be written ({failure}); training goes on with the one before")
        if self.newest is None and self.failures >= _PATIENCE:
            raise StoreUnavailable(
                f"{self._folder}: no checkpoint could be written in {self.failures} tries ({failure}): "
                "a kill would lose the whole run; free some space and run again"
            )

    def _forget(self, kept: int) -> None:
        """Delete all but the newest whole checkpoints, behind the training's back."""
        if self._rank == 0:
            self._thread.submit(_delete, [place for place in self._places() if (place / MANIFEST).is_file()][:-kept])

    def say(self, text: str) -> None:
        """A line in the run's log."""
        if self._rank == 0:
            with suppress(OSError):  # the log may lie on the disk that is full
                sys.stderr.write(f"checkpoint: {text}\n")
                sys.stderr.flush()

    # ---- reading ----

    def latest(self) -> Checkpoint | None:
        """The newest checkpoint that is whole, or None; those that are damaged are passed over.

        Each process digests its share of the parts. Raises UserError for one of another run: other
        data, settings or network.
        """
        for name in reversed(_from_all([place.name for place in self._places()])[0]):
            place = self._folder / name
            described = _from_all(_described(place))[0]
            if described is None and not (place / MANIFEST).exists():
                continue  # its writing was cut off
            problem = "its manifest is damaged"
            if described is not None:
                if described["identity"] != self._identity:
                    raise UserError(f"{place}: a checkpoint of another run; remove it to train from the start")
                problem = self._problem(place, described)
            if described is not None and not problem:
                self.newest = described["step"]
                self._clean()
                about = About(described["step"], described["loss"], described["numbers"], described["memory"])
                return Checkpoint(about, Parts([place / part for part in described["parts"]]))
            self.say(f"{place} is refused: {problem}; the one before is used, if there is one")
        self._clean()
        return None

    def _clean(self) -> None:
        """Delete what killed writings left, before anything is written."""
        if self._rank == 0:
            _delete([place for place in self._places() if not (place / MANIFEST).is_file()])
        _from_all(None)

    def _problem(self, place: Path, described: dict[str, Any]) -> str:
        """What is wrong with the parts; empty if they are whole."""
        found = ""
        for number, (name, part) in enumerate(described["parts"].items()):
            path = place / name
            if number % self._processes == self._rank and not found:
                if not path.is_file():
                    found = f"process {self._rank} does not find {name}"
                elif path.stat().st_size != part["bytes"] or digest_of_file(path) != part["digest"]:
                    found = f"{name} is not what was written"
        return next((problem for problem in _from_all(found) if problem), "")

    def _place(self, step: int) -> Path:
        return self._folder / f"step-{step:09}"

    def _places(self) -> list[Path]:
        """Folders of checkpoints, oldest first, whole or not."""
        return sorted(self._folder.glob("step-?????????"))


def _write(path: Path, part: Part) -> Written:
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_part(path, part)


def _delete(places: list[Path]) -> None:
    for place in places:
        (place / MANIFEST).unlink(missing_ok=True)  # first, so that half of a checkpoint is none
        shutil.rmtree(place, ignore_errors=True)


def _described(place: Path) -> dict[str, Any] | None:
    """What the manifest says; None where it is missing or damaged."""
    try:
        content = json.loads((place / MANIFEST).read_text(encoding="utf-8"))
        described: dict[str, Any] = content["about"]
        return described if digest_of_value(described) == content["digest"] else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _from_all(value: Any) -> list[Any]:
    """What every process says, by rank."""
    if not dist.is_initialized():
        return [value]
    told: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(told, value)
    return told


def _in_short(error: BaseException | None) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return f"{type(error).__name__}: {error}"
