"""Numbers that the environment sets."""

from __future__ import annotations

import os

from storage.errors import UserError

PLUMBING = "it reads limits; none of them shapes what is stored"


def number_from(name: str, default: float, least: float, remedy: str) -> float:
    """The variable's value, or the default where it is not set.

    Raises UserError, which ends with ``remedy``, unless it is a number of at least ``least``.
    """
    given = os.environ.get(name, "")
    try:
        value = float(given) if given else default
    except ValueError:
        value = float("nan")
    if not value >= least:
        raise UserError(f"{name}={given}: {remedy}")
    return value
