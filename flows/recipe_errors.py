"""What is wrong with a recipe, in one line: place, field, value, and the nearest right name."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from flows.yaml_tree import Path, Tree
from storage.errors import RecipeError

M = TypeVar("M", bound=BaseModel)

_SECRETS = re.compile(r"(?<=://)[^/@\s'\"]+@|(?<=[?&])([^=&\s'\"]+)=[^&\s'\"]+")
"""In an address: who it logs in as, and the values in its query."""


def validate(model: type[M], value: Any, tree: Tree, at: Path, what: str) -> M:
    """``model.model_validate`` with pydantic's errors turned into one line each place has, nearest name included."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise RecipeError(_message(error, model, value, tree, at, what)) from error


def _message(error: ValidationError, model: type[BaseModel], value: Any, tree: Tree, at: Path, what: str) -> str:
    """The error that lies deepest in the recipe; the others follow from it or are found next time."""
    found = []
    for number, problem in enumerate(error.errors(include_url=False, include_context=True)):
        path, given = _follow(value, problem["loc"])
        found.append((-len(path), problem["type"] == "missing", number, path, given, problem))
    *_, path, given, problem = min(found, key=lambda item: item[:3])
    where = dotted((*at, *path))
    if problem["type"] == "extra_forbidden":
        owner = what if len(path) == 1 else f"{what}'s {dotted(path[:-1])}"
        names = _field_names(model, problem["loc"][:-1])
        remedy = did_you_mean(str(path[-1]), names) or f"; its fields are {', '.join(names)}"
        return f"{tree.place((*at, *path))}: {where} = {shortened(given)}: {owner} has no field {path[-1]!r}{remedy}"
    if problem["type"] == "missing":
        missing = problem["loc"][-1]
        if isinstance(missing, int):
            said = f"{where} = {shortened(given)}: it takes {missing + 1} values or more"
            return f"{tree.place((*at, *path))}: {said}"
        prefix = f"{where}: " if where else ""
        return f"{tree.place((*at, *path))}: {prefix}{what} needs the field {missing!r}{_almost(missing, given)}"
    if problem["type"] == "union_tag_not_found":
        name = problem["ctx"]["discriminator"].strip("'")
        kinds = ", ".join(_tags(model, problem["loc"]))
        said = f"{where} = {shortened(given)} needs the field {name!r}, which is one of {kinds}"
        return f"{tree.place((*at, *path))}: {said}{_almost(name, given)}"
    text = problem["msg"].removeprefix("Value error, ").replace("Input should be ", "must be ", 1)
    shown = f"{where} = {shortened(given)}"
    if problem["type"] == "model_type":
        fields = ", ".join(_field_names(model, problem["loc"]))
        return f"{tree.place((*at, *path))}: {shown}: must be a mapping; its fields are {fields}"
    options = re.findall(r"'([^']+)'", text) if problem["type"] in ("literal_error", "union_tag_invalid") else []
    return f"{tree.place((*at, *path))}: {shown}: {text}{did_you_mean(str(given), options) if options else ''}"


def _almost(missing: str | int, given: Any) -> str:
    """A hint if a field of nearly that name was given."""
    near = difflib.get_close_matches(str(missing), map(str, given), 1) if isinstance(given, dict) else []
    return f"; is {near[0]!r} meant for it?" if near else ""


def _follow(value: Any, location: Sequence[str | int]) -> tuple[Path, Any]:
    """The part of ``location`` that exists in ``value`` (pydantic adds tags of unions to it), and what is there."""
    path: list[str | int] = []
    for key in location:
        in_mapping = isinstance(value, Mapping) and key in value
        in_list = isinstance(value, (list, tuple)) and isinstance(key, int) and key < len(value)
        if in_mapping or in_list:
            value = value[key]
            path.append(key)
    return tuple(path), value


def _field_names(model: type[BaseModel], location: Sequence[str | int]) -> list[str]:
    """Names of the fields allowed at ``location``."""
    names = [name for option in _options_at(model, location) for name in option.get("properties", {})]
    return list(dict.fromkeys(names))


def _tags(model: type[BaseModel], location: Sequence[str | int]) -> list[str]:
    """What tells the members of the union at ``location`` apart."""
    found = [option.get("discriminator", {}).get("mapping", {}) for option in _options_at(model, location)]
    return sorted({tag for mapping in found for tag in mapping})


def _options_at(model: type[BaseModel], location: Sequence[str | int]) -> list[dict[str, Any]]:
    """What the model's JSON schema allows at ``location``, with references resolved and unions opened."""
    schema = model.model_json_schema()
    candidates = [schema]
    for key in location:
        nearer = [child for candidate in candidates for child in _schema_children(candidate, key, schema)]
        candidates = nearer or candidates
    return [option for candidate in candidates for option in _options(candidate, schema)]


def _options(candidate: Any, schema: dict[str, Any]) -> list[dict[str, Any]]:
    """``candidate`` with references resolved and unions opened."""
    if "$ref" in candidate:
        return _options(schema["$defs"][candidate["$ref"].rsplit("/", 1)[-1]], schema)
    members = candidate.get("anyOf", []) + candidate.get("oneOf", []) + candidate.get("allOf", [])
    return [candidate, *(option for member in members for option in _options(member, schema))]


def _schema_children(candidate: dict[str, Any], key: str | int, schema: dict[str, Any]) -> list[dict[str, Any]]:
    children = []
    for option in _options(candidate, schema):
        if isinstance(key, int):
            children += [option["items"]] if "items" in option else []
        elif key in option.get("properties", {}):
            children.append(option["properties"][key])
        elif option.get("title") == key or any(key == p.get("const") for p in option.get("properties", {}).values()):
            children.append(option)
    return children


# Words


def did_you_mean(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), 1, cutoff=0.6)
    return f"; did you mean {near[0]!r}?" if near else ""


def with_article(kind: str) -> str:
    if kind.endswith("s"):
        return kind
    return f"an {kind}" if kind[0] in "aeiou" else f"a {kind}"


def dotted(path: Sequence[str | int]) -> str:
    """A path as users write it: ``unique.similarity``, ``pages.sources[0].path``."""
    parts = path[1:] if path and path[0] == "steps" else path
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts)
    return text.removeprefix(".")


def shortened(value: Any) -> str:
    """The value in few characters, without the secrets that an address may carry."""
    text = _SECRETS.sub(lambda found: "…@" if found[1] is None else f"{found[1]}=…", repr(value))
    return text if len(text) <= 60 else f"{text[:57]}…"


def kind_of(value: Any) -> str:
    names = {dict: "mapping", list: "list", str: "text", bool: "truth value", int: "number", float: "number"}
    return names.get(type(value), "value")
