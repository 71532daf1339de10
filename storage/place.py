"""A folder at an fsspec address: small files written whole, larger ones moved in and out, listed, deleted.

On a local disk a write goes to a file beside its place, is flushed and renamed, so a file is whole
or absent; on object storage a put is already all or nothing, and a conditional put (S3's
``If-None-Match``) lets one of several writers win. What object storage answers with a passing
fault is asked again, with growing pauses; what does not pass becomes one line.
"""

from __future__ import annotations

import os
import random
import re
import tempfile
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import fsspec
from fsspec.implementations.local import LocalFileSystem

from storage.disk import flush
from storage.errors import StoreUnavailable, UserError
from storage.faults import explained, faults, hopeless, in_short, is_precondition

PLUMBING = "it moves bytes; it makes none"

T = TypeVar("T")
R = TypeVar("R")

CONCURRENT_REQUESTS = 32
"""Requests that one place has under way at a time: object storage answers slowly, but many at once."""
CONCURRENT_TRANSFERS = 8
"""Files that one place moves at a time."""
PART_BYTES = 8 * 2**20
"""Larger files go to and from S3 in parts of so many bytes, a few at a time: together with the number of files
this bounds the memory that transfers take (to 256 MiB)."""
_PARTS_AT_A_TIME = 4
_MOST_PARTS = 9_000
"""S3 takes 10,000 parts; larger files have larger ones."""
PATIENCE_SECONDS = 120.0
"""How long a request that fails in passing is tried again before the store counts as out of reach."""
_FIRST_PAUSE_SECONDS = 0.2
_LONGEST_PAUSE_SECONDS = 15.0

# The pauses that matter are ours (above), so that one place decides how long a fault may last. The client below tries
# a few times at once, so that one failed part of a large file does not cost the whole.
_S3_OPTIONS = {
    "config_kwargs": {
        "connect_timeout": 10,
        "read_timeout": 60,
        "retries": {"mode": "standard", "max_attempts": 3},
        "max_pool_connections": CONCURRENT_REQUESTS,
    }
}
_USER = r"//[^/@]*@"
"""A user's name and password in a URL."""


@dataclass(frozen=True)
class Stat:
    """What a listing says of a file."""

    bytes: int
    modified: float
    """Seconds since 1970, by the clock of whoever keeps the file."""


