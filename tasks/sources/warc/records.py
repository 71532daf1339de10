"""Records of WARC files (ISO 28500) and of ARC files, their predecessors."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import IO

from tasks.sources.decompress import Unreadable
from tasks.sources.warc.stream import Stream

_MOST_LINE = 1 << 16
_MOST_HEADERS = 1000
_WARC = re.compile(rb"WARC/\d")
_ARC_START = b"filedesc://"
_SCHEME = re.compile(rb"[A-Za-z][A-Za-z0-9+.-]{0,30}:")
_ARC_FIELDS = 4
"""Behind the URL: IP address, date, type, length (version 1; version 2 has five more before the length)."""


@dataclass(frozen=True)
class Record:
    """A record of a WARC or ARC file."""

    place: int
    """Where its compressed member begins in the file, or the record in what is decompressed."""
    alone: bool
    """Whether it begins where a compressed member, or a file that is not compressed, can be opened."""
    type: str
    """``response``, ``resource``, ``conversion``, ``request`` …; of an ARC file always ``response``."""
    url: str
    content_type: str
    """Of the block: ``application/http; msgtype=response``, or the page's own."""
    date: datetime | None
    block: bytes | None
    """None if it is larger than was asked for."""


@dataclass(frozen=True)
class Fault:
    """A place where the file breaks the rules; ``reason`` is counted."""

    place: int
    reason: str
    detail: str


def records_of(raw: IO[bytes], most: int, wanted: frozenset[str]) -> Iterator[Record | Fault]:
    """The records of a file whose type is ``wanted``, in their order, and the faults between them.

    A block of more than ``most`` bytes is passed over. After a fault the next record is looked for:
    where a line begins with ``WARC/``, or the next compressed member does.
    """
    reader = _Reader(Stream(raw), most, wanted)
    while True:
        try:
            found = reader.next()
        except Unreadable as error:
            yield Fault(max(reader.place, reader.stream.latest_member()), error.reason, str(error))
            if not reader.stream.resume():
                return
            reader.searching = True
            continue
        if found is None:
            return
        yield found


class _Malformed(Exception):
    """A record's head is none."""


class _Reader:
    def __init__(self, stream: Stream, most: int, wanted: frozenset[str]) -> None:
        self.stream, self._most, self._wanted = stream, most, wanted
        self.place = 0
        """Where the record begins that is being read."""
        self.searching = False
        """Whether the next record is looked for behind a fault that was reported."""
        self._alone = True
        self._arc_fields = _ARC_FIELDS
        self._cut: Fault | None = None
        """What is to be said behind the last record."""

    def next(self) -> Record | Fault | None:
        """The next wanted record, or a fault; None at the end. Raises Unreadable."""
        while True:
            line = self._first_line()
            if not line:
                cut, self._cut = self._cut, None
                return cut
            try:
                record = self._warc(line) if _WARC.match(line) else self._arc(line)
            except _Malformed as error:
                if not self.searching:
                    self.searching = True
                    return Fault(self.place, "framing", str(error))
                continue
            self.searching = False
            if record is not None:
                return record

    def _first_line(self) -> bytes:
        """The first line of the next record, with the empty lines before it passed over."""
        while True:
            member = self.stream.member()
            self.place, self._alone = (self.stream.position if member is None else member), member is not None
            line = self.stream.line(_MOST_LINE)
            if not line or line.strip():
                return line

    def _warc(self, first: bytes) -> Record | None:
        if not first.endswith(b"\n"):
            raise Unreadable("truncated", "the file ends within the head of a record")
        headers = self._headers()
        length = headers.get("content-length", "")
        if not length.isascii() or not length.isdigit() or len(length) > 18:
            raise _Malformed(f"the record's Content-Length is {length[:30]!r}")
        kind = headers.get("warc-type", "").lower()
        block = self._block(int(length), kind in self._wanted)
        self._end_of_block()
        if kind not in self._wanted:
            return None
        url = headers.get("warc-target-uri", "").strip("<> ")
        date = _iso_date(headers.get("warc-date", ""))
        return Record(self.place, self._alone, kind, url, headers.get("content-type", ""), date, block)

    def _end_of_block(self) -> None:
        """Two line ends follow a block. A file that ends before them was cut, though not within the record."""
        for _ in range(2):
            if self.stream.at_end_of_member():
                return  # some writers leave them out, where compression ends a record all the same
            line = self.stream.line(2)
            if line.strip() or (line and not line.endswith(b"\n")):
                raise _Malformed(f"a record does not end where its Content-Length says: {line!r}")
            if not line:
                self._cut = Fault(self.place, "truncated", "the file ends within the end of a record")
                return

    def _headers(self) -> dict[str, str]:
        """The head of a record, names in lower case; the first of equal names counts."""
        headers: dict[str, str] = {}
        last = ""
        for _ in range(_MOST_HEADERS):
            line = self.stream.line(_MOST_LINE)
            if not line.endswith(b"\n"):
                if len(line) >= _MOST_LINE:
                    break
                raise Unreadable("truncated", "the file ends within the head of a record")
            if not line.strip():
                return headers
            text = line.decode("utf-8", "replace").rstrip("\r\n")
            name, colon, value = text.partition(":")
            if text[0] in " \t" and last:
                headers[last] += " " + text.strip()
            elif colon:
                last = name.strip().lower()
                headers.setdefault(last, value.strip())
        raise _Malformed("the head of a record has no end")

    def _block(self, length: int, wanted: bool) -> bytes | None:
        if wanted and length <= self._most:
            return self.stream.read(length)
        self.stream.skip(length)
        return None

    def _arc(self, line: bytes) -> Record | None:
        """A record of an ARC file: a line ``URL IP-address Archive-date Content-type … Archive-length``, then bytes."""
        if not _SCHEME.match(line):
            raise _Malformed(f"no record begins with {line[:40]!r}")
        if not line.endswith(b"\n"):
            raise Unreadable("truncated", "the file ends within the head of a record")
        text = line.decode("utf-8", "replace").strip()
        fields = text.rsplit(" ", self._arc_fields)
        length = fields[-1]
        if len(fields) <= self._arc_fields or not length.isascii() or not length.isdigit() or len(length) > 18:
            raise _Malformed(f"no record begins with {line[:40]!r}")
        if line.startswith(_ARC_START):
            described = self.stream.read(min(int(length), _MOST_LINE))
            self._arc_fields = 9 if described.lstrip().startswith(b"2") else _ARC_FIELDS
            self.stream.skip(int(length) - len(described))
            return None
        block = self._block(int(length), "response" in self._wanted)
        if "response" not in self._wanted:
            return None
        date = _arc_date(fields[2])
        alone = self._alone and self._arc_fields == _ARC_FIELDS  # which other files' first record would have to tell
        return Record(self.place, alone, "response", fields[0], f"arc; {fields[3]}", date, block)


def _iso_date(text: str) -> datetime | None:
    try:
        found = datetime.fromisoformat(text[:26] + "Z" if text.endswith("Z") and len(text) > 27 else text)
    except ValueError:
        return None
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)


def _arc_date(text: str) -> datetime | None:
    """``YYYYMMDDhhmmss``."""
    try:
        return datetime.strptime(text[:14], "%Y%m%d%H%M%S").replace(tzinfo=UTC)
    except ValueError:
        return None
