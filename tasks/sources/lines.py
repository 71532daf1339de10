"""Lines of files that may be compressed, broken, or endless."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO, NamedTuple

from tasks.sources.base import Bad
from tasks.sources.decompress import Unreadable, decompressed, faults_of
from tasks.sources.places import SourceFile

BOM = b"\xef\xbb\xbf"


class Line(NamedTuple):
    """A line of a file."""

    number: int
    """From 1."""
    start: int
    """Where it begins in what is decompressed."""
    content: bytes
    """With its end; without a byte order mark."""


def numbered_lines(file: SourceFile, most: int) -> Iterator[Line | Bad]:
    """The lines of a file; memory holds one.

    A line of more than ``most`` bytes is ``Bad`` (``line_too_long``) and skipped. A file that breaks off
    is ``Bad`` (``truncated``, ``corrupt`` or ``unreadable``) behind its last whole line.
    """
    number = start = 0
    try:
        with faults_of(file.name), file.open() as raw, decompressed(raw, file.name) as stream:
            while line := stream.readline(most + 1):
                number += 1
                if len(line) > most:
                    start += len(line) + _skip_line(stream, line, most)
                    yield Bad(f"{file.name}:{number}", "line_too_long", f"it has more than {most:,} bytes")
                else:
                    yield Line(number, start, line.removeprefix(BOM) if number == 1 else line)
                    start += len(line)
    except Unreadable as error:
        yield Bad(file.name, error.reason, f"behind line {number}: {error}")


def _skip_line(stream: IO[bytes], line: bytes, most: int) -> int:
    """Read to the line's end; how many bytes that were."""
    skipped = 0
    while line and not line.endswith(b"\n"):
        line = stream.readline(most)
        skipped += len(line)
    return skipped
