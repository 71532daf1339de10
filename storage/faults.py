"""What goes wrong with disks and with object storage: what passes, what does not, and how to say it in one line."""

from __future__ import annotations

import errno
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from storage.errors import StoreUnavailable

PLUMBING = "messages cannot shape an artifact's bytes"

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
