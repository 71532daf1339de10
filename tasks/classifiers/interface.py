"""Text classifiers of every make, behind one interface.

``load(folder)`` opens what ``train_classifier`` makes, and any text classifier of Hugging Face
``transformers`` (safetensors, no code of its own).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from tasks.networks import Device

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class TextClassifier(Protocol):
    """Something that says how likely each label fits a text."""

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels, in the order of the columns."""

    def probabilities(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Probability of each label for each text, (texts × labels)."""


def load(folder: Path, device: Device = "cpu", threads: int | None = None) -> TextClassifier:
    """Open the classifier in ``folder``, a network on ``device`` (``auto``: a GPU if there is one).

    ``threads`` bounds what a network may use of the processor, in this whole process.
    Raises SourceError for a folder that holds none.
    """
    from tasks.classifiers.folders import make_of

    if make_of(folder) == "linear":
        from tasks.classifiers.linear import LinearClassifier

        return LinearClassifier.load(folder)
    from tasks.classifiers.network import NetworkClassifier

    return NetworkClassifier.load(folder, device, threads)
