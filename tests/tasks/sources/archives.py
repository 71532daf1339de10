"""WARC and ARC files made for tests, whole and broken."""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from tasks.context import PlainWorld
from tasks.sources.base import Bad, Item, Page, PassedOver, Source


@dataclass(frozen=True)
class Made:
    """A record to be written."""

    url: str
    body: bytes = b"<p>words</p>"
    status: int = 200
    headers: dict[str, str] = field(default_factory=lambda: {"Content-Type": "text/html; charset=utf-8"})
    date: str = "2024-05-06T07:08:09Z"
    type: str = "response"
    warc_headers: dict[str, str] = field(default_factory=dict)

    def http(self) -> bytes:
        lines = [f"HTTP/1.1 {self.status} Said", *(f"{name}: {value}" for name, value in self.headers.items())]
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + self.body

    def warc(self) -> bytes:
        block = self.http() if self.type in ("response", "request") else self.body
        head = {
            "WARC-Type": self.type,
            "WARC-Target-URI": self.url,
            "WARC-Date": self.date,
            "Content-Type": f"application/http; msgtype={self.type}",
            "Content-Length": str(len(block)),
        } | self.warc_headers
        lines = ["WARC/1.1", *(f"{name}: {value}" for name, value in head.items())]
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + block + b"\r\n\r\n"

    def arc(self) -> bytes:
        stamp = "".join(filter(str.isdigit, self.date))
        return f"{self.url} 192.0.2.1 {stamp} text/html {len(self.http())}\n".encode() + self.http() + b"\n"


INFO = Made("", b"software: a test\r\n", type="warcinfo", warc_headers={"Content-Type": "application/warc-fields"})
ARC_HEAD = (
    b"filedesc://x.arc 0.0.0.0 20240101000000 text/plain 76\n"
    b"1 0 Alexa Internet\nURL IP-address Archive-date Content-type Archive-length\n\n\n"
)


def lz4(content: bytes) -> bytes:
    return bytes(pa.compress(content, codec="lz4", asbytes=True))


def zstd(content: bytes) -> bytes:
    return bytes(pa.compress(content, codec="zstd", asbytes=True))


def gzipped(content: bytes) -> bytes:
    return gzip.compress(content, mtime=0)


def members(records: Iterable[Made], pack: Any = gzipped) -> list[bytes]:
    """Each record compressed on its own, as crawlers write them."""
    return [pack(record.warc()) for record in (INFO, *records)]


def write(folder: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def take(source: Source, folder: Path) -> list[Item]:
    """What comes from a source that has no past, pages without their versions."""
    items = source.pages(PlainWorld(folder))
    return [replace(item, version=None) if isinstance(item, Page) else item for item in items]


def pages(items: Sequence[Item]) -> dict[str, Page]:
    return {item.url: item for item in items if isinstance(item, Page)}


def bad(items: Sequence[Item]) -> dict[str, str]:
    return {item.name: item.reason for item in items if isinstance(item, Bad)}


def passed(items: Sequence[Item]) -> dict[str, str]:
    return {item.name: item.reason for item in items if isinstance(item, PassedOver)}
