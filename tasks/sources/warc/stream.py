"""The decompressed bytes of a WARC file, with the places in the file where its compressed members begin."""

from __future__ import annotations

import io
import zlib
from collections import deque
from collections.abc import Iterator
from typing import IO, Any, cast

from tasks.sources.decompress import Unreadable, UpToTheFault, decompressed, faults_of, suffix_by_content

_READ_BYTES = 1 << 16
_MOST_OUT = 1 << 20
"""A compressed piece gives at most so many bytes at once, however well it is compressed."""
_GZIP = b"\x1f\x8b\x08"
_GZIP_WINDOW = 31


class Stream:
    """Lines and runs of bytes from a plain or compressed file, whatever it is called. Memory: a few pieces of it.

    Every method raises Unreadable (``truncated``, ``corrupt``, ``unreadable``) where the file breaks; what
    came before it has been given.
    """

    def __init__(self, raw: IO[bytes]) -> None:
        self._compression = suffix_by_content(cast(io.BufferedReader, raw).peek(6)[:6])
        self._members = _Gunzipped(raw) if self._compression == ".gz" else None
        self._pieces = iter(self._members) if self._members else _pieces(raw, self._compression)
        self._data = b""
        """Decompressed and, from ``_next`` on, not yet given."""
        self._next = 0
        self.position = 0
        """Decompressed bytes given so far."""

    def member(self) -> int | None:
        """Where in the file a reader can begin, to have the next byte first; None if it would have to begin before."""
        self._fill(1)
        if self._members:
            return self._members.starts_at(self.position)
        return None if self._compression else self.position

    def latest_member(self) -> int:
        """Where the compressed member begins that was opened last; 0 without members."""
        return self._members.latest if self._members else 0

    def at_end_of_member(self) -> bool:
        """Whether a compressed member, but not the file, ends here."""
        return self._members is not None and self.member() is not None

    def line(self, most: int) -> bytes:
        """The next line with its end; empty at the end of the file. At most ``most`` bytes of it."""
        while (end := self._data.find(b"\n", self._next, self._next + most)) < 0:
            there = len(self._data) - self._next
            if there >= most or not self._fill(there + 1):
                return self._take(most)
        return self._take(end + 1 - self._next)

    def read(self, size: int) -> bytes:
        """The next ``size`` bytes. Raises Unreadable (``truncated``) if there are fewer."""
        if not self._fill(size):
            there = len(self._data) - self._next
            raise Unreadable("truncated", f"{size:,} bytes announced, {there:,} there")
        return self._take(size)

    def skip(self, size: int) -> None:
        """Pass over the next ``size`` bytes. Raises Unreadable as ``read`` does."""
        while size > 0:
            size -= len(self.read(min(size, _MOST_OUT)))

    def resume(self) -> bool:
        """After a fault of the compression: go on with the next compressed member, if there is one."""
        if self._members is None:
            return False
        self._data, self._next = b"", 0
        self._pieces = iter(self._members)
        return self._members.resume(self.position)

    def _fill(self, size: int) -> bool:
        """Have ``size`` bytes at hand; whether there are so many. What came before a fault is kept."""
        there = len(self._data) - self._next
        if there >= size:
            return True
        parts = [self._data[self._next :]]
        try:
            with faults_of(self._compression):
                while there < size and (piece := next(self._pieces, b"")):
                    parts.append(piece)
                    there += len(piece)
        finally:
            self._data, self._next = b"".join(parts), 0
        return there >= size

    def _take(self, size: int) -> bytes:
        taken = self._data[self._next : self._next + size]
        self._next += len(taken)
        self.position += len(taken)
        return taken


def _pieces(raw: IO[bytes], suffix: str) -> Iterator[bytes]:
    """Decompressed pieces of a file that is no gzip."""
    # read1, unlike read, loses nothing that came before a fault.
    stream = cast(io.BufferedReader, _zstd(raw) if suffix == ".zst" else decompressed(raw, suffix))
    while piece := stream.read1(_READ_BYTES):
        yield piece


def _zstd(raw: IO[bytes]) -> IO[bytes]:
    """A reader of ``.warc.zst``, which may begin with a dictionary in a frame of its own (the IIPC's proposal)."""

    def opened(file: IO[bytes]) -> Any:
        from fastwarc.stream_io import ZstdReader

        return ZstdReader(cast(io.BufferedReader, file))

    return io.BufferedReader(UpToTheFault(raw, opened), _READ_BYTES)


class _Gunzipped:
    """The members of a gzip file, one after the other, and where each begins.

    Python's own ``gzip`` hides where a member begins, and what lies behind a broken one.
    """

    def __init__(self, raw: IO[bytes]) -> None:
        self._raw = raw
        self._data = b""
        """Read and not yet decompressed."""
        self._at = 0
        """Where ``_data`` begins in the file."""
        self._given = 0
        """Decompressed bytes given so far."""
        self._starts: deque[tuple[int, int]] = deque(maxlen=4096)
        """The latest members: decompressed bytes given before, and place in the file."""
        self.latest = 0
        """Where the latest member begins in the file."""

    def starts_at(self, position: int) -> int | None:
        """Where the member begins whose first byte is the ``position``-th decompressed one."""
        while self._starts and self._starts[0][0] < position:
            self._starts.popleft()
        return self._starts[0][1] if self._starts and self._starts[0][0] == position else None

    def __iter__(self) -> Iterator[bytes]:
        while self._next_member():
            member = zlib.decompressobj(_GZIP_WINDOW)
            while not member.eof:
                if not self._data and not self._read():
                    raise Unreadable("truncated", f"the file ends within a compressed member, at byte {self._at:,}")
                piece = member.decompress(self._data, _MOST_OUT)
                left = member.unused_data if member.eof else member.unconsumed_tail
                self._at += len(self._data) - len(left)
                self._data = left
                if piece:
                    self._given += len(piece)
                    yield piece

    def resume(self, position: int) -> bool:
        """Find the next member behind a fault; ``position`` is where the decompressed bytes go on."""
        self._given = position
        self._starts.clear()
        self._drop(1)  # not the same member again
        while True:
            found = self._data.find(_GZIP)
            if found >= 0:
                self._drop(found)
                return True
            self._drop(max(0, len(self._data) - len(_GZIP) + 1))
            if not self._read():
                return False

    def _next_member(self) -> bool:
        """Whether another member follows; zeros between members are padding."""
        while True:
            stripped = self._data.lstrip(b"\0")
            self._drop(len(self._data) - len(stripped))
            if self._data or not self._read():
                break
        if self._data:
            self._starts.append((self._given, self._at))
            self.latest = self._at
        return bool(self._data)

    def _read(self) -> bool:
        more = self._raw.read(_READ_BYTES)
        self._data += more
        return bool(more)

    def _drop(self, size: int) -> None:
        self._data = self._data[size:]
        self._at += size
