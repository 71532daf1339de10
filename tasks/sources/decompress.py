"""Reading files that may be compressed."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Any, cast

SUFFIXES = (".gz", ".bz2", ".xz", ".zst", ".lz4")
"""What is decompressed, by the end of the file's name."""

_SIGNATURES = {
    b"\x1f\x8b": ".gz",
    b"BZh": ".bz2",
    b"\xfd7zXZ": ".xz",
    b"\x28\xb5\x2f\xfd": ".zst",
    b"\x04\x22\x4d\x18": ".lz4",
}
_SKIPPED = b"\x2a\x4d\x18"
"""Behind its first byte (0x50 to 0x5F) the signature of a frame that readers of Zstandard and LZ4 skip."""


class Unreadable(Exception):
    """A file's bytes cannot be had; ``reason`` is one word to count it by."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(detail or reason)
        self.reason = reason


def inner_name(name: str) -> str:
    """The name without the suffix of its compression."""
    stem, dot, suffix = name.rpartition(".")
    return stem if dot and f".{suffix.lower()}" in SUFFIXES and stem else name


def suffix_of(name: str) -> str:
    """The suffix of the name's compression, in lower case; empty if there is none."""
    lower = name.lower()
    return next((suffix for suffix in SUFFIXES if lower.endswith(suffix)), "")


def suffix_by_content(head: bytes) -> str:
    """The suffix for the compression that a file's first bytes show; empty if they show none."""
    if head[:1] and head[0] & 0xF0 == 0x50 and head[1:4] == _SKIPPED:
        return ".zst"
    return next((suffix for start, suffix in _SIGNATURES.items() if head.startswith(start)), "")


def read_bytes(opened: Callable[[], IO[bytes]], name: str, most: int) -> bytes:
    """The whole content of the file that ``opened`` opens, decompressed as its ``name`` asks for.

    Raises Unreadable: ``truncated`` or ``corrupt`` (a broken compressed file), ``too_large`` (more
    than ``most`` bytes: nothing beyond is decompressed), ``unreadable`` (permissions, disk).
    """
    with faults_of(name), opened() as raw, decompressed(raw, name) as file:
        content = file.read(most + 1)
        if len(content) <= most:
            # The end of the stream, where checksums are, counts too.
            content += file.read(1)
    if len(content) > most:
        raise Unreadable("too_large", f"more than {most:,} bytes")
    return content


@contextmanager
def faults_of(name: str) -> Iterator[None]:
    """Turn what decompressors and the operating system raise into Unreadable."""
    try:
        yield
    except EOFError as error:
        raise Unreadable("truncated", str(error)) from error
    except (zlib.error, lzma.LZMAError, gzip.BadGzipFile) as error:
        begins = str(error).endswith("(b'\\x1f')")  # of the next member there is one byte
        raise Unreadable("truncated" if begins else "corrupt", str(error)) from error
    except OSError as error:
        broken = suffix_of(name) and error.errno is None
        raise Unreadable(_reason(error) if broken else "unreadable", error.strerror or str(error)) from error


def decompressed(raw: IO[bytes], name: str) -> IO[bytes]:
    """``raw`` through the decompressor that the file's name asks for. Faults are those that ``faults_of`` knows."""
    match suffix_of(name):
        case ".gz":
            return cast(IO[bytes], gzip.GzipFile(fileobj=raw, mode="rb"))
        case ".bz2":
            return cast(IO[bytes], bz2.BZ2File(raw, "rb"))
        case ".xz":
            return cast(IO[bytes], lzma.LZMAFile(raw, "rb"))
        case ".zst":
            return _through_arrow(raw, "zstd")
        case ".lz4":
            return _through_arrow(raw, "lz4")
    return raw


class UpToTheFault(io.RawIOBase):
    """A decompressor that gives all there is before a fault.

    Those of Zstandard and LZ4 fail as a whole where a part of what was asked for could be had. So behind a
    failure the file is decompressed once more, and read byte by byte from where it was.
    """

    def __init__(self, raw: IO[bytes], opened: Callable[[IO[bytes]], Any]) -> None:
        self._raw, self._opened = raw, opened
        self._stream = opened(raw)
        self._given = 0
        self._error: OSError | None = None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if self._error is not None:
            data = self._stream.read(1)  # raises again where the fault is
        else:
            try:
                data = self._stream.read(len(buffer))
            except OSError as error:
                self._again(error)
                data = self._stream.read(1)
        buffer[: len(data)] = data
        self._given += len(data)
        return len(data)

    def _again(self, error: OSError) -> None:
        if error.errno is not None or not self._raw.seekable():
            raise error
        self._error, self._failed = error, self._stream  # kept, for Arrow's would close the file as it goes
        self._raw.seek(0)
        self._stream = self._opened(self._raw)
        left = self._given
        while left:
            left -= len(self._stream.read(min(left, 1 << 16)))


def _through_arrow(raw: IO[bytes], codec: str) -> IO[bytes]:
    def opened(file: IO[bytes]) -> Any:
        import pyarrow as pa

        return pa.CompressedInputStream(pa.PythonFile(file, "r"), codec)

    return io.BufferedReader(UpToTheFault(raw, opened))


def _reason(error: OSError) -> str:
    said = str(error).lower()
    # "incomplete" and "fill" are the words of FastWARC's readers
    return "truncated" if any(word in said for word in ("truncated", "incomplete", "fill")) else "corrupt"
