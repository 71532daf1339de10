"""The JSON schema of a recipe, so that an editor completes and checks one."""

from __future__ import annotations

from typing import Any

from flows.recipe import RecipeHead, RecipeResources
from tasks.registry import TASKS, task_class
from tasks.task import Resources


def recipe_schema() -> dict[str, Any]:
    """JSON schema (draft 2020-12) of a recipe with every task of the registry."""
    definitions: dict[str, Any] = {}
    schema = _collected(RecipeHead.model_json_schema(ref_template="#/$defs/{model}"), definitions)
    steps = [_step_schema(name, definitions) for name in TASKS]
    schema["properties"]["steps"]["additionalProperties"] = {
        "type": "object",
        "required": ["task"],
        "properties": {"task": {"enum": list(TASKS)}},
        "oneOf": steps,
    }
    resources = _collected(RecipeResources.model_json_schema(ref_template="#/$defs/{model}"), definitions)
    own = _collected(Resources.model_json_schema(ref_template="#/$defs/{model}"), definitions)
    resources["properties"]["steps"]["additionalProperties"] = own
    schema["properties"]["resources"] = resources
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "$defs": definitions}


def _step_schema(name: str, definitions: dict[str, Any]) -> dict[str, Any]:
    """Schema of a step of the task called ``name``: the task's fields, and ``task`` itself."""
    schema = _collected(
        task_class(name).model_json_schema(ref_template=f"#/$defs/{name}.{{model}}"), definitions, f"{name}."
    )
    schema["properties"] = {"task": {"const": name}, **schema.get("properties", {})}
    schema["required"] = ["task", *schema.get("required", [])]
    return schema


def _collected(schema: dict[str, Any], definitions: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """``schema`` with its definitions moved to the common ones, under names that cannot collide."""
    for name, definition in schema.pop("$defs", {}).items():
        definitions[f"{prefix}{name}"] = definition
    return schema
