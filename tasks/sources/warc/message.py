"""The HTTP responses within records: status, headers, and the body with its encodings undone."""

from __future__ import annotations

import io
import re
import zlib
from dataclasses import dataclass

from tasks.sources.decompress import Unreadable

_STATUS = re.compile(rb"HTTP/\d(?:\.\d)?[ \t]+(\d{3})\b")
_HEAD_END = re.compile(rb"\r?\n\r?\n")
_CHUNK = re.compile(rb"[ \t]*([0-9A-Fa-f]{1,8})[ \t]*(?:;[^\r\n]{0,1000})?\r?\n")
_PIECE = 1 << 16


@dataclass(frozen=True)
class Message:
    """A response as the server sent it."""

    status: int
    headers: dict[str, str]
    """Names in lower case; the first of equal names counts."""
    body: bytes
    """With its transfer and content encodings still on."""


def parsed(block: bytes) -> Message | None:
    """The response in a record's block; None if it is none."""
    status = _STATUS.match(block)
    if status is None:
        return None
    end = _HEAD_END.search(block)
    head, body = (block[: end.start()], block[end.end() :]) if end else (block, b"")
    headers: dict[str, str] = {}
    for line in head.split(b"\n")[1:]:
        name, colon, value = line.decode("latin-1").partition(":")
        if colon and name[:1] not in (" ", "\t"):
            headers.setdefault(name.strip().lower(), value.strip())
    return Message(int(status[1]), headers, body)


def body_of(message: Message, most: int) -> bytes:
    """The response's body as it was meant.

    A body that is not encoded as its headers say is taken as it is: crawlers undo encodings and leave the
    headers. Raises Unreadable: ``bad_chunks`` (they begin well and then break), ``truncated``, ``corrupt``
    (a compressed body), ``encoding`` (one that is not known), ``too_large`` (more than ``most`` bytes).
    """
    body = message.body
    if "chunked" in message.headers.get("transfer-encoding", "").lower() and _CHUNK.match(body):
        body = _joined(body)
    for coding in reversed(message.headers.get("content-encoding", "").lower().split(",")):
        body = _decoded(body, coding.strip(), most)
    if len(body) > most:
        raise Unreadable("too_large", f"more than {most:,} bytes")
    return body


def _joined(body: bytes) -> bytes:
    """Chunks put together (RFC 9112, section 7.1)."""
    parts: list[bytes] = []
    position = 0
    while chunk := _CHUNK.match(body, position):
        size = int(chunk[1], 16)
        if size == 0:
            return b"".join(parts)
        part = body[chunk.end() : chunk.end() + size]
        parts.append(part)
        position = chunk.end() + size
        if len(part) < size:
            raise Unreadable("truncated", f"a chunk of {size:,} bytes has {len(part):,}")
        if body.startswith(b"\r\n", position):
            position += 2
        elif body.startswith(b"\n", position):
            position += 1
    if position >= len(body):
        raise Unreadable("truncated", "the last chunk is missing")
    if not parts or len(parts) == 1:
        return body  # its first line looked like the length of a chunk by chance
    raise Unreadable("bad_chunks", f"no chunk begins with {body[position : position + 20]!r}")


def _decoded(body: bytes, coding: str, most: int) -> bytes:
    """A body with one content encoding undone."""
    if coding in ("", "identity", "none", "utf-8") or not body:
        return body
    if coding in ("gzip", "x-gzip"):
        return _inflated(body, (31,), most) if body.startswith(b"\x1f\x8b") else body
    if coding == "deflate":
        return _inflated(body, (15, -15), most)  # servers disagree about whether zlib's head belongs to it
    if coding == "br":
        return _brotli(body, most)
    raise Unreadable("encoding", f"the content encoding {coding[:30]!r} is not known")


def _inflated(body: bytes, windows: tuple[int, ...], most: int) -> bytes:
    fault: Unreadable | None = None
    for window in windows:
        inflater = zlib.decompressobj(window)
        try:
            content = inflater.decompress(body, most + 1)
        except zlib.error as error:
            fault = Unreadable("corrupt", str(error))
            continue
        if not inflater.eof and len(content) <= most:
            raise Unreadable("truncated", "the compressed body breaks off")
        return content
    if -15 in windows and b"<" in body[:1000]:
        return body  # deflate that was undone before
    assert fault is not None
    raise fault


def _brotli(body: bytes, most: int) -> bytes:
    from fastwarc.stream_io import BrotliReader

    parts, size = [], 0
    reader = BrotliReader(io.BytesIO(body))
    try:
        while size <= most and (part := reader.read(_PIECE)):
            parts.append(part)
            size += len(part)
    except OSError as error:
        if not parts and b"<" in body[:1000]:
            return body  # undone before
        raise Unreadable("corrupt", str(error)) from error
    return b"".join(parts)
