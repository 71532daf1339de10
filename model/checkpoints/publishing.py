"""Models of moments of a run, written beside it from its checkpoints while it goes on."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from torch import Tensor

from model.checkpoints.part_file import WEIGHTS, Parts
from model.learning.optimizer import AVERAGE
from model.request import PUBLISHED
from storage.disk import write_json

PLUMBING = "what is published of a run on its way is no part of its result"


class Publisher:
    """Writes models in the form of the run's result, on the first process and in the background."""

    def __init__(
        self,
        scratch: Path,
        every: int,
        batch_tokens: int,
        shapes: Mapping[str, tuple[int, ...]],
        write: Callable[[Path, dict[str, Tensor]], None],
        steps: int,
    ) -> None:
        """``every``: steps between models; ``shapes``: of the trained weights; ``write`` makes a model folder.

        The model after the last of all ``steps`` is the run's result, and not published beside it.
        """
        self._folder, self._every, self._batch_tokens, self._steps = scratch / PUBLISHED, every, batch_tokens, steps
        self._shapes, self._write = shapes, write

    def due(self, step: int) -> bool:
        """Whether the model after this step is to be published."""
        return 0 < step < self._steps and step % self._every == 0

    def publish(self, step: int, place: Path) -> None:
        """Write the model of the checkpoint in the folder ``place``."""
        name = f"step-{step:09}"
        model = self._folder / name
        try:
            weights = weights_in(Parts(sorted(place.glob("part-*"))), self._shapes)
            shutil.rmtree(model, ignore_errors=True)
            model.mkdir(parents=True)
            self._write(model, weights)
            write_json(self._folder / f"{name}.json", {"step": step, "tokens": step * self._batch_tokens})
        except Exception as error:  # noqa: BLE001  # whatever it is, the run itself is not to suffer from it
            with suppress(OSError):
                sys.stderr.write(f"step {step}: its model could not be published ({type(error).__name__}: {error})\n")


def weights_in(parts: Parts, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """The weights of a checkpoint, whole; their averages, where the optimiser keeps any."""
    weights = {}
    for weight, shape in shapes.items():
        kind = AVERAGE if AVERAGE in parts.kinds_of(weight) else WEIGHTS
        weights[weight] = parts.read(kind, weight).view(shape)
    return weights
