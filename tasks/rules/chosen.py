"""How a recipe names a rule: ``gopher``, ``{gopher: {min_words: 30}}``, ``{words: lists/en.txt, max_share: 0.01}``."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from pydantic import GetJsonSchemaHandler, create_model, model_validator
from pydantic_core import CoreSchema

from tasks.rules import RULES
from tasks.task import Settings


class _OneRule(Settings):
    """The name of a rule, or one name with settings: ``gopher``, ``{gopher: {min_words: 30}}``."""

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: Any) -> Any:
        if isinstance(value, _OneRule):
            return value
        chosen = {value: {}} if isinstance(value, str) else value
        if not isinstance(chosen, dict):
            return _refuse("expected one rule: NAME, or {NAME: {…}}")
        if len(chosen) > 1 and set(chosen) <= set(RULES):  # as the model itself is dumped
            chosen = {name: settings for name, settings in chosen.items() if settings is not None}
        name = str(next(iter(chosen), ""))
        if name not in RULES:
            nearest = get_close_matches(name, RULES, n=1, cutoff=0.0)[0]
            return _refuse(f"there is no rule {name!r}; did you mean {nearest!r}?")
        first, others = chosen[name], {key: setting for key, setting in chosen.items() if key != name}
        whole = first is None or isinstance(first, dict) or hasattr(first, "model_fields")
        if RULES[name].shorthand and (others or not whole):
            return {name: {RULES[name].shorthand: first, **others}}
        if others:
            return _refuse("expected one rule: NAME, or {NAME: {…}}")
        return {name: {} if first is None else first}

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        brief = [
            {
                "type": "object",
                "properties": {name: {"type": ["string", "object"]}},
                "required": [name],
                "additionalProperties": True,
            }
            for name, rule in RULES.items()
            if rule.shorthand
        ]
        return {"anyOf": [{"type": "string", "enum": list(RULES)}, handler(schema), *brief]}


def _refuse(message: str) -> Any:
    raise ValueError(message)


if TYPE_CHECKING:
    ChosenRule = _OneRule
else:
    _fields: dict[str, Any] = {name: (rule | None, None) for name, rule in RULES.items()}
    ChosenRule = create_model("ChosenRule", __base__=_OneRule, __doc__=_OneRule.__doc__, **_fields)
