"""Models of moments of a run, written beside it from its checkpoints while it goes on."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from torch import Tensor

from model.checkpoints.part_file import WEIGHTS, Parts
from model.learning.optimizers import AVERAGE
from model.request import PUBLISHED

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
    ) -> None:
        """``every``: steps between models; ``shapes``: of the trained weights; ``write`` makes a model folder."""
        self._folder, self._every, self._batch_tokens = scratch / PUBLISHED, every, batch_tokens
        self._shapes, self._write = shapes, write

    def due(self, step: int) -> bool:
        """Whether the model after this step is to be published."""
        return step > 0 and step % self._every == 0

    def publish(self, step: int, parts: Parts) -> None:
        """Put the weights (their averages, where the optimiser keeps any) together, and write the model."""
        name = f"step-{step:09}"
        place = self._folder / name
        try:
            weights = {}
            for weight, shape in self._shapes.items():
                kind = AVERAGE if AVERAGE in parts.kinds_of(weight) else WEIGHTS
                weights[weight] = parts.read(kind, weight).view(shape)
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir(parents=True)
            self._write(place, weights)
            beside = self._folder / f"{name}.partial"
            beside.write_text(json.dumps({"step": step, "tokens": step * self._batch_tokens}), encoding="utf-8")
            beside.rename(self._folder / f"{name}.json")
        except Exception as error:  # noqa: BLE001  # whatever it is, the run itself is not to suffer from it
            with suppress(OSError):
                sys.stderr.write(f"step {step}: its model could not be published ({type(error).__name__}: {error})\n")
