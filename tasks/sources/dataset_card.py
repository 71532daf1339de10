"""What the card of a Hugging Face dataset, the head of its ``README.md``, says about licence and language."""

from __future__ import annotations

import io
from pathlib import PurePosixPath
from typing import Any

from storage.errors import SourceError
from tasks.sources.base import Terms
from tasks.sources.decompress import Unreadable, read_bytes
from tasks.sources.paths import split_glob
from tasks.sources.places import files_of, is_address
from tasks.task import World

PLUMBING = "what a card states enters the key by value"

_MOST_BYTES = 1_000_000


def terms_in_card(world: World, path: str, place: str) -> Terms:
    """Licence and language that the card states beside the data, or above a folder ``data``."""
    for folder in _folders(path):
        try:
            (file,) = files_of(world, f"{folder}/README.md" if folder else "README.md", place)
            return _terms(read_bytes(file.open, file.name, _MOST_BYTES))
        except (SourceError, Unreadable, ValueError):
            continue  # a dataset need not have a card, nor a card that can be read
    return Terms()


def _folders(path: str) -> list[str]:
    """Where a card may lie: in the folder, beside the files, or above them if they are in a folder ``data``."""
    if path.startswith(("http://", "https://")):
        return []
    fixed, pattern = split_glob(path)
    fixed = fixed.rstrip("/")
    folders = [fixed]
    if not pattern and PurePosixPath(fixed).suffix:
        folders = [fixed.rpartition("/")[0]]
    if folders[0].rpartition("/")[2] == "data":
        folders.append(folders[0].rpartition("/")[0] or ".")
    return [folder for folder in folders if not is_address(f"{folder}/") or folder.count("/") >= 2]


def _terms(content: bytes) -> Terms:
    """Licence and language of a card, which begins with YAML between two lines of ``---``."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    parts = content.decode("utf-8", "replace").replace("\r\n", "\n").split("\n---", 1)
    if len(parts) < 2 or not parts[0].startswith("---"):
        return Terms()
    try:
        card = YAML(typ="safe", pure=True).load(io.StringIO(parts[0].removeprefix("---")))
    except YAMLError:
        return Terms()
    if not isinstance(card, dict):
        return Terms()
    licenses, languages = _texts(card.get("license")), _texts(card.get("language"))
    # Several languages are no hint.
    return Terms(", ".join(licenses) or None, languages[0].lower() if len(languages) == 1 else None)


def _texts(value: Any) -> list[str]:
    """One or several texts."""
    values = value if isinstance(value, list) else [value]
    return [text.strip() for text in values if isinstance(text, str) and text.strip()]
