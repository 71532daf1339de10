"""An artifact: the immutable result of a step, opened as a folder of named, read-only files."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict

from storage.disk import link
from storage.errors import UserError
from storage.identity import digest_of_file, digest_of_value

PLUMBING = "it names and lists files; what is in them is made elsewhere"

JsonValue = Any
"""What ``json.dumps`` takes: None, bool, int, float, str, list, dict with str keys."""


class FileEntry(BaseModel):
    """One file of an artifact."""

    model_config = ConfigDict(frozen=True)

    object: str
    """Digest of the content, which is its name in the store."""
    bytes: int


class Manifest(BaseModel):
    """What an artifact is, and nothing about how it came to be."""

    model_config = ConfigDict(frozen=True)

    kind: str
    files: dict[str, FileEntry]
    counts: dict[str, JsonValue] = {}
    """Derived from the files' content alone (rows, tokens), so that equal bytes stay equal artifacts."""

    @property
    def digest(self) -> str:
        return digest_of_value(self.model_dump(mode="json"))

    @property
    def bytes(self) -> int:
        return sum(entry.bytes for entry in self.files.values())


STORED = ".stored.json"
"""In the folder of an opened artifact some files of which are fetched when they are asked for: where from."""


class Stored(BaseModel):
    """Where an artifact's files lie that have not been fetched."""

    model_config = ConfigDict(frozen=True)

    url: str
    """Of the store."""
    cache: Path
    """Folder of local copies."""
    cache_limit: int
    """Bytes that all copies may take."""


class Artifact:
    """An opened artifact; its subclasses, one per kind, add typed access to the files."""

    kind: ClassVar[str] = ""
    opened_by_path: ClassVar[bool] = False
    """Whether those who use it open its files by ``path``, whatever they are called there."""

    def __init__(self, folder: Path, manifest: Manifest, objects: Mapping[str, Path] | None = None) -> None:
        """``objects``: where the files lie, by name, as long as ``folder`` has not been filled with links to them.

        They may be fetched only when they are asked for (see ``storage.stored``).
        """
        self._folder = folder
        self.manifest = manifest
        self._objects: Mapping[str, Path] = objects if objects is not None else {}

    @property
    def folder(self) -> Path:
        """The folder of its files, by their names."""
        if self._objects:
            link_all(self._folder, self._objects)
            self._objects = {}
        return self._folder

    @classmethod
    def of_folder(cls, folder: Path, counts: Mapping[str, JsonValue] | None = None) -> Self:
        """Open a plain folder that no store holds, digesting its files."""
        return cls(folder, manifest_of_folder(cls.kind, folder, counts or {}))

    @property
    def digest(self) -> str:
        return self.manifest.digest

    @classmethod
    def is_fetched_later(cls, name: str) -> bool:
        """Whether the file ``name`` of a remote store's artifact is fetched only when it is asked for."""
        return False

    def path(self, name: str) -> Path:
        """Local path of the file called ``name``; KeyError if the artifact has none."""
        if name not in self.manifest.files:
            raise KeyError(f"{self.kind} artifact has no file {name!r}")
        found = self._objects.get(name)
        return found if found is not None else self._folder / name

    def names(self, pattern: str = "*") -> list[str]:
        """Sorted names of the files that match a glob pattern."""
        from fnmatch import fnmatchcase

        return sorted(name for name in self.manifest.files if fnmatchcase(name, pattern))


def link_all(folder: Path, files: Mapping[str, Path]) -> None:
    """Have links to these files in ``folder``, by their names; it is there also if there are none."""
    for name, path in files.items():
        link(folder / name, path)
    folder.mkdir(parents=True, exist_ok=True)


def files_below(folder: Path) -> dict[str, Path]:
    """Every file below ``folder``, by its relative POSIX name, sorted; a link that leads nowhere is one too."""
    found = {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_file() or not p.exists()}
    return dict(sorted(found.items()))


def manifest_of_folder(kind: str, folder: Path, counts: Mapping[str, JsonValue]) -> Manifest:
    """The manifest of the files below ``folder``."""
    files = {
        name: FileEntry(object=digest_of_file(path), bytes=path.stat().st_size)
        for name, path in files_below(folder).items()
    }
    return Manifest(kind=kind, files=files, counts=dict(counts))


def include(output: Path, name: str, source: Artifact) -> None:
    """Make every file of ``source`` part of the output folder under ``name/``, without copying bytes.

    Used where an artifact must be complete on its own (shards carry their tokenizer, an adapter
    its base model). The store recognises links to its own objects and does not store them twice.
    """
    for relative in source.names():
        target = output / name / relative
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        target.symlink_to(source.path(relative).resolve())


def check_new(folder: Path) -> None:
    """UserError unless the folder is empty or does not exist, so that nothing of the user's is overwritten."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder}: not an empty folder; name a new one to export to")


def copy_folder(artifact: Artifact, destination: Path) -> None:
    """Copy the artifact's files as plain, writable files below ``destination``."""
    for name in artifact.names():
        target = destination / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(artifact.path(name), target)


class Model(Artifact):
    """A causal language model: ``config.json``, ``model.safetensors`` (Hugging Face Llama names), tokenizer files."""

    kind = "model"


class Adapter(Artifact):
    """A PEFT adapter, with the model that it adapts below ``base/``."""

    kind = "adapter"

    @property
    def base(self) -> Model:
        return Model.of_folder(self.folder / "base")


class State(Artifact):
    """The state of a training after some steps, which a longer one continues from: a checkpoint's folder."""

    kind = "state"


class Classifier(Artifact):
    """A text classifier: labels, settings and weights."""

    kind = "classifier"


class Network(Artifact):
    """A folder of ``transformers`` that is neither a causal model nor a classifier: one that translates or encodes."""

    kind = "network"


class Report(Artifact):
    """``report.json``: measured figures per model."""

    kind = "report"
