"""The bytes of an answer, decoded and never more than wanted."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator

GZIP = 31
"""What zlib takes for a gzip stream (RFC 1952)."""
_ZLIB, _RAW = 15, -15
"""``deflate`` is a zlib stream by RFC 9110, a raw one by the habit of some servers."""


class TooLarge(Exception):
    """There is more than is wanted; ``beginning`` is what was."""

    def __init__(self, beginning: bytes) -> None:
        super().__init__(f"more than {len(beginning)} bytes")
        self.beginning = beginning


class Broken(Exception):
    """The compressed stream is damaged or cut off."""


class UnknownCoding(Exception):
    """A content coding that was not asked for."""


def body_of(chunks: Iterable[bytes], coding: str, most: int) -> bytes:
    """The decoded bytes of ``chunks``, of which no more than ``most`` (and a chunk) are ever in memory.

    Raises TooLarge, Broken or UnknownCoding.
    """
    coding = coding.strip().lower()
    if coding in ("", "identity"):
        return _gathered(chunks, most)
    if coding in ("gzip", "x-gzip"):
        return _gathered(inflated(chunks, GZIP, most), most)
    if coding == "deflate":
        whole = _gathered(chunks, most + most // 100 + 64)  # what cannot be packed grows a little
        try:
            return _gathered(inflated([whole], _ZLIB, most), most)
        except Broken:
            return _gathered(inflated([whole], _RAW, most), most)
    raise UnknownCoding(coding)


def inflated(chunks: Iterable[bytes], window: int, most: int) -> Iterator[bytes]:
    """What the members of a zlib or gzip stream hold, in pieces of ``most`` bytes at most. Raises Broken."""
    unpacker = zlib.decompressobj(window)
    begun = False
    try:
        for chunk in chunks:
            rest = chunk
            while rest:
                if unpacker.eof:
                    if window != GZIP or rest[:1] != b"\x1f":
                        return  # padding behind the last member
                    unpacker, begun = zlib.decompressobj(window), False
                begun = True
                yield unpacker.decompress(rest, most + 1)
                rest = unpacker.unused_data if unpacker.eof else unpacker.unconsumed_tail
    except zlib.error as error:
        raise Broken(str(error)) from error
    if begun and not unpacker.eof:
        raise Broken("the compressed stream is cut off")


def _gathered(chunks: Iterable[bytes], most: int) -> bytes:
    whole = bytearray()
    for chunk in chunks:
        whole += chunk
        if len(whole) > most:
            raise TooLarge(bytes(whole[:most]))
    return bytes(whole)
