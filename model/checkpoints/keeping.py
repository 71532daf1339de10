"""Checkpoints that are kept for longer: the state at the end of a run's stem, and the best ones."""

from __future__ import annotations

import json
import os
import shutil
import sys
from contextlib import suppress
from pathlib import Path

from model.checkpoints.checkpoint import MANIFEST
from model.request import KEPT
from storage.disk import flush, write_json
from storage.identity import digest_of_value

_BEST = "best"
_KEPT = 2


class StateKeeper:
    """Keeps the whole checkpoint of one step in the run's scratch, on the first process and in the background."""

    def __init__(self, scratch: Path, step: int, batch_tokens: int, stem: str) -> None:
        """``stem``: the digest that runs know each other's states by, put for the run's own (see ``.stem``)."""
        self._folder, self._step, self._batch_tokens, self._stem = scratch / KEPT, step, batch_tokens, stem

    def due(self, step: int) -> bool:
        """Whether the state after this step is to be kept."""
        return step > 0 and step == self._step

    def publish(self, step: int, place: Path) -> None:
        """Keep the checkpoint in the folder ``place``; its files are linked, where the disk can."""
        name = f"step-{step:09}"
        try:
            copy_checkpoint(place, self._folder / name / place.name, self._stem)
            write_json(self._folder / f"{name}.json", {"step": step, "tokens": step * self._batch_tokens})
        except OSError as error:
            with suppress(OSError):
                sys.stderr.write(f"step {step}: its state could not be kept for longer runs ({error.strerror})\n")


class BestKeeper:
    """Keeps the checkpoints with the lowest validation losses beside the others, on the first process."""

    def __init__(self, scratch: Path, identity: str) -> None:
        self._folder, self._identity = scratch / _BEST, identity

    def of(self, step: int) -> Path:
        """Folder with the checkpoint of this step alone."""
        return self._folder / f"step-{step:09}"

    def keep(self, step: int, place: Path) -> None:
        """Keep the checkpoint in the folder ``place``, and of those before only the last. Raises OSError.

        A moment's work where the disk can link files; elsewhere they are copied.
        """
        target = self.of(step) / place.name
        if (target / MANIFEST).is_file():
            return  # a run that was killed after this evaluation makes it again
        copy_checkpoint(place, target, self._identity)
        for old in sorted(self._folder.glob("step-*"))[:-_KEPT]:
            shutil.rmtree(old, ignore_errors=True)


def copy_checkpoint(place: Path, target: Path, identity: str) -> None:
    """Link a whole checkpoint's files into a new folder, under another identity. Raises OSError."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    described = json.loads((place / MANIFEST).read_text(encoding="utf-8"))["about"] | {"identity": identity}
    for name in described["parts"]:
        link_or_copy(place / name, target / name)
    content = {"about": described, "digest": digest_of_value(described)}
    beside = target / f".{MANIFEST}"
    beside.write_text(json.dumps(content, indent=1), encoding="utf-8")
    flush(beside)
    beside.rename(target / MANIFEST)


def link_or_copy(source: Path, target: Path) -> None:
    """The same file under another name, or, on a file system without such links, a copy of it."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
