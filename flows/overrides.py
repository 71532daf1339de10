"""``--set STEP.FIELD=VALUE``: one value of a recipe, given from outside."""

from __future__ import annotations

import re
from typing import Any

from flows.recipe_errors import did_you_mean, dotted, kind_of
from flows.yaml_tree import Path, Tree, parse_value
from storage.errors import RecipeError

RESERVED = ("name", "seed", "store", "steps", "resources")
"""Fields of a recipe, which are not names of steps, because ``--set`` would not know which is meant."""


def apply_override(tree: Tree, override: str) -> None:
    """Set one value of the tree from ``STEP.FIELD=VALUE``; FIELD may go deeper: ``base.optimizer.learning_rate``."""
    where, equals, text = override.partition("=")
    place = f"--set {override}"
    keys = keys_of(where.strip())
    if not equals or not keys or any(key == "" for key in keys):
        raise RecipeError(f"{place}: expected STEP.FIELD=VALUE, such as unique.similarity=0.7")
    if keys[0] not in RESERVED:
        steps = tree.value.get("steps")
        known = list(steps) if isinstance(steps, dict) else []
        if keys[0] not in known:
            raise RecipeError(f"{place}: there is no step {keys[0]!r}{did_you_mean(str(keys[0]), known)}")
        if len(keys) == 1:
            raise RecipeError(f"{place}: {keys[0]} is a step; say which of its fields: {keys[0]}.FIELD=VALUE")
        keys = ("steps", *keys)
    value = parse_value(text, place)
    parent = tree.value
    for depth, key in enumerate(keys[:-1]):
        parent = _child(parent, key, keys[depth + 1], place)
    if isinstance(parent, list) and not (isinstance(keys[-1], int) and keys[-1] < len(parent)):
        raise RecipeError(f"{place}: {dotted(keys[:-1])} has {len(parent)} items, counted from 0")
    if not isinstance(parent, (list, dict)):
        raise RecipeError(f"{place}: {dotted(keys[:-1])} is a {kind_of(parent)}; it has no field {keys[-1]!r}")
    parent[keys[-1]] = value  # type: ignore[index]  # a number where it is a list
    tree.override(keys, place)


def keys_of(where: str) -> Path:
    """``pages.sources[0].path`` → ``("pages", "sources", 0, "path")``."""
    parts = re.sub(r"\[(\d+)\]", r".\1", where).split(".")
    return tuple(int(part) if part.isdecimal() else part for part in parts)


def _child(parent: Any, key: str | int, next_key: str | int, place: str) -> Any:
    if isinstance(parent, dict):
        if parent.get(key) is None and not isinstance(next_key, int):
            parent[key] = {}
        if key in parent:
            return parent[key]
    if isinstance(parent, list) and isinstance(key, int) and key < len(parent):
        return parent[key]
    raise RecipeError(f"{place}: there is no {key!r} to set a part of")
