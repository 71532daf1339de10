"""How a training process tells the launcher what it ended with."""

from __future__ import annotations

import os
import re
import sys
import threading
import traceback
from pathlib import Path

import torch

from storage.disk import write_json
from storage.errors import StoreUnavailable, UserError

PLUMBING = "what is told of an end has no part in a result"

FAILURE = "failure-{rank}.json"
"""What a failing process leaves in its scratch: the error's class and message."""
_SECONDS_TO_TELL = 3.0


def leave_failure(scratch: Path, error: Exception) -> None:
    """Print what this process ends with, and tell it to the launcher."""
    traceback.print_exc()
    failure = _failure(error)
    _leave(scratch, type(failure).__name__, str(failure), isinstance(failure, _LostAnother))


def give_up(scratch: Path, message: str) -> None:
    """End this process, which waits for one that it will never hear from."""
    # The folder may be out of reach too: then nobody is told.
    telling = threading.Thread(target=_leave, args=(scratch, "TrainingFailed", message, True), daemon=True)
    telling.start()
    telling.join(_SECONDS_TO_TELL)
    os._exit(1)


def _leave(scratch: Path, error: str, message: str, lost_another: bool) -> None:
    """Tell the launcher why this process ends."""
    place = scratch / FAILURE.format(rank=os.environ.get("RANK", "0"))
    write_json(place, {"error": error, "message": message, "lost_another": lost_another})
    sys.stderr.flush()


class _LostAnother(Exception):
    """The connection to another training process broke: that one has more to say about why."""


_BROKEN_CONNECTION = re.compile(
    r"Connection closed by peer|Connection reset|Broken pipe|Connection refused|Socket closed|recv returned 0"
    r"|remote process exited|ncclRemoteError|timed out", re.IGNORECASE
)  # fmt: skip
_ADDRESS = re.compile(r"\[([0-9a-fA-F.:]+)\]:\d+")


def _failure(error: Exception) -> Exception:
    if isinstance(error, RuntimeError) and _BROKEN_CONNECTION.search(str(error)):
        place = _ADDRESS.search(str(error))
        return _LostAnother(f"lost the connection to a training process{f' on {place[1]}' if place else ''}")
    if isinstance(error, OSError) and error.errno is not None:
        return StoreUnavailable(f"{error.filename or 'scratch'}: {error.strerror}")
    if isinstance(error, torch.cuda.OutOfMemoryError):
        return UserError("the GPU's memory is too small: lower resources micro_batch_sequences or raise zero_stage")
    return error
