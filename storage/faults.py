"""What goes wrong with disks and with object storage: what passes, what does not, and how to say it in one line."""

from __future__ import annotations

import errno
import random
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from storage.errors import StoreUnavailable

PLUMBING = "messages cannot shape an artifact's bytes"

R = TypeVar("R")

PATIENCE_SECONDS = 120.0
"""How long a request that fails in passing is tried again before the store counts as out of reach."""
_FIRST_PAUSE_SECONDS = 0.2
_LONGEST_PAUSE_SECONDS = 15.0
_UNSUPPORTED = (errno.ENOSYS, errno.EOPNOTSUPP)


@contextmanager
def explained(place: str) -> Iterator[None]:
    """Turn what an operating system says about a failed write into one line with a remedy."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StoreUnavailable(
                f"{place}: the disk is full; free some space (`athanor gc`) and run again"
            ) from error
        if isinstance(error, PermissionError) or error.errno == errno.EROFS:
            raise StoreUnavailable(f"{place}: no permission to write; check the owner or set ATHANOR_HOME") from error
        raise


def patiently(where: str, what: str, request: Callable[[], R]) -> R:
    """The answer of object storage, asked for again with growing pauses while it fails in passing.

    ``where``, ``what``: for messages. Raises FileNotFoundError and FileExistsError as they come, anything else as
    StoreUnavailable, in one line.
    """
    started, pause = time.monotonic(), _FIRST_PAUSE_SECONDS
    while True:
        try:
            return request()
        except faults() as error:
            if isinstance(error, FileExistsError) or is_precondition(error):
                raise FileExistsError(what) from error
            if isinstance(error, FileNotFoundError):
                raise
            if (remedy := hopeless(error)) is not None:
                raise StoreUnavailable(f"{where}: cannot {what}: {in_short(error)}; {remedy}") from error
            waited = time.monotonic() - started
            if waited + pause > PATIENCE_SECONDS:
                raise StoreUnavailable(
                    f"{where}: cannot {what} for {waited:.0f} s: {in_short(error)}; check the network and the "
                    "endpoint, then run again: what is finished is kept"
                ) from error
        # Many clients that were throttled together must not come back together.
        time.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - no secret
        pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)


def faults() -> tuple[type[Exception], ...]:
    """What object storage's libraries raise, as far as they are loaded."""
    found: list[type[Exception]] = [OSError]  # TimeoutError and fsspec's own timeout are among these
    for module, name in (
        ("botocore.exceptions", "BotoCoreError"),
        ("botocore.exceptions", "ClientError"),
        ("aiohttp.client_exceptions", "ClientError"),
    ):
        if module in sys.modules:
            found.append(getattr(sys.modules[module], name))
    return tuple(found)


def is_precondition(error: Exception) -> bool:
    """Whether a conditional put was refused, as stores say it that leave out which condition failed."""
    response = getattr(error.__cause__, "response", None) or getattr(error, "response", None) or {}
    return response.get("Error", {}).get("Code") in ("PreconditionFailed", "412")


def hopeless(error: Exception) -> str | None:
    """The remedy for a fault that does not pass; None for one that may."""
    if isinstance(error, PermissionError) or type(error).__name__ in (
        "NoCredentialsError",
        "PartialCredentialsError",
        "ProfileNotFound",
        "TokenRetrievalError",
    ):
        return "check the credentials (for S3: AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY)"
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "the disk is full; free some space, or lower ATHANOR_CACHE_GB, and run again"
    if isinstance(error, OSError) and error.errno in _UNSUPPORTED:
        return "this storage knows no conditional put, so it cannot hold a store that several hosts write to"
    if isinstance(error, OSError) and error.errno == errno.EINVAL:
        return "correct the address, the region or the endpoint"
    if type(error).__name__ in ("InvalidRegionError", "UnknownEndpointError", "NoRegionError", "ParamValidationError"):
        return "correct the address, the region or the endpoint"
    return None


def in_short(error: Exception) -> str:
    """What a library says, in one line."""
    return (" ".join(str(error).split()) or type(error).__name__)[:200]
