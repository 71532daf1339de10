"""fsspec's filesystems, and what is said to S3's for the sake of speed, memory and cost."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from functools import cache
from typing import Any

import fsspec

from storage.errors import UserError

PLUMBING = "it opens filesystems; it makes no bytes"

PART_BYTES = 8 * 2**20
"""Larger files go to and from S3 in parts of so many bytes, a few at a time: together with the number of files
this bounds the memory that transfers take (to 256 MiB)."""
_PARTS_AT_A_TIME = 4
_MOST_PARTS = 9_000
"""S3 takes 10,000 parts; larger files have larger ones."""
# The pauses that matter are those of ``storage.faults``, so that one place decides how long a fault may last. The
# client tries a few times at once, so that one failed part of a large file does not cost the whole.
_S3_CLIENT = {"connect_timeout": 10, "read_timeout": 60, "retries": {"mode": "standard", "max_attempts": 3}}
_USER = r"//[^/@]*@"
"""A user's name and password in a URL."""


def filesystem_at(url: str, connections: int) -> tuple[Any, str]:
    """The filesystem of a URL (to S3 with so many connections at most), and the path there. Raises UserError."""
    # Listings are never remembered: other hosts write to the same store.
    options: dict[str, Any] = {"use_listings_cache": False}
    protocol, shown = fsspec.utils.get_protocol(url), without_user(url)
    try:
        if protocol in ("s3", "s3a"):
            options["config_kwargs"] = {**_S3_CLIENT, "max_pool_connections": connections}
            options["session"] = _s3_session()
        filesystem, root = fsspec.core.url_to_fs(url, **options)
    except ImportError as error:
        extra = "pip install 'athanor[s3]'" if protocol in ("s3", "s3a") else str(error)
        raise UserError(f"store {shown}: {protocol}:// needs a library that is not installed: {extra}") from error
    except ValueError as error:
        raise UserError(f"store {shown}: {error}; give a path, or a URL such as s3://BUCKET/FOLDER") from error
    if is_s3(filesystem):
        filesystem.retries = 1  # its own pauses, on top of the client's and ours
    return filesystem, str(root)


@cache
def _s3_session() -> Any:
    """A session that sends a body at once, and does not first ask whether it may.

    While the client waits for that answer its time-out does not run, so a server that falls silent would never be
    given up.
    """
    from aiobotocore.session import AioSession
    from botocore.handlers import add_expect_header

    session = AioSession()
    session.unregister("before-call.s3", add_expect_header)
    return session


def without_user(url: str) -> str:
    """The URL for messages, without a user's name and password."""
    return re.sub(_USER, "//", url)


def parts_of(size: int) -> dict[str, int]:
    """How s3fs is to move a file of so many bytes."""
    return {"chunksize": max(PART_BYTES, -(-size // _MOST_PARTS)), "max_concurrency": _PARTS_AT_A_TIME}


def is_s3(filesystem: Any) -> bool:
    return "s3" in filesystem.protocol


def modified(info: dict[str, Any]) -> float:
    """Seconds since 1970 from what a filesystem lists; the epoch's future where it says nothing."""
    for name in ("LastModified", "mtime", "updated", "last_modified", "modified", "created"):
        value = info.get(name)
        if isinstance(value, (int, float)):
            return float(value)
        if isinstance(value, str) and value:
            value = datetime.fromisoformat(value)
        if isinstance(value, datetime):
            return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
    return float("inf")  # of unknown age: nothing may take it for old


def unfinished_uploads(filesystem: Any, bucket: str, prefix: str) -> list[dict[str, Any]]:
    """What S3 says of uploads in parts that were begun below ``prefix`` and neither completed nor given up."""
    found: list[dict[str, Any]] = []
    marks: dict[str, str] = {}
    while True:
        answer = filesystem.call_s3("list_multipart_uploads", Bucket=bucket, Prefix=prefix, **marks)
        found += answer.get("Uploads", [])
        if not answer.get("IsTruncated"):
            return found
        marks = {"KeyMarker": answer["NextKeyMarker"], "UploadIdMarker": answer["NextUploadIdMarker"]}
