"""Checkpoints: what a killed run continues from, bit for bit.

A checkpoint is a folder ``step-000000120`` with the tensors (safetensors) and ``checkpoint.json``.
It is written beside its place, flushed to disk and renamed, so a kill leaves either all of it or
nothing that counts; its digest is checked when it is opened, and a damaged one is passed over for
the one before.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from storage.disk import flush
from storage.errors import UserError
from storage.identity import digest_of_file

_STATE = "state.safetensors"
_ABOUT = "checkpoint.json"
_KEPT = 2


@dataclass(frozen=True)
class Checkpoint:
    """The state after a step, independent of the number of processes and of the ZeRO stage."""

    step: int
    tensors: dict[str, Tensor]
    """Trainable weights and moments, whole: see ``Engine.state``."""
    numbers: dict[str, float]
    loss: float
    """Of the step, nats per predicted token: what a run that resumes at its very end reports."""


class Checkpoints:
    """The checkpoints of one run, in one folder."""

    def __init__(self, folder: Path, identity: str) -> None:
        self._folder = folder
        self._identity = identity

    def write(self, checkpoint: Checkpoint) -> None:
        """Keep this checkpoint, and the one before it."""
        place = self._folder / f"step-{checkpoint.step:09d}"
        beside = place.with_suffix(".partial")
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir(parents=True)
        save_file({name: tensor.contiguous() for name, tensor in checkpoint.tensors.items()}, beside / _STATE)
        about = {
            "identity": self._identity,
            "step": checkpoint.step,
            "numbers": checkpoint.numbers,
            "loss": checkpoint.loss,
            "digest": digest_of_file(beside / _STATE),
        }
        (beside / _ABOUT).write_text(json.dumps(about), encoding="utf-8")
        for path in (beside / _STATE, beside / _ABOUT, beside):
            flush(path)
        shutil.rmtree(place, ignore_errors=True)
        beside.rename(place)
        flush(self._folder)
        for old in self._places()[:-_KEPT]:
            (old / _ABOUT).unlink(missing_ok=True)  # first, so that half of a checkpoint is none
            shutil.rmtree(old)

    def latest(self) -> Checkpoint | None:
        """The newest checkpoint that is whole, or None.

        Raises UserError for one of another run: other data, settings or network.
        """
        for place in reversed(self._places()):
            about = _about(place)
            if about is None:
                continue
            if about["identity"] != self._identity:
                raise UserError(f"{place}: a checkpoint of another run; remove it to train from the start")
            if digest_of_file(place / _STATE) == about["digest"]:
                return Checkpoint(about["step"], load_file(place / _STATE), about["numbers"], about["loss"])
        return None

    def _places(self) -> list[Path]:
        """Folders of finished checkpoints, oldest first."""
        return sorted(place for place in self._folder.glob("step-*") if not place.suffix)


def _about(place: Path) -> dict[str, Any] | None:
    """What a checkpoint says about itself; None where it is damaged."""
    try:
        about: dict[str, Any] = json.loads((place / _ABOUT).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return about if (place / _STATE).is_file() else None
