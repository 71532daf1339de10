"""The kinds of artifact, by name."""

from __future__ import annotations

from importlib import import_module

from storage.artifact import Artifact
from storage.errors import StoreCorrupted

PLUMBING = "it finds a class; the classes' own modules count"

_MODULES = {
    "pages": "storage.corpus:Pages",
    "documents": "storage.corpus:Documents",
    "examples": "storage.corpus:Examples",
    "tokenizer": "storage.tokenizer:Tokenizer",
    "shards": "storage.shards:Shards",
    "model": "storage.artifact:Model",
    "adapter": "storage.artifact:Adapter",
    "state": "storage.artifact:State",
    "classifier": "storage.artifact:Classifier",
    "network": "storage.artifact:Network",
    "report": "storage.artifact:Report",
}


def artifact_class(kind: str) -> type[Artifact]:
    """The class that opens artifacts of this kind; StoreCorrupted if there is none."""
    if kind not in _MODULES:
        raise StoreCorrupted(f"unknown kind of artifact {kind!r}; was the store written by a newer version?")
    module, _, name = _MODULES[kind].partition(":")
    found: type[Artifact] = getattr(import_module(module), name)
    return found
