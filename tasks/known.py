"""What of a recipe is known before it runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.inputs import Input

if TYPE_CHECKING:
    from tasks.task import Task

PLUMBING = "what is foretold has no influence on what happens"


@dataclass(frozen=True)
class Known:
    """By an input."""

    maker_of: Callable[[Input[Any]], Task | None]
    """The step that makes it; None: it is a folder."""
    folder_of: Callable[[Input[Any]], Path | None]
    """Where it is on this machine; None: it is not made yet."""
