"""What a folder with a text classifier looks like: told without any heavy library, so that a plan can say it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from storage.errors import SourceError
from tasks.classifiers.linear import DESCRIPTION, read_description

Make = Literal["linear", "network"]

_HEAD = "ForSequenceClassification"


def make_of(folder: Path) -> Make:
    """``linear`` for what ``train_classifier`` makes, ``network`` for a text classifier of ``transformers``.

    Raises SourceError, saying what is amiss, for any other folder.
    """
    if (folder / DESCRIPTION).is_file():
        read_description(folder)
        return "linear"
    if not folder.is_dir():
        raise SourceError(f"{folder}: there is no such folder; name one that holds a classifier")
    config = _config(folder)
    architectures = [name for name in config.get("architectures") or [] if isinstance(name, str)]
    if not any(name.endswith(_HEAD) for name in architectures):
        raise SourceError(
            f"{folder}: its config.json is of {', '.join(architectures) or 'no architecture'}, which is no text "
            f"classifier; name a folder whose architecture ends in {_HEAD}"
        )
    if not any(folder.glob("*.safetensors")):
        raise SourceError(
            f"{folder}: no *.safetensors in it; weights in other formats can run code when they are read: "
            "save the classifier with save_pretrained, which writes safetensors"
        )
    return "network"


def labels_of(folder: Path) -> tuple[str, ...]:
    """The classifier's labels. Raises SourceError for a folder that holds none."""
    if make_of(folder) == "linear":
        return read_description(folder)[0]
    config = _config(folder)
    names = config.get("id2label") or {str(n): f"LABEL_{n}" for n in range(int(config.get("num_labels", 2)))}
    return tuple(str(names[number]) for number in sorted(names, key=int))


def _config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    if not path.is_file():
        raise SourceError(
            f"{folder}: no classifier in it; expected {DESCRIPTION} (from train_classifier) or config.json "
            "(from transformers)"
        )
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SourceError(f"{path}: it cannot be read as JSON ({error}); get the folder again") from error
    if not isinstance(config, dict):
        raise SourceError(f"{path}: it holds no JSON object; get the folder again")
    return config
