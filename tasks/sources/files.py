"""Pages that lie in files: a folder, a glob, or one file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from storage.artifact import JsonValue
from storage.identity import digest_of_value
from tasks.sources.base import Bad, Page, PassedOver, Source
from tasks.sources.decompress import Unreadable, inner_name, read_bytes
from tasks.sources.paths import files_at
from tasks.sources.sniff import content_type_of
from tasks.task import Outside, World


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
        return files_at(world.folder, self.path, f"source {self.name or self.kind}")


def _printable(name: str) -> str:
    """The name as valid Unicode: bytes that are not UTF-8 become escapes."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")
