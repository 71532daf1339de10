"""Fields of a task: settings, and references to the artifacts that it takes."""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Generic, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

from storage.artifact import Artifact, JsonValue
from storage.described import Described

PLUMBING = "what a task declares enters the key by value"

A = TypeVar("A", bound=Artifact)
Kind = type[Artifact]


class Outside:
    """Marks a field that says where something is, not what it is: it never enters a key.

    ``path: Annotated[str, Outside()]``. What is found there enters the key by ``Task.outside``.
    """


class Input(Generic[A]):
    """The artifact that a step takes: the name of a step, or a folder to adopt (``{path: FOLDER}``).

    Immutable; two are equal if they refer to the same thing. (A dataclass would be taken over by
    pydantic's own handling of dataclasses.)
    """

    def __init__(self, step: str | None = None, path: str | None = None, kinds: tuple[Kind, ...] = ()) -> None:
        self.step = step
        self.path = path
        self.kinds = kinds
        """The kinds that fit here, from the field's annotation."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Input) and (self.step, self.path) == (other.step, other.path)

    def __hash__(self) -> int:
        return hash((self.step, self.path))

    def __repr__(self) -> str:
        return f"Input({self.step!r})" if self.step is not None else f"Input(path={self.path!r})"

    @property
    def name(self) -> str:
        """How a report calls it: the step's name, or the folder's."""
        return self.step or Path(self.path or "").name

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        kinds = _kinds_of(get_args(source)[0]) if get_args(source) else ()

        def parse(value: Any) -> Input[Any]:
            if isinstance(value, Input):
                return Input(value.step, value.path, kinds)
            if isinstance(value, str):
                return Input(step=value, kinds=kinds)
            if isinstance(value, dict) and set(value) == {"path"} and isinstance(value["path"], str):
                return Input(path=value["path"], kinds=kinds)
            raise ValueError("expected the name of a step, or {path: FOLDER}")

        def serialise(value: Input[Any]) -> JsonValue:
            return value.step if value.step is not None else {"path": value.path}

        return core_schema.no_info_plain_validator_function(
            parse, serialization=core_schema.plain_serializer_function_ser_schema(serialise)
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        folder = {
            "type": "object",
            "properties": {"path": {"type": "string"}},
            "required": ["path"],
            "additionalProperties": False,
        }
        return {"anyOf": [{"type": "string", "description": "name of a step"}, folder]}


def _kinds_of(annotation: Any) -> tuple[Kind, ...]:
    if get_origin(annotation) in (Union, types.UnionType):
        return tuple(kind for member in get_args(annotation) for kind in _kinds_of(member))
    return (annotation,)


def takes(task: type[BaseModel], made: Kind) -> bool:
    """Whether one of the task's own fields is an input that an artifact of this kind fits."""
    annotations = [info.annotation for info in task.model_fields.values()]
    kinds = [kind for found in annotations if get_origin(found) is Input for kind in _kinds_of(get_args(found)[0])]
    return any(issubclass(made, kind) for kind in kinds)


class Settings(Described):
    """Base of tasks and of the settings inside them: immutable, unknown fields refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def _children(place: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Fields of a settings object, items of a list, values of a mapping, with their places."""
    if isinstance(value, BaseModel):
        for name, info in type(value).model_fields.items():
            if not any(isinstance(mark, Outside) for mark in info.metadata):
                yield (f"{place}.{name}" if place else name), getattr(value, name)
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield f"{place}[{index}]", item
    elif isinstance(value, Mapping):
        for name, item in value.items():
            yield f"{place}.{name}", item


def references(place: str, value: Any) -> Iterator[tuple[str, Input[Any]]]:
    """Every input in a value at ``place``, with its own place: ``models[1]``, ``data[0].shards``."""
    if isinstance(value, Input):
        yield place, value
    for child_place, child in _children(place, value):
        yield from references(child_place, child)


def identity_of(place: str, value: Any, with_names: bool) -> JsonValue:
    """What of a value at ``place`` is part of a key; inputs stand by places, ``with_names`` by names too."""
    if isinstance(value, Input):
        return {"input": place, "name": value.name} if with_names else {"input": place}
    if isinstance(value, (list, tuple)):
        return [identity_of(child_place, child, with_names) for child_place, child in _children(place, value)]
    if isinstance(value, (BaseModel, Mapping)):
        prefix = len(place) + 1 if place else 0
        return {p[prefix:]: identity_of(p, child, with_names) for p, child in _children(place, value)}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"{place}: a {type(value).__name__} has no stable serialisation, so it cannot be a setting")
