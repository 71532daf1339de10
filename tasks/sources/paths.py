"""Files by a folder, a glob, or their name."""

from __future__ import annotations

import os
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

from storage.errors import SourceError

_MAGIC = frozenset("*?[")


def files_at(folder: Path, path: str, place: str) -> tuple[Path, list[str]]:
    """The root and the sorted relative names of the files that ``path`` (relative to ``folder``) means.

    The root is the folder, the folder of the one file, or what stands before a glob's first
    wildcard. Raises SourceError, beginning with ``place``, if there are none.
    """
    place = f"{place}, path {path!r}"
    whole = folder / path
    if whole.is_file():
        return whole.parent.resolve(), [whole.name]
    if whole.is_dir():
        root, pattern = whole, "**"
    else:
        fixed, pattern = split_glob(path)
        root = folder / fixed
        if not pattern:
            raise SourceError(f"{place}: there is no such file or folder in {folder}; correct `path`")
        if not root.is_dir():
            raise SourceError(f"{place}: there is no folder {fixed!r} in {folder}; correct `path`")
    root = root.resolve()
    names = sorted(name for name in _walk(root) if matches(name.split("/"), pattern.split("/")))
    if not names:
        what = "the folder is empty" if pattern == "**" else "no file matches"
        raise SourceError(f"{place}: {what} (looked in {root}); put files there or correct `path`")
    return root, names


def split_glob(path: str) -> tuple[str, str]:
    """The folders before the first wildcard, and the pattern from there on (empty if there is no wildcard)."""
    parts = path.split("/")
    for position, part in enumerate(parts):
        if _MAGIC & set(part):
            return "/".join(parts[:position]) + ("/" if path.startswith("/") else ""), "/".join(parts[position:])
    return path, ""


def _walk(root: Path) -> Iterator[str]:
    """Relative POSIX names of the files below ``root``, broken links among them; devices and pipes are no files."""
    for folder, _, files in os.walk(root):
        below = Path(folder).relative_to(root).as_posix()
        for file in files:
            path = Path(folder) / file
            if path.is_file() or not path.exists():
                yield file if below == "." else f"{below}/{file}"


def matches(parts: list[str], pattern: list[str]) -> bool:
    """Whether a path fits a pattern, part by part; ``**`` is any number of parts, wildcards skip hidden names."""
    if not pattern:
        return not parts
    if pattern[0] == "**":
        if pattern == ["**"]:
            return not any(part.startswith(".") for part in parts)
        skipped = 0
        while skipped <= len(parts) and not any(part.startswith(".") for part in parts[:skipped]):
            if matches(parts[skipped:], pattern[1:]):
                return True
            skipped += 1
        return False
    if not parts or (parts[0].startswith(".") and not pattern[0].startswith(".")):
        return False
    return fnmatchcase(parts[0], pattern[0]) and matches(parts[1:], pattern[1:])
