"""Settings whose fields are described by the docstrings under them, for the schema that an editor reads.

Pydantic reads these too (``use_attribute_docstrings``), but whenever a class is made: a quarter of a
second in every process, workers included, of which none but ``athanor schema`` needs them.
"""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from typing import Any

from pydantic import BaseModel, GetJsonSchemaHandler
from pydantic_core import CoreSchema

PLUMBING = "it describes settings; what they are is decided elsewhere"


class Described(BaseModel):
    """Base of settings: a string under a field is its description in the JSON schema."""

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        made = handler(schema)
        fields = handler.resolve_ref_schema(made).get("properties", {})
        for name, text in descriptions_of(cls).items():
            if name in fields:
                fields[name].setdefault("description", text)
        return made


def descriptions_of(settings: type[BaseModel]) -> dict[str, str]:
    """Field → the string under it, in the class itself or else in those that it comes from."""
    found: dict[str, str] = {}
    for ancestor in reversed(settings.__mro__):
        if issubclass(ancestor, Described):
            found |= _classes(ancestor.__module__).get(ancestor.__qualname__, {})
    return found


@cache
def _classes(module: str) -> dict[str, dict[str, str]]:
    """Qualified name of each class of a module → its fields with a string under them."""
    tree = ast.parse(inspect.getsource(sys.modules[module]))
    return {name: dict(_under_fields(node)) for name, node in _defined(tree.body, "")}


def _defined(body: list[ast.stmt], prefix: str) -> Iterator[tuple[str, ast.ClassDef]]:
    for node in body:
        if isinstance(node, ast.ClassDef):
            yield f"{prefix}{node.name}", node
            yield from _defined(node.body, f"{prefix}{node.name}.")


def _under_fields(node: ast.ClassDef) -> Iterator[tuple[str, str]]:
    for field, below in pairwise(node.body):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(below, ast.Expr):
            text = below.value
            if isinstance(text, ast.Constant) and isinstance(text.value, str):
                yield field.target.id, inspect.cleandoc(text.value)