class Place:
    """A folder at a path or any fsspec URL. Every error that is not the caller's is StoreUnavailable, in one line."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.shown = re.sub(_USER, "//", url)
        """The address for messages, without a user's name and password."""
        self.fs, root = _filesystem(url)
        self.root = str(root).rstrip("/")
        self.local = isinstance(self.fs, LocalFileSystem)

    def full(self, name: str) -> str:
        return f"{self.root}/{name}"

    # Small files

    def read(self, name: str) -> bytes | None:
        """Content of a small file, or None if there is none."""
        if self.local:  # as fsspec would, without its four looks at the file
            try:
                with explained(self.root), open(self.full(name), "rb") as file:
                    return file.read()
            except FileNotFoundError:
                return None
        # s3fs would first ask for the size, to read large files in parts.
        options = {"max_concurrency": 1} if _is_s3(self.fs) else {}
        try:
            content: bytes = self._do(f"read {name}", lambda: self.fs.cat_file(self.full(name), **options))
        except FileNotFoundError:
            return None
        return content

    def read_part(self, name: str, start: int, end: int) -> bytes | None:
        """The bytes of a file from ``start`` to before ``end``, or None if there is none."""
        try:
            part: bytes = self._do(f"read {name}", lambda: self.fs.cat_file(self.full(name), start=start, end=end))
        except FileNotFoundError:
            return None
        return part

    def write(self, name: str, content: bytes, *, exclusive: bool = False, flushed: bool = True) -> bool:
        """Write a small file whole; with ``exclusive``, only if there is none. Whether it was written.

        With ``flushed`` false it may be lost, or be garbled, when the power fails soon after.
        On object storage a lost answer to an exclusive write is asked again and then finds the file
        there: False may mean that it was this very call that wrote it. Whoever must know reads it.
        """
        if not self.local:
            return self._create_or_overwrite(
                name, exclusive, lambda mode: self.fs.pipe_file(self.full(name), content, mode=mode)
            )
        with explained(self.full(name)):
            path = Path(self.full(name))
            beside_it = beside(path)
            try:
                beside_it.write_bytes(content)
                if flushed:
                    flush(beside_it)
                if not exclusive:
                    os.replace(beside_it, path)
                    return True
                try:
                    os.link(beside_it, path)
                except FileExistsError:
                    return False
                return True
            finally:
                beside_it.unlink(missing_ok=True)
                if flushed:
                    flush(path.parent)

    # Large files, to and from object storage

    def upload(self, path: Path, name: str, *, exclusive: bool = False) -> bool:
        """Put a local file's content there; with ``exclusive``, only if there is none. Whether it was written.

        Nothing is visible before all of it is.
        """
        options = _parts_of(path.stat().st_size) if _is_s3(self.fs) else {}
        return self._create_or_overwrite(
            name, exclusive, lambda mode: self.fs.put_file(str(path), self.full(name), mode=mode, **options)
        )

    def download(self, name: str, path: Path) -> None:
        """Write the content to a local file. Raises FileNotFoundError if there is none."""
        options = _parts_of(0) if _is_s3(self.fs) else {}
        self._do(f"read {name}", lambda: self.fs.get_file(self.full(name), str(path), **options))

    # Looking, listing, deleting

    def size(self, name: str) -> int | None:
        """Bytes of a file, or None if there is none."""
        try:
            if self.local:
                with explained(self.root):
                    return os.stat(self.full(name)).st_size
            if not _is_s3(self.fs):
                return int(self._do(f"look for {name}", lambda: self.fs.size(self.full(name))))
            # s3fs would next ask whether it is a folder.
            bucket, _, key = self.full(name).partition("/")
            head = self._do(f"look for {name}", lambda: self.fs.call_s3("head_object", Bucket=bucket, Key=key))
            return int(head["ContentLength"])
        except FileNotFoundError:
            return None

    def names(self, folder: str) -> list[str]:
        """Sorted names of the files anywhere below ``folder``, relative to it."""
        return sorted(self.stats(folder))

    def stats(self, folder: str) -> dict[str, Stat]:
        """Size and time of every file anywhere below ``folder``, by its name relative to it; one request a thousand."""
        base = self.full(folder)
        try:
            found = self._do(f"list {folder}", lambda: self.fs.find(base, detail=True))
        except FileNotFoundError:
            return {}
        listed = {}
        for path, info in found.items():
            name = PurePosixPath(str(path)).relative_to(base).as_posix()
            if not PurePosixPath(name).name.startswith(".") and name != ".":
                listed[name] = Stat(int(info["size"] or 0), _modified(info))
        return listed

    def folders(self, folder: str) -> list[str]:
        """Sorted names of the folders directly in ``folder``."""
        try:
            entries = self._do(f"list {folder}", lambda: self.fs.ls(self.full(folder), detail=True))
        except FileNotFoundError:
            return []
        return sorted(PurePosixPath(str(e["name"])).name for e in entries if e["type"] == "directory")

    def delete(self, name: str) -> None:
        try:
            self._do(f"delete {name}", lambda: self.fs.rm_file(self.full(name)))
        except FileNotFoundError:
            return

    def each(self, work: Callable[[T], R], items: Iterable[T], at_once: int = CONCURRENT_REQUESTS) -> list[R]:
        """``work`` for every item, in order; on object storage many ``at_once``."""
        items = list(items)
        if self.local or len(items) < 2:
            return [work(item) for item in items]
        with ThreadPoolExecutor(min(at_once, len(items)), thread_name_prefix="store") as threads:
            return list(threads.map(work, items))

    # Uploads that were cut off

    def abandon_uploads(self, older_than: float, *, dry_run: bool = False) -> int:
        """Free the parts of uploads begun before ``older_than`` (seconds since 1970) that were never completed.

        They are invisible, but are paid for. Returns how many uploads there are of that kind.
        """
        if not _is_s3(self.fs):
            return 0
        bucket, _, prefix = self.root.partition("/")
        uploads = self._do("list uploads", lambda: _unfinished_uploads(self.fs, bucket, prefix))
        old = [upload for upload in uploads if upload["Initiated"].timestamp() < older_than]
        for upload in [] if dry_run else old:
            names = {"Bucket": bucket, "Key": upload["Key"], "UploadId": upload["UploadId"]}
            abort = partial(self.fs.call_s3, "abort_multipart_upload", **names)
            try:
                self._do("abort an upload", abort)
            except FileNotFoundError:  # somebody else was faster
                continue
        return len(old)

    # Faults

    def _create_or_overwrite(self, name: str, exclusive: bool, put: Callable[[str], Any]) -> bool:
        try:
            self._do(f"write {name}", lambda: put("create" if exclusive else "overwrite"))
        except FileExistsError:
            return False
        except FileNotFoundError as error:
            raise StoreUnavailable(
                f"{self.shown}: cannot write {name}: {in_short(error)}; create the bucket, or correct the address"
            ) from error
        return True

    def _do(self, what: str, request: Callable[[], R]) -> R:
        """The request's answer, asked for again while it fails in passing.

        Raises FileNotFoundError and FileExistsError as they come, anything else as StoreUnavailable.
        """
        if self.local:
            with explained(self.root):
                return request()
        started, pause = time.monotonic(), _FIRST_PAUSE_SECONDS
        while True:
            try:
                return request()
            except faults() as error:
                if isinstance(error, FileExistsError) or is_precondition(error):
                    raise FileExistsError(what) from error
                if isinstance(error, FileNotFoundError):
                    raise
                if (remedy := hopeless(error)) is not None:
                    raise StoreUnavailable(f"{self.shown}: cannot {what}: {in_short(error)}; {remedy}") from error
                waited = time.monotonic() - started
                if waited + pause > PATIENCE_SECONDS:
                    raise StoreUnavailable(
                        f"{self.shown}: cannot {what} for {waited:.0f} s: {in_short(error)}; check the network and the "
                        "endpoint, then run again: what is finished is kept"
                    ) from error
            # Many clients that were throttled together must not come back together.
            time.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)


