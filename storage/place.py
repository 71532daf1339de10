"""A folder at an fsspec address: small files written whole, larger ones moved in and out, listed, deleted.

On a local disk a write goes to a file beside its place, is flushed and renamed, so a file is whole
or absent; on object storage a put is already all or nothing, and a conditional put (S3's
``If-None-Match``) lets one of several writers win. What object storage answers with a passing
fault is asked again, with growing pauses; what does not pass becomes one line.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from fsspec.implementations.local import LocalFileSystem

from storage.disk import beside, flush
from storage.errors import StoreUnavailable
from storage.faults import explained, in_short, patiently
from storage.filesystems import filesystem_at, is_s3, modified, parts_of, unfinished_uploads, without_user

PLUMBING = "it moves bytes; it makes none"

T = TypeVar("T")
R = TypeVar("R")

CONCURRENT_REQUESTS = 32
"""Requests that one place has under way at a time: object storage answers slowly, but many at once."""
CONCURRENT_TRANSFERS = 8
"""Files that one place moves at a time."""


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
        self.shown = without_user(url)
        """The address for messages, without a user's name and password."""
        self.fs, root = filesystem_at(url, CONCURRENT_REQUESTS)
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
        options = {"max_concurrency": 1} if is_s3(self.fs) else {}
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
        options = parts_of(path.stat().st_size) if is_s3(self.fs) else {}
        return self._create_or_overwrite(
            name, exclusive, lambda mode: self.fs.put_file(str(path), self.full(name), mode=mode, **options)
        )

    def download(self, name: str, path: Path) -> None:
        """Write the content to a local file. Raises FileNotFoundError if there is none."""
        options = parts_of(0) if is_s3(self.fs) else {}
        self._do(f"read {name}", lambda: self.fs.get_file(self.full(name), str(path), **options))

    # Looking, listing, deleting

    def size(self, name: str) -> int | None:
        """Bytes of a file, or None if there is none."""
        try:
            if self.local:
                with explained(self.root):
                    return os.stat(self.full(name)).st_size
            if not is_s3(self.fs):
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
                listed[name] = Stat(int(info["size"] or 0), modified(info))
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
        if not is_s3(self.fs):
            return 0
        bucket, _, prefix = self.root.partition("/")
        uploads = self._do("list uploads", lambda: unfinished_uploads(self.fs, bucket, prefix))
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
        """The request's answer, asked for again while it fails in passing; raises as ``patiently`` does."""
        if self.local:
            with explained(self.root):
                return request()
        return patiently(self.shown, what, request)
