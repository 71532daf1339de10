"""Lines of files that may be compressed, broken, or endless."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO

from tasks.sources.base import Bad
from tasks.sources.decompress import Unreadable, decompressed, faults_of
from tasks.sources.places import SourceFile

_BOM = b"\xef\xbb\xbf"


def numbered_lines(file: SourceFile, most: int) -> Iterator[tuple[int, bytes] | Bad]:
    """The lines of a file with their numbers, from 1, and with their ends; memory holds one.

    A line of more than ``most`` bytes is ``Bad`` (``line_too_long``) and skipped. A file that breaks off
    is ``Bad`` (``truncated``, ``corrupt`` or ``unreadable``) behind its last whole line.
    """
    number = 0
    try:
        with faults_of(file.name), file.open() as raw, decompressed(raw, file.name) as stream:
            while line := stream.readline(most + 1):
                number += 1
                if number == 1:
                    line = line.removeprefix(_BOM) or b"\n"
                if len(line) > most:
                    _skip_line(stream, line, most)
                    yield Bad(f"{file.name}:{number}", "line_too_long", f"it has more than {most:,} bytes")
                else:
                    yield number, line
    except Unreadable as error:
        yield Bad(file.name, error.reason, f"behind line {number}: {error}")


def _skip_line(stream: IO[bytes], line: bytes, most: int) -> None:
    while line and not line.endswith(b"\n"):
        line = stream.readline(most)