def _filesystem(url: str) -> tuple[Any, str]:
    # Listings are never remembered: other hosts write to the same store.
    options: dict[str, Any] = {"use_listings_cache": False}
    protocol, shown = fsspec.utils.get_protocol(url), re.sub(_USER, "//", url)
    if protocol in ("s3", "s3a"):
        options |= _S3_OPTIONS
    try:
        filesystem, root = fsspec.core.url_to_fs(url, **options)
    except ImportError as error:
        extra = "pip install 'athanor[s3]'" if protocol in ("s3", "s3a") else str(error)
        raise UserError(f"store {shown}: {protocol}:// needs a library that is not installed: {extra}") from error
    except ValueError as error:
        raise UserError(f"store {shown}: {error}; give a path, or a URL such as s3://BUCKET/FOLDER") from error
    if _is_s3(filesystem):
        filesystem.retries = 1  # its own pauses, on top of the client's and ours
    return filesystem, str(root)


def _parts_of(size: int) -> dict[str, int]:
    """How s3fs is to move a file of so many bytes."""
    return {"chunksize": max(PART_BYTES, -(-size // _MOST_PARTS)), "max_concurrency": _PARTS_AT_A_TIME}


def _is_s3(filesystem: Any) -> bool:
    return "s3" in filesystem.protocol


def _modified(info: dict[str, Any]) -> float:
    """Seconds since 1970 from what a filesystem lists; the epoch's future where it says nothing."""
    for name in ("LastModified", "mtime", "updated", "last_modified", "modified", "created"):
        value = info.get(name)
        if isinstance(value, (int, float)):
            return float(value)
        if isinstance(value, str) and value:
            value = datetime.fromisoformat(value)
        if isinstance(value, datetime):
            return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
    return float("inf")  # of unknown age: nothing may take it for old


def _unfinished_uploads(filesystem: Any, bucket: str, prefix: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    marks: dict[str, str] = {}
    while True:
        answer = filesystem.call_s3("list_multipart_uploads", Bucket=bucket, Prefix=prefix, **marks)
        found += answer.get("Uploads", [])
        if not answer.get("IsTruncated"):
            return found
        marks = {"KeyMarker": answer["NextKeyMarker"], "UploadIdMarker": answer["NextUploadIdMarker"]}


def beside(path: Path) -> Path:
    """An empty hidden file in the folder where ``path`` will be, on the same disk hence renamed in one step."""
    try:
        handle, name = tempfile.mkstemp(prefix=".", dir=path.parent)
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=".", dir=path.parent)
    os.close(handle)
    return Path(name)
