"""Telling pages from what lies beside them."""

from __future__ import annotations

import re

HTML = "text/html"
TEXT = "text/plain"
MARKDOWN = "text/markdown"

_HTML_ENDINGS = (".html", ".htm", ".xhtml", ".shtml", ".xht")
_TEXT_ENDINGS = (".txt", ".text", ".md", ".rst")
_NO_PAGES = (
    *(".css", ".js", ".mjs", ".map", ".json", ".jsonl", ".xml", ".rss", ".atom", ".yaml", ".yml", ".toml", ".csv"),
    *(".tsv", ".svg", ".ini", ".cfg", ".lock", ".log", ".inv"),
)
"""Text for machines: never taken for prose."""
_BINARY = (
    *(b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"%PDF", b"PK\x03\x04", b"\x1f\x8b", b"\x7fELF", b"RIFF", b"BZh"),
    *(b"\xfd7zXZ", b"\x28\xb5\x2f\xfd", b"wOFF", b"wOF2", b"OggS", b"ID3", b"PAR1", b"ARROW1", b"SQLite format 3"),
)
_MARKUP = re.compile(rb"<\s*(!doctype\s+html|html|head|body|title|meta|div|p|h1|table)\b", re.IGNORECASE)
_CONTROLS = bytes(set(range(32)) - set(b"\t\n\r\f\x1b"))
"""Bytes that no text encoding uses for text (escape is used by ISO-2022)."""
_LOOKED_AT = 4096


def content_type_of(name: str, content: bytes) -> str | None:
    """``text/html`` or ``text/plain`` by the name's ending, else by the content; None for what is no page.

    An ending does not make a page of binary data: a picture called ``.html`` is none.
    """
    ending = name[name.rfind(".") :].lower() if "." in name else ""
    if ending in _NO_PAGES or is_binary(content):
        return None
    if ending in _HTML_ENDINGS:
        return HTML
    if ending in _TEXT_ENDINGS:
        return TEXT
    return HTML if _MARKUP.search(_as_bytes_of_ascii(content[:_LOOKED_AT])) else TEXT


def is_binary(content: bytes) -> bool:
    """Whether this is text in no encoding: a known signature, or too many control characters."""
    head = content[:_LOOKED_AT]
    if head.startswith(_BINARY):
        return True
    if head.startswith((b"\xff\xfe", b"\xfe\xff", b"\x00\x00\xfe\xff")):
        return False
    even, odd = head[0::2].count(0), head[1::2].count(0)
    if max(even, odd) > 0.2 * len(head) and min(even, odd) < 0.05 * len(head):
        return False  # UTF-16 without a mark
    # A few stray control characters among text are a fault of the page, not a sign of binary data.
    return len(head) - len(head.translate(None, _CONTROLS)) > 0.05 * len(head)


def _as_bytes_of_ascii(content: bytes) -> bytes:
    """UTF-16 markup with its zero bytes dropped, so that tags can be looked for."""
    return content.replace(b"\x00", b"")
