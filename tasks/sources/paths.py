"""Files by a folder, a glob, or their name."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from storage.errors import SourceError

_MAGIC = frozenset("*?[")
_VISIBLE = r"(?!\.)"
"""No hidden name begins here."""


def root_of(folder: Path, path: str) -> Path:
    """The root of the files that ``path`` means: see ``files_at``."""
    whole = folder / path
    if whole.is_file():
        return whole.parent.resolve()
    return (whole if whole.is_dir() else folder / split_glob(path)[0]).resolve()


@dataclass(frozen=True)
class Listed:
    """A file that was found."""

    name: str
    """POSIX path relative to the root."""
    link: bool
    """Whether it is a symbolic link (none of the folders on the way from the root to it is one)."""


def files_at(folder: Path, path: str, place: str) -> tuple[Path, list[Listed]]:
    """The root and the files that ``path`` (relative to ``folder``) means, sorted by name.

    The root is the folder, the folder of the one file, or what stands before a glob's first
    wildcard. Raises SourceError, beginning with ``place``, if there are none.
    """
    place = f"{place}, path {path!r}"
    whole = folder / path
    if whole.is_file():
        return whole.parent.resolve(), [Listed(whole.name, whole.is_symlink())]
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
    fits = fitting(pattern)
    files = sorted((file for file in _walk(str(root)) if fits(file.name)), key=lambda file: file.name)
    if not files:
        what = "the folder is empty" if pattern == "**" else "no file matches"
        raise SourceError(f"{place}: {what} (looked in {root}); put files there or correct `path`")
    return root, files


def split_glob(path: str) -> tuple[str, str]:
    """The folders before the first wildcard, and the pattern from there on (empty if there is no wildcard)."""
    parts = path.split("/")
    for position, part in enumerate(parts):
        if _MAGIC & set(part):
            return "/".join(parts[:position]) + ("/" if path.startswith("/") else ""), "/".join(parts[position:])
    return path, ""


def _walk(root: str) -> Iterator[Listed]:
    """The files below ``root``, broken links among them; devices and pipes are no files."""
    waiting = [(root, "")]
    while waiting:
        folder, below = waiting.pop()
        try:
            entries = os.scandir(folder)
        except PermissionError:
            continue
        with entries:
            for entry in entries:
                if entry.is_file(follow_symlinks=False):
                    yield Listed(below + entry.name, False)
                elif entry.is_dir(follow_symlinks=False):
                    waiting.append((entry.path, f"{below}{entry.name}/"))
                elif entry.is_symlink() and (entry.is_file() or not os.path.exists(entry.path)):
                    yield Listed(below + entry.name, True)


def fitting(pattern: str) -> Callable[[str], bool]:
    """Whether a relative name fits a pattern; ``**`` is any number of folders, wildcards skip hidden names."""
    parts = pattern.split("/")
    expression = "".join(f"(?:{_VISIBLE}[^/]+/)*" if part == "**" else f"{_one(part)}/" for part in parts[:-1])
    expression += f"(?:{_VISIBLE}[^/]+/)*{_VISIBLE}[^/]+" if parts[-1] == "**" else _one(parts[-1])
    fits = re.compile(expression, re.DOTALL).fullmatch
    return lambda name: fits(name) is not None


def _one(part: str) -> str:
    """The regular expression for the pattern of one folder's or file's name."""
    found = re.split(r"(\*+|\?|\[!?\]?[^\]]*\])", part)
    for number in range(1, len(found), 2):
        sign = found[number]
        found[number] = "[^/]*" if sign[0] == "*" else "[^/]" if sign == "?" else _choice(sign)
    found[::2] = map(re.escape, found[::2])
    return ("" if part.startswith(".") else _VISIBLE) + "".join(found)


def _choice(sign: str) -> str:
    """``[abc]``, ``[a-z]``, ``[!abc]``."""
    no, inner = ("^/", sign[2:-1]) if sign[1] == "!" else ("", sign[1:-1])
    escaped = re.sub(r"([^a-zA-Z0-9-])", r"\\\1", inner)
    return f"[{no}{escaped}]"
