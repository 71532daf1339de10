"""Where a source's files lie: on a local disk, or at any address that fsspec opens."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, Any, TypeVar
from urllib.parse import parse_qsl, urlsplit

from storage.errors import SourceError
from tasks.sources.checked_client import checked_client
from tasks.sources.paths import files_at, fitting, root_of, split_glob
from tasks.task import World

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_CHAINED = re.compile(r"^\w[\w+.-]*::|::\w[\w+.-]*://")
_WEB = ("http", "https")
_EXTRA = {
    "s3": "athanor[s3]",
    "s3a": "athanor[s3]",
    "gs": "athanor[gs]",
    "gcs": "athanor[gs]",
    "abfs": "adlfs",
    "az": "adlfs",
}
"""What to install for a protocol."""
_SECRET = re.compile(r"(?i)signature|credential|secret|token|password|api.?key|^sig$|^key$")
"""Names of query parameters that carry a secret: those of presigned addresses among them."""
_STATES = ("ETag", "etag", "md5Hash", "Content-MD5", "crc32c")
"""By which a store tells one content from another, best first."""
_TIMES = ("LastModified", "Last-Modified", "last_modified", "mtime", "updated", "created")
_BLOCK_BYTES = 8 << 20
"""Read from an address at once."""

T = TypeVar("T")


@dataclass(frozen=True)
class LocalFile:
    """A file of a source on a local disk."""

    name: str
    """POSIX path relative to the source's root."""
    root: str
    allowed: bool = True
    """False for a link that leads out of the root."""

    @property
    def path(self) -> Path:
        return Path(f"{self.root}/{self.name}")

    @property
    def size(self) -> int:
        """Bytes; 0 where the system says no."""
        try:
            return os.stat(f"{self.root}/{self.name}").st_size
        except OSError:
            return 0

    @property
    def seekable(self) -> bool:
        """Whether it can be read from any place in it, now and later."""
        return True

    def open(self) -> IO[bytes]:
        """Its bytes; OSError where the system says no."""
        return open(f"{self.root}/{self.name}", "rb")

    def state(self, world: World) -> str:
        """Changes with the content: its digest, from the cache by stat."""
        if not self.allowed:
            return "link"
        try:
            return world.digest_of_file(f"{self.root}/{self.name}")
        except OSError:
            return "unreadable"


@dataclass(frozen=True)
class RemoteFile:
    """A file of a source at an address."""

    name: str
    """POSIX path relative to the source's root."""
    url: str
    place: str
    """Begins a message: ``source web, path 's3://…'``."""
    fs: Any = field(repr=False, compare=False)
    info: Mapping[str, Any] = field(repr=False, compare=False)
    allowed: bool = True

    @property
    def size(self) -> int:
        """Bytes; 0 if that is not known."""
        return int(self.info.get("size") or 0)

    @property
    def seekable(self) -> bool:
        """Whether it can be read from any place in it, now and later: servers on the web need not offer that."""
        return urlsplit(self.url).scheme not in _WEB

    def open(self) -> IO[bytes]:
        """Its bytes, fetched in blocks as they are read. SourceError where the network fails."""
        with _reached(self.place):
            opened = self.fs.open(self.fs._strip_protocol(self.url), "rb", block_size=_BLOCK_BYTES)
        return io.BufferedReader(_Explained(opened, self.place))

    def state(self, world: World) -> str:
        """Changes with the content: the ETag or checksum that its store keeps, else its size and time of change."""
        for name in _STATES:
            if self.info.get(name):
                return str(self.info[name])
        times = (self.info[name] for name in _TIMES if self.info.get(name))
        return f"{self.info.get('size')} {next(times, '')}"


SourceFile = LocalFile | RemoteFile


def files_of(world: World, path: str, place: str, allow_private: bool = False) -> list[SourceFile]:
    """The files that a folder, a glob or a name means, sorted by their names relative to the root.

    ``place`` begins the message of the SourceError if there are none or they cannot be reached. An
    ``https`` address leads to private ones only with ``allow_private``, redirects included.
    """
    if is_address(path):
        return _remote_files(path, f"{place}, path {path!r}", allow_private)
    root, listed = files_at(world.folder, path, place)
    alone = (world.folder / path).is_file()  # a file that the recipe names may lie anywhere
    return [LocalFile(file.name, str(root), alone or not file.link or _is_below(root, file.name)) for file in listed]


def file_of(folder: Path, path: str, name: str, place: str) -> SourceFile:
    """The file called ``name`` among those that ``path`` means, without looking for the others.

    SourceError, beginning with ``place``, if it cannot be reached. A local one may turn out to be gone when opened.
    """
    place = f"{place}, path {path!r}"
    if is_address(path):
        with _reached(place):
            fs, whole = _filesystem(path, place, False)
            alone = _one_file(fs, whole, path) is not None
            root = whole.rpartition("/")[0] if alone else split_glob(whole)[0].rstrip("/")
        return RemoteFile(name, fs.unstrip_protocol(f"{root}/{name}"), place, fs, {})
    local = root_of(folder, path)
    return LocalFile(name, str(local), _is_below(local, name))


