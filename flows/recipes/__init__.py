"""Recipes that ship; told by their names alone, so that a command line can list them at once."""

from __future__ import annotations

from pathlib import Path

SHIPPED = Path(__file__).parent
"""Folder of the recipes that ship."""


def shipped_recipes() -> list[str]:
    """Names of the recipes that ship."""
    return sorted(path.stem for path in SHIPPED.glob("*.yaml"))
