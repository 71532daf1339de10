"""Where and how fast a step runs."""

from __future__ import annotations

import os
from typing import Literal

from pydantic import Field

from model.parallel.spread import Spread

PLUMBING = "resources are never part of a key"


class Resources(Spread):
    """Where and how fast a step runs. Never part of a key."""

    engine: Literal["local", "ray"] = "local"
    """What runs a data step: processes of this machine, or a Ray cluster."""
    address: str | None = None
    """The Ray cluster's address (``HOST:6379``); without one, ``RAY_ADDRESS``, else the cluster on this machine."""
    workers: int = Field(default_factory=lambda: os.cpu_count() or 1, ge=1)
    """Worker processes of a data step: as many as there are processors (with ``ray``: in the cluster), and fewer
    where memory is short."""
