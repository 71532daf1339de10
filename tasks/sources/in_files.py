"""What the sources that read files have in common: where the files lie, and which of them count."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import PurePosixPath
from typing import IO, Annotated, ClassVar

from pydantic import AfterValidator, Field

from storage.artifact import JsonValue
from storage.code import code_of
from storage.errors import SourceError
from storage.identity import digest_of_text, digest_of_value
from tasks.sources.base import NO_PAST, At, Bad, Item, Page, PassedOver, Past, Same, Source
from tasks.sources.decompress import inner_name
from tasks.sources.places import SourceFile, checked_path, files_of
from tasks.task import Outside, World


class InFiles(Source):
    """A source whose pages lie in files: a folder, a glob, or one file, local or at an address.

    Files come in the order of their names relative to the root: the folder, the folder of the one
    file, or the part of a glob before its first wildcard. Hidden files and folders are left out
    unless the glob names them; links to folders are not followed, and a link to a file outside the
    root is passed over, so that nothing beyond the root can get into a corpus.
    """

    endings: ClassVar[tuple[str, ...]] = ()
    """In a folder (not where a glob or a name says which) only files whose names end so count; empty for all."""

    kind: str
    path: Annotated[str, Outside(), AfterValidator(checked_path)]
    """A folder, a file, or a glob (``site/**/*.html``; ``**`` stands for any number of folders): a local path, or an
    address that fsspec opens (``s3://bucket/crawl/*.warc.gz``, ``gs://…``; ``https://…`` names one file). What an
    address asks for, such as keys for s3, comes from the environment."""
    allow_private: bool = False
    """Whether an ``https`` address may lead to a private or loopback one."""
    max_page_bytes: int = Field(64_000_000, gt=0)
    """Larger pages are passed over (and never decompressed further than this)."""

    def fingerprint(self, world: World) -> JsonValue:
        states = [[printable(file.name), state] for file, state in self._states(world)]
        return {"files": len(states), "content": digest_of_value(states)}

    def pages(self, world: World, past: Past = NO_PAST) -> Iterator[Item]:
        """See ``Source.pages``. A file that is as it was is not read: its pages are called the same."""
        states = self._states(world)
        versions = self._versions(states)
        before = _by_version(past.versions)
        if self.holds_many and not before.keys() <= set(versions):
            # What a changed or vanished file said of a URL may have stood before what another one says of it.
            before = {}
        for (file, _), version in zip(states, versions, strict=True):
            if file.name != printable(file.name):
                yield Bad(printable(file.name), "name", "its name is not UTF-8")
            elif not file.allowed:
                yield PassedOver(file.name, "link_out_of_root")
            elif version in before:
                yield from map(Same, before[version])
            else:
                left = self.leaves(file)
                for item in self.pages_of(file):
                    if isinstance(item, Page):
                        yield replace(item, version=version, at=item.at if left else None)
                    else:
                        yield item

    def leaves(self, file: SourceFile) -> bool:
        """Whether the pages of a file are left in it rather than copied."""
        return False

    @property
    def holds_many(self) -> bool:
        return True

    def _states(self, world: World) -> list[tuple[SourceFile, str]]:
        """The files, each with what changes when it does; they are looked for once in a run."""

        def find() -> list[tuple[SourceFile, str]]:
            return [(file, file.state(world)) for file in self.files(world)]

        return world.once((type(self), self.name, self.path, self.allow_private), find)

    def _versions(self, states: Sequence[tuple[SourceFile, str]]) -> list[str]:
        """Per file what changes with it, and with the settings and the code by which pages are made of it."""
        elsewhere = {"name", "path", "license", "language", "max_bad_fraction", "allow_private"}
        how = digest_of_value([self.model_dump(mode="json", exclude=elsewhere), _code(type(self).__module__)])
        return [digest_of_text(f"{how}\n{state}\n{printable(file.name)}")[:32] for file, state in states]

    @abstractmethod
    def pages_of(self, file: SourceFile) -> Iterator[Item]:
        """The pages of one file, in a fixed order."""

    def files(self, world: World) -> list[SourceFile]:
        """The files in the order of their names. SourceError if there are none."""
        place = f"source {self.name or self.kind}"
        found = files_of(world, self.path, place, self.allow_private)
        if not self.endings or set("*?[") & set(self.path) or PurePosixPath(self.path).name == found[0].name:
            return found
        taken = [file for file in found if inner_name(file.name).lower().endswith(self.endings)]
        if not taken:
            endings = ", ".join(self.endings)
            raise SourceError(f"{place}, path {self.path!r}: no file there ends with {endings}; correct `path`")
        return taken


class Containers(InFiles):
    """A source whose files hold many pages each."""

    in_place_megabytes: float = Field(256, ge=0)
    """Pages of files from this size on are not copied: the collection notes their places and digests, and
    ``clean_html`` reads them there. This needs files in which a record can be read alone, on a disk or in an object
    store: Parquet, JSON lines that are not compressed, WARC files that are plain or have a gzip member a record."""

    def leaves(self, file: SourceFile) -> bool:
        """See ``InFiles.leaves``."""
        return file.seekable and file.size >= self.in_place_megabytes * 1_000_000

    @abstractmethod
    def pages_at(self, raw: IO[bytes], name: str) -> Callable[[int], Item]:
        """What reads the page at an offset of an open file called ``name``."""


def placed(item: Item, container: str, offset: int) -> Item:
    """The item; a page with its place."""
    return replace(item, at=At(container, offset)) if isinstance(item, Page) else item


def _by_version(versions: Mapping[str, str]) -> dict[str, list[str]]:
    """The URLs that have each version."""
    found: dict[str, list[str]] = {}
    for url, version in versions.items():
        found.setdefault(version, []).append(url)
    return found


@cache
def _code(module: str) -> str:
    return digest_of_value(code_of(module))


def printable(name: str) -> str:
    """The name as valid Unicode: bytes that are not UTF-8 become escapes."""
    return name if name.isascii() else name.encode("utf-8", "backslashreplace").decode("utf-8")
