"""Pages from WARC files, compressed or not, and from ARC files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import IO, ClassVar, Literal

from pydantic import Field

from tasks.sources.base import Bad, Item, Page, PassedOver
from tasks.sources.decompress import Unreadable
from tasks.sources.in_files import Containers, placed
from tasks.sources.places import SourceFile
from tasks.sources.sniff import content_type_of
from tasks.sources.warc.message import body_of, parsed
from tasks.sources.warc.records import Fault, Record, records_of

_HTTP = "application/http"
_ARC = "arc;"
_WEB = ("http://", "https://", "ftp://")


class Warc(Containers):
    """WARC and ARC files, plain or compressed: gzip, Zstandard (with a dictionary or without), LZ4, bzip2, xz.

    Pages are the bodies of responses with a status of 2xx, and the records ``resource`` and ``conversion`` (WET files),
    of the types in ``content_types``. ``url`` is the record's target, ``collected_at`` its date. Of several records of
    one URL in all files of the source the newest counts. A fault is quarantined, and the next record looked for.
    """

    libraries: ClassVar[tuple[str, ...]] = ("fastwarc",)
    endings: ClassVar[tuple[str, ...]] = (".warc", ".arc", ".wet")

    kind: Literal["warc"] = "warc"
    content_types: list[str] = Field(["text/html", "application/xhtml+xml", "text/plain"], min_length=1)
    """MIME types of the records that are pages; one that states none is taken if its content looks like such a type."""
    statuses: list[int] = Field([], json_schema_extra={"items": {"minimum": 100, "maximum": 599}})
    """HTTP statuses of the responses that are pages; empty for all from 200 to 299."""
    records: list[Literal["response", "resource", "conversion"]] = Field(
        ["response", "resource", "conversion"], min_length=1
    )
    """The types of record that are pages."""

    def pages_of(self, file: SourceFile) -> Iterator[Item]:
        try:
            with file.open() as raw:
                for record in records_of(raw, self.max_page_bytes, frozenset(self.records)):
                    found = self._found(file.name, record)
                    alone = isinstance(record, Record) and record.alone
                    yield placed(found, file.name, record.place) if alone else found
        except OSError as error:
            yield Bad(file.name, "unreadable", error.strerror or str(error))

    def pages_at(self, raw: IO[bytes], name: str) -> Callable[[int], Item]:
        def read(offset: int) -> Item:
            raw.seek(offset)
            for record in records_of(raw, self.max_page_bytes, frozenset(self.records)):
                return self._found(name, record)
            return Bad(f"{name}:{offset}", "truncated", "the file ends there")

        return read

    def _found(self, name: str, record: Record | Fault) -> Page | Bad | PassedOver:
        place = f"{name}:{record.place}"
        if isinstance(record, Fault):
            return Bad(place, record.reason, record.detail)
        return self._page(place, record)

    def _page(self, place: str, record: Record) -> Page | Bad | PassedOver:
        if not record.url.lower().startswith(_WEB):
            return PassedOver(place, "not_a_page")  # a crawler's notes, or a look-up of a name
        if record.block is None:
            return PassedOver(record.url, "too_large")
        try:
            return self._body(record, record.block)
        except Unreadable as error:
            if error.reason == "too_large":
                return PassedOver(record.url, error.reason)
            return Bad(place, error.reason, f"{record.url}: {error}"[:1000])

    def _body(self, record: Record, block: bytes) -> Page | PassedOver:
        """The page in a record's block. Raises Unreadable for a body that cannot be decoded."""
        stated, body = record.content_type, block
        message = parsed(block) if stated.startswith((_HTTP, _ARC)) or not stated else None
        if message is not None:
            if not (message.status in self.statuses if self.statuses else 200 <= message.status < 300):
                return PassedOver(record.url, "status")
            stated = message.headers.get("content-type", "")
        elif stated.startswith(_ARC):
            stated = stated.removeprefix(_ARC).strip()
        elif stated.startswith(_HTTP):
            raise Unreadable("http", f"no response begins with {block[:40]!r}")
        if stated and not self._wanted(stated):
            return PassedOver(record.url, "not_a_page")
        if message is not None:
            body = body_of(message, self.max_page_bytes)
        if not body.strip():
            return PassedOver(record.url, "empty")
        content_type = stated or content_type_of("", body)
        if content_type is None or not self._wanted(content_type):
            return PassedOver(record.url, "not_a_page")
        return Page(record.url, body, content_type, record.date)

    def _wanted(self, content_type: str) -> bool:
        return content_type.partition(";")[0].strip().lower() in self.content_types
