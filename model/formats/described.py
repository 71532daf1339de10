"""A network as a ``config.json`` of ``transformers`` describes it, and what in one ours cannot be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Described = Mapping[str, Any]
"""A ``config.json``."""


class Unrepresentable(ValueError):
    """A setting that our network does not have."""


def require(given: Described, name: str, *wanted: Any) -> Any:
    """The value of a setting, which must be one of ``wanted``; the first is what a missing one means."""
    found = given.get(name, wanted[0])
    if found not in wanted:
        can = " or ".join(repr(value) for value in wanted)
        raise Unrepresentable(f"{name} {found!r} cannot be represented; {can} can")
    return found
