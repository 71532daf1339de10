"""YAML 1.2 as plain values, with the line of every value: what error messages about recipes point at."""

from __future__ import annotations

from dataclasses import dataclass, field
from io import StringIO
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from storage.errors import RecipeError

Path = tuple[str | int, ...]
"""Where a value stands: keys of mappings and indices of lists, from the root."""

_MOST_VALUES = 100_000
"""A recipe with more values than this is not a recipe but aliases that multiply."""


@dataclass
class Tree:
    """A value and the place (``file:line``) that each part of it comes from."""

    value: Any
    places: dict[Path, str] = field(default_factory=dict)
    overrides: dict[Path, str] = field(default_factory=dict)
    """What was given from outside, by where it stands; a later one hides those within it."""

    def override(self, path: Path, place: str) -> None:
        """Note that the value at ``path``, with all that it holds, comes from ``place``."""
        for noted in (self.places, self.overrides):
            for inner in [inner for inner in noted if inner[: len(path)] == path]:
                del noted[inner]
            noted[path] = place

    def place(self, path: Path) -> str:
        """The place of the value at ``path``, or of the nearest value that encloses it, with what was given within."""
        within = [place for inner, place in self.overrides.items() if inner[: len(path)] == path and inner != path]
        while path and path not in self.places:
            path = path[:-1]
        return " with ".join([self.places.get(path, ""), *within])


def yaml_text(value: Any) -> str:
    """The value as YAML, as a person would write it."""
    yaml = YAML()
    yaml.default_flow_style = None
    yaml.width = 100
    written = StringIO()
    yaml.dump(value, written)
    return written.getvalue()


def load_tree(text: str, name: str) -> Tree:
    """Parse one YAML document; ``name`` is how messages call the file.

    Raises RecipeError for what is not YAML, for a key given twice and for a tag.
    """
    yaml = YAML(typ="safe", pure=True)
    try:
        node = yaml.compose(StringIO(text))
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark is not None else 1
        problem = " ".join(str(error.problem or error.context or "cannot be read").split())
        raise RecipeError(f"{name}:{line}: not valid YAML: {problem}") from error
    except (YAMLError, ValueError) as error:
        raise RecipeError(f"{name}:1: not valid YAML: {' '.join(str(error).split())}") from error
    tree = Tree(None, {(): f"{name}:1"})
    if node is not None:
        tree.value = _Reader(yaml, name, tree.places).read(node, ())
    return tree


def parse_value(text: str, name: str) -> Any:
    """A single value, as written behind ``--set FIELD=``."""
    return load_tree(text, name).value


class _Reader:
    """Turns composed nodes into values and notes their lines."""

    def __init__(self, yaml: YAML, name: str, places: dict[Path, str]) -> None:
        self.yaml = yaml
        self.name = name
        self.places = places
        self.seen = 0
        self.open: list[int] = []

    def read(self, node: Node, path: Path) -> Any:
        place = f"{self.name}:{node.start_mark.line + 1}"
        self.places.setdefault(path, place)
        self.seen += 1
        if self.seen > _MOST_VALUES:
            raise RecipeError(f"{place}: more than {_MOST_VALUES:,} values: do aliases repeat each other?")
        if id(node) in self.open:
            raise RecipeError(f"{place}: an alias contains itself")
        self.open.append(id(node))
        try:
            if isinstance(node, MappingNode):
                return self.mapping(node, path)
            if isinstance(node, SequenceNode):
                return [self.read(child, (*path, index)) for index, child in enumerate(node.value)]
            assert isinstance(node, ScalarNode)
            return self.scalar(node, place)
        finally:
            self.open.pop()

    def mapping(self, node: MappingNode, path: Path) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            place = f"{self.name}:{key_node.start_mark.line + 1}"
            if not isinstance(key_node, ScalarNode):
                raise RecipeError(f"{place}: a key must be a name, not a list or a mapping")
            key = str(key_node.value)
            if key in result:
                raise RecipeError(f"{place}: key {key!r} is given twice")
            self.places[(*path, key)] = place
            result[key] = self.read(value_node, (*path, key))
        return result

    def scalar(self, node: ScalarNode, place: str) -> Any:
        kind = str(node.tag).rsplit(":", 1)[-1]
        if kind == "timestamp":
            return node.value
        if kind not in ("str", "int", "float", "bool", "null"):
            raise RecipeError(f"{place}: tag {str(node.tag)!r} is not allowed in a recipe")
        try:
            return self.yaml.constructor.construct_object(node)
        except (YAMLError, ValueError) as error:
            raise RecipeError(f"{place}: {node.value!r} is not a valid {kind}") from error