def _is_below(root: Path, name: str) -> bool:
    """Whether a link leads to a file below the root."""
    return (root / name).resolve().is_relative_to(root)


def is_address(path: str) -> bool:
    """Whether the path is a URL rather than a local path."""
    return _ADDRESS.match(path) is not None


def checked_path(path: str) -> str:
    """The path, if it can be used; a ``file://`` URL becomes a path. ValueError says what is wrong with it."""
    if not path:
        raise ValueError("the path is empty")
    if _CHAINED.search(path):
        raise ValueError("chained addresses (`::`) are not opened; unpack the archive, or name the files themselves")
    try:
        fitting(split_glob(path)[1])
    except re.error as error:
        raise ValueError(f"the glob is none ({error})") from error
    if not is_address(path):
        return path
    parts = urlsplit(path)
    if parts.username or parts.password or any(_SECRET.search(name) for name, _ in parse_qsl(parts.query)):
        raise ValueError(
            "the address carries credentials; leave them out and set the environment instead (such as "
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY for s3)"
        )
    if parts.scheme == "file":
        return parts.path
    if parts.scheme in _WEB and re.search(r"[*\[]", parts.path):
        raise ValueError("the web has no list of files, so an https address names one file; for many pages: kind http")
    return path


def _remote_files(url: str, place: str, allow_private: bool) -> list[SourceFile]:
    with _reached(place):
        fs, whole = _filesystem(url, place, allow_private)
        found = _one_file(fs, whole, url)
        if found is not None:
            return [RemoteFile(whole.rstrip("/").rsplit("/", 1)[-1], url, place, fs, found)]
        fixed, pattern = split_glob(whole)
        root = fixed.rstrip("/")
        entries = {str(name): info for name, info in fs.find(root, detail=True).items()}
    fits = fitting(pattern or "**")
    names = sorted(name[len(root) + 1 :] for name in entries if name.startswith(f"{root}/"))
    taken = [name for name in names if name and fits(name)]
    if not taken:
        raise SourceError(f"{place}: no file is there; put files there or correct `path`")
    return [
        RemoteFile(name, fs.unstrip_protocol(f"{root}/{name}"), place, fs, entries[f"{root}/{name}"]) for name in taken
    ]


def _filesystem(url: str, place: str, allow_private: bool) -> tuple[Any, str]:
    """The file system for an address, and the address as it wants it."""
    import fsspec

    protocol = urlsplit(url).scheme
    options: dict[str, Any] = {"use_listings_cache": False}
    if protocol in _WEB:
        options["get_client"] = partial(checked_client, allow_private)
    try:
        fs, whole = fsspec.core.url_to_fs(url, **options)
    except ImportError as error:
        wanted = _EXTRA.get(protocol, "fsspec's package for it")
        raise SourceError(f"{place}: {protocol} needs another package; install {wanted} ({error})") from error
    except ValueError as error:
        raise SourceError(f"{place}: {error}; correct `path`") from error
    fs.invalidate_cache()
    return fs, str(whole)


def _one_file(fs: Any, whole: str, url: str) -> Mapping[str, Any] | None:
    """What is known of the one file at an address; None if it is a folder or a glob."""
    if urlsplit(url).scheme not in _WEB and split_glob(whole)[1]:
        return None
    try:
        info: Mapping[str, Any] = fs.info(whole)
    except FileNotFoundError:
        if urlsplit(url).scheme in _WEB:
            raise
        return None
    return info if info.get("type", "file") == "file" else None


class _Explained(io.RawIOBase):
    """A remote file whose faults of the network are one line, and never taken for faults of the file."""

    def __init__(self, opened: Any, place: str) -> None:
        self._opened, self._place = opened, place

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return bool(self._opened.seekable())

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return int(self._try(lambda: self._opened.seek(offset, whence)))

    def tell(self) -> int:
        return int(self._opened.tell())

    def readinto(self, buffer: Any) -> int:
        data: bytes = self._try(lambda: self._opened.read(len(buffer)))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        if not self.closed:
            self._opened.close()
        super().close()

    def _try(self, function: Callable[[], T]) -> T:
        with _reached(self._place):
            return function()


@contextmanager
def _reached(place: str) -> Iterator[None]:
    """Say in one line what kept an address from being read, whichever library raises it."""
    try:
        yield
    except SourceError:
        raise
    except FileNotFoundError as error:
        # fsspec says so of whatever goes wrong on the web
        if error.__cause__ is None or getattr(error.__cause__, "status", None) in (404, 410):
            raise SourceError(f"{place}: there is no such file or folder; correct `path`") from error
        said = _said(error.__cause__)
        raise SourceError(f"{place}: it cannot be reached ({said}); try again, or correct `path`") from error
    except PermissionError as error:
        raise SourceError(
            f"{place}: access is denied; set the credentials in the environment ({_said(error)})"
        ) from error
    except Exception as error:  # each file system has exceptions of its own
        raise SourceError(f"{place}: it cannot be reached ({_said(error)}); try again, or correct `path`") from error


def _said(error: BaseException) -> str:
    """An exception's message on one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:300].rstrip(": ")
