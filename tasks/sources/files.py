"""Pages that lie in files: a folder, a glob, or one file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from storage.artifact import JsonValue
from storage.errors import SourceError
from storage.identity import digest_of_value
from tasks.sources.base import Bad, Page, PassedOver, Source
from tasks.sources.decompress import Unreadable, inner_name, read_bytes
from tasks.sources.sniff import content_type_of
from tasks.task import Outside, World

_MAGIC = frozenset("*?[")


class Files(Source):
    """HTML and text files, compressed or not (``.gz``, ``.bz2``, ``.xz``, ``.zst``).

    A page's ``url`` is the file's POSIX path relative to the source's root: the folder, the folder
    of the one file, or the part of a glob before its first wildcard. Hidden files and folders are
    left out unless the glob names them; links to folders are not followed, and a link to a file
    outside the root is passed over, so that nothing beyond the root can get into a corpus.
    """

    kind: Literal["files"] = "files"
    path: Annotated[str, Outside()]
    """A folder, a file, or a glob (``site/**/*.html``; ``**`` stands for any number of folders)."""
    max_page_bytes: int = Field(64_000_000, gt=0)
    """Larger pages are passed over (and never decompressed further than this)."""

    def fingerprint(self, world: World) -> JsonValue:
        root, names = self._found(world)
        files = []
        for name in names:
            try:
                digest = world.digest_of_file(root / name) if self._allowed(world, root, name) else "link"
            except OSError:
                digest = "unreadable"
            files.append([_printable(name), digest])
        return {"files": len(files), "content": digest_of_value(files)}

    def pages(self, world: World) -> Iterator[Page | Bad | PassedOver]:
        root, names = self._found(world)
        for name in names:
            if name != _printable(name):
                yield Bad(_printable(name), "name", "its name is not UTF-8")
            elif not self._allowed(world, root, name):
                yield PassedOver(name, "link_out_of_root")
            else:
                yield self._read(root, name)

    def _allowed(self, world: World, root: Path, name: str) -> bool:
        """Whether the file, links followed, lies below the root; a file that the recipe names may lie anywhere."""
        return (root / name).resolve().is_relative_to(root) or (world.folder / self.path).is_file()

    def _read(self, root: Path, name: str) -> Page | Bad | PassedOver:
        try:
            content = read_bytes(root / name, self.max_page_bytes)
        except Unreadable as error:
            if error.reason == "too_large":
                return PassedOver(name, error.reason)
            return Bad(name, error.reason, str(error))
        content_type = content_type_of(inner_name(name), content)
        if content_type is None:
            return PassedOver(name, "not_a_page")
        return Page(url=name, content=content, content_type=content_type)

    def _found(self, world: World) -> tuple[Path, list[str]]:
        """The root and the sorted relative names of the files. SourceError if there are none."""
        whole = world.folder / self.path
        if whole.is_file():
            return whole.parent.resolve(), [whole.name]
        if whole.is_dir():
            root, pattern = whole, "**"
        else:
            fixed, pattern = _split_glob(self.path)
            root = world.folder / fixed
        if not pattern:
            raise SourceError(f"{self._place}: there is no such file or folder in {world.folder}; correct `path`")
        if not root.is_dir():
            raise SourceError(f"{self._place}: there is no folder {fixed!r} in {world.folder}; correct `path`")
        root = root.resolve()
        names = sorted(name for name in _walk(root) if _matches(name.split("/"), pattern.split("/")))
        if not names:
            what = "the folder is empty" if pattern == "**" else "no file matches"
            raise SourceError(f"{self._place}: {what} (looked in {root}); put pages there or correct `path`")
        return root, names

    @property
    def _place(self) -> str:
        return f"source {self.name or self.kind}, path {self.path!r}"


def _split_glob(path: str) -> tuple[str, str]:
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


def _matches(parts: list[str], pattern: list[str]) -> bool:
    """Whether a path fits a pattern, part by part; ``**`` is any number of parts, wildcards skip hidden names."""
    if not pattern:
        return not parts
    if pattern[0] == "**":
        if pattern == ["**"]:
            return not any(part.startswith(".") for part in parts)
        skipped = 0
        while skipped <= len(parts) and not any(part.startswith(".") for part in parts[:skipped]):
            if _matches(parts[skipped:], pattern[1:]):
                return True
            skipped += 1
        return False
    if not parts or (parts[0].startswith(".") and not pattern[0].startswith(".")):
        return False
    return fnmatchcase(parts[0], pattern[0]) and _matches(parts[1:], pattern[1:])


def _printable(name: str) -> str:
    """The name as valid Unicode: bytes that are not UTF-8 become escapes."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")
