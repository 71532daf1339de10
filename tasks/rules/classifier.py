"""Documents that a text classifier gives a label: toxic, advertisement, hardly educational, off the subject."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
from pydantic import Field, model_validator

from storage.artifact import Classifier
from storage.errors import UserError
from tasks.classifiers.folders import labels_of, make_of
from tasks.classifiers.interface import TextClassifier, load
from tasks.networks import Device
from tasks.rules.batch import Batch
from tasks.rules.rule import Judged, Rule
from tasks.task import Context, Input

_NETWORK_BATCH_CHARACTERS = 100_000
"""A network takes seconds for so much; a batch has to end well within the time that is given to one."""


class Classified(Rule):
    """Drop documents that are surely (``above``) or hardly (``below``) what the label says.

    ``{classifier: STEP, label: toxic, above: 0.5}`` drops what is probably toxic;
    ``{classifier: STEP, label: educational, below: 0.3}`` drops what is hardly educational. The reason
    is ``classifier.LABEL``. Speed and memory are the classifier's: thousands of documents a second for one
    that ``train_classifier`` made, a few for a large network without a GPU.
    """

    shorthand: ClassVar[str] = "model"
    only_asked: ClassVar[bool] = True

    model: Input[Classifier]
    """The classifier: a step that makes one, or ``{path: FOLDER}`` with one, or with a text classifier of
    ``transformers`` (safetensors)."""
    label: str
    """The label that counts, one of the classifier's."""
    above: float | None = Field(None, allow_inf_nan=False)
    """Documents with a higher probability of the label are dropped. (For a classifier with a single output,
    such as a score of quality, it is that output.)"""
    below: float | None = Field(None, allow_inf_nan=False)
    """Documents with a lower probability of the label are dropped."""

    @model_validator(mode="after")
    def _has_a_bound(self) -> Self:
        if self.above is None and self.below is None:
            raise ValueError("give above, below or both: documents beyond are dropped")
        return self

    def shaping_libraries(self) -> tuple[str, ...]:
        """Steps make linear classifiers; what is in a folder may be a network."""
        return ("safetensors",) if self.model.path is None else ("safetensors", "torch", "transformers")

    def material(self, context: Context) -> _Place:
        """Where the classifier is. Raises UserError if it knows no such label."""
        folder = context.open(self.model).folder
        labels = labels_of(folder)
        if self.label not in labels:
            nearest = get_close_matches(self.label, labels, n=1)
            hint = f"did you mean {nearest[0]!r}?" if nearest else "choose one of these"
            raise UserError(
                f"rule classifier: the classifier {self.model.name!r} has no label {self.label!r}, "
                f"only {', '.join(labels)}; {hint}"
            )
        return _Place(str(folder), context.resources.device)

    def ready(self, material: _Place) -> _Scorer:
        return _scorer(material)

    def batch_characters(self, ready: _Scorer) -> int | None:
        return _NETWORK_BATCH_CHARACTERS if ready.is_network else None

    def judge(self, batch: Batch, ready: Any = None) -> Judged:
        likely = ready.probabilities(batch.texts)[:, ready.classifier.labels.index(self.label)]
        faulty = np.zeros(len(batch), dtype=bool)
        if self.above is not None:
            faulty |= likely > self.above
        if self.below is not None:
            faulty |= likely < self.below
        return Judged(
            {self.label: faulty}, found={int(n): f"{self.label} {likely[n]:.2f}" for n in np.flatnonzero(faulty)}
        )


class _Place(NamedTuple):
    """Where a classifier is, and where it is to run."""

    folder: str
    device: Device


@dataclass
class _Scorer:
    """A loaded classifier; what it said last is kept for the next rule that asks it about the same texts."""

    classifier: TextClassifier
    is_network: bool
    _texts: Sequence[str] | None = field(default=None, repr=False)
    _said: Any = field(default=None, repr=False)

    def probabilities(self, texts: Sequence[str]) -> Any:
        """float32 (texts × labels)."""
        if self._texts != texts:
            self._texts, self._said = texts, self.classifier.probabilities(texts)
        return self._said


@lru_cache(maxsize=4)
def _scorer(place: _Place) -> _Scorer:
    folder = Path(place.folder)
    # A worker has one core; the other workers have the others.
    return _Scorer(load(folder, place.device, threads=1), make_of(folder) == "network")
