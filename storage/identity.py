"""Digests of values, texts, files and code: what makes a result reusable."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any


def digest_of_bytes(content: bytes) -> str:
    """SHA-256 in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def digest_of_text(text: str) -> str:
    """Digest of the UTF-8 encoding; lone surrogates are kept apart, not refused."""
    return digest_of_bytes(text.encode("utf-8", "surrogatepass"))


def digest_of_file(path: Path) -> str:
    """Digest of a file's content, read in blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


_CANONICAL = json.JSONEncoder(sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
"""Made once: for a short value that takes longer than to write it."""


def canonical_json(value: Any) -> str:
    """The one JSON text of a value: sorted keys, no spaces, no NaN.

    Raises TypeError for what has no stable serialisation, ValueError for NaN and infinity.
    """
    return _CANONICAL.encode(value)


def digest_of_value(value: Any) -> str:
    """Digest of a JSON value."""
    return digest_of_text(canonical_json(value))
