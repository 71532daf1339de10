"""Descriptions of settings from the strings under their fields."""

from __future__ import annotations

from pydantic import Field

from storage.described import Described, descriptions_of


class Inner(Described):
    """What lies inside."""

    size: int
    """Bytes."""


class Base(Described):
    plain: int = 1
    kept: int = 2
    """As the base says."""
    changed: int = 3
    """As the base says too."""


class Derived(Base):
    changed: int = 4
    """Over two
    lines."""
    named: int = Field(5, description="By its field.")
    """By the string under it."""
    inner: Inner | None = None
    """Another model."""


def test_a_field_is_described_by_the_string_under_it_or_under_that_of_a_base() -> None:
    assert descriptions_of(Derived)["changed"] == "Over two\nlines."
    fields = Derived.model_json_schema()["properties"]
    described = {name: field.get("description") for name, field in fields.items()}
    assert described == {
        "plain": None,
        "kept": "As the base says.",
        "changed": "Over two\nlines.",
        "named": "By its field.",
        "inner": "Another model.",
    }


def test_models_inside_are_described_as_well() -> None:
    inner = Derived.model_json_schema()["$defs"]["Inner"]
    assert inner["description"] == "What lies inside."
    assert inner["properties"]["size"]["description"] == "Bytes."
