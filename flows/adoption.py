"""Folders of the user's that become artifacts: Hugging Face models, adapters, classifiers and tokenizers."""

from __future__ import annotations

from fnmatch import fnmatch
from pathlib import Path

from storage.errors import SourceError
from tasks.classifiers.folders import make_of
from tasks.task import Kind

_TOKENIZER = (
    "tokenizer*", "*.model", "vocab*", "merges.txt", "special_tokens_map.json", "added_tokens.json", "chat_template*",
)  # fmt: skip
_WEIGHTS = (*_TOKENIZER, "config.json", "generation_config.json", "adapter_config.json", "*.safetensors*")

_PATTERNS = {
    "tokenizer": _TOKENIZER,
    "model": _WEIGHTS,
    "adapter": (*_WEIGHTS, "base/*"),
    "classifier": (*_WEIGHTS, "classifier.json", "report.json"),
    "network": (*_WEIGHTS, "*.spm"),
}
"""The files that belong to each kind: pictures, papers and pickled weights beside them stay outside."""


def kind_to_adopt(folder: Path, kinds: tuple[Kind, ...]) -> str:
    """Which of the kinds that fit the folder holds."""
    names = [kind.kind for kind in kinds]
    if "adapter" in names and (folder / "adapter_config.json").is_file():
        return "adapter"
    if names == ["examples", "documents"] and not (folder / "train.parquet").is_file():
        return "documents"
    return "model" if "model" in names else names[0]


def files_to_adopt(kind: str, folder: Path) -> dict[str, Path]:
    """The folder's files that make up an artifact of this kind, by name.

    Raises SourceError if there are none, if a model has no tokenizer, or a classifier's folder holds something else.
    """
    if kind == "classifier":
        make_of(folder)
    patterns = _PATTERNS.get(kind, ("*",))
    found = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    files = {
        name: path
        for name, path in found.items()
        if not any(part.startswith(".") for part in name.split("/"))
        and any(fnmatch(name, pattern) and name.count("/") <= pattern.count("/") for pattern in patterns)
    }
    if not files:
        raise SourceError(f"{folder}: no files of a {kind} in it ({', '.join(patterns)})")
    if kind == "model" and not files.keys() & {"tokenizer.model", "tokenizer.json"}:
        said = "a model without tokenizer.model or tokenizer.json; put the tokenizer that it was trained with into it"
        raise SourceError(f"{folder}: {said}")
    return files
