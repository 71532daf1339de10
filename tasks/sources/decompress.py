"""Reading files that may be compressed."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zlib
from pathlib import Path
from typing import IO, cast

SUFFIXES = (".gz", ".bz2", ".xz", ".zst")
"""What is decompressed, by the end of the file's name."""


class Unreadable(Exception):
    """A file's bytes cannot be had; ``reason`` is one word to count it by."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(detail or reason)
        self.reason = reason


def inner_name(name: str) -> str:
    """The name without the suffix of its compression."""
    stem, dot, suffix = name.rpartition(".")
    return stem if dot and f".{suffix.lower()}" in SUFFIXES and stem else name


def read_bytes(path: Path, most: int) -> bytes:
    """The file's content, decompressed.

    Raises Unreadable: ``truncated`` or ``corrupt`` (a broken compressed file), ``too_large`` (more
    than ``most`` bytes: nothing beyond is decompressed), ``unreadable`` (permissions, disk).
    """
    try:
        with open_decompressed(path) as file:
            content = file.read(most + 1)
            if len(content) <= most:
                # The end of the stream, where checksums are, counts too.
                content += file.read(1)
    except EOFError as error:
        raise Unreadable("truncated", str(error)) from error
    except (zlib.error, lzma.LZMAError, gzip.BadGzipFile) as error:
        raise Unreadable("corrupt", str(error)) from error
    except OSError as error:
        broken = _suffix(path) in SUFFIXES and error.errno is None
        raise Unreadable(_reason(error) if broken else "unreadable", error.strerror or str(error)) from error
    if len(content) > most:
        raise Unreadable("too_large", f"more than {most:,} bytes")
    return content


def open_decompressed(path: Path) -> IO[bytes]:
    """Open for reading, through the decompressor that the file's name asks for."""
    match _suffix(path):
        case ".gz":
            return cast(IO[bytes], gzip.open(path, "rb"))
        case ".bz2":
            return bz2.open(path, "rb")
        case ".xz":
            return lzma.open(path, "rb")
        case ".zst":
            import pyarrow as pa

            return io.BufferedReader(cast(io.RawIOBase, pa.CompressedInputStream(pa.OSFile(str(path), "rb"), "zstd")))
    return path.open("rb")


def _suffix(path: Path) -> str:
    return path.suffix.lower()


def _reason(error: OSError) -> str:
    return "truncated" if "truncated" in str(error).lower() else "corrupt"
