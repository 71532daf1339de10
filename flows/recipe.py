"""A recipe: a YAML file that declares a graph of steps, read and checked before anything runs."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, Field

from flows.overrides import RESERVED, apply_override, keys_of
from flows.recipe_errors import did_you_mean, kind_of, shortened, validate, with_article
from flows.recipes import SHIPPED, shipped_recipes
from flows.yaml_tree import Path as Place
from flows.yaml_tree import Tree, load_tree
from storage.errors import RecipeError
from tasks.inputs import Input, Kind, takes
from tasks.registry import TASKS, task_class
from tasks.task import Resources, Settings, Task

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")


@dataclass(frozen=True)
class Step:
    """A named node of the graph."""

    name: str
    task_name: str
    task: Task
    resources: Resources
    place: str
    """``file:line`` of its declaration, and what ``--set`` gave it."""

    @property
    def needs(self) -> list[str]:
        """Names of the steps it takes its inputs from, each once, in the order of the fields."""
        return list(dict.fromkeys(i.step for i in self.task.inputs().values() if i.step is not None))


@dataclass(frozen=True)
class Recipe:
    """A validated graph of tasks."""

    name: str
    seed: int
    store: str | None
    """Address of the store, if the recipe names one."""
    folder: Path
    """What relative paths in it start from."""
    steps: dict[str, Step]
    """In an order in which each step comes after those it needs."""

    def maker_of(self, reference: Input[Any]) -> Task | None:
        """The task that makes what an input refers to; None for a folder."""
        return self.steps[reference.step].task if reference.step is not None else None

    def upstream(self, names: Iterable[str]) -> set[str]:
        """The named steps and all that they need, directly or not."""
        found: set[str] = set()
        waiting = list(names)
        while waiting:
            name = waiting.pop()
            if name not in found:
                found.add(name)
                waiting.extend(self.steps[name].needs)
        return found

    def downstream(self, names: Iterable[str]) -> set[str]:
        """The named steps and all that need them, directly or not."""
        found = set(names)
        for step in self.steps.values():
            if found.intersection(step.needs):
                found.add(step.name)
        return found

    def check_steps(self, option: str, names: Iterable[str]) -> None:
        """Raise RecipeError for a name, given behind a command line option, that no step has."""
        for name in names:
            if name not in self.steps:
                raise RecipeError(f"{option} {name}: {self.name} has no step {name!r}{did_you_mean(name, self.steps)}")


class RecipeResources(Resources):
    """Where and how fast the steps run: defaults for all, and exceptions under ``steps``."""

    steps: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Resources of single steps, by name."""


class RecipeHead(Settings):
    """The fields of a recipe, before its steps are looked into."""

    model_config = ConfigDict(title="recipe")

    name: str
    """What its artifacts are listed under, and the name of its MLflow experiment."""
    steps: dict[str, dict[str, Any]]
    """The graph: each step's task, settings, and the steps it takes its inputs from."""
    seed: int = Field(1, ge=0, lt=2**32)
    """Of all that is drawn at random."""
    store: str | None = None
    """Address of the store; ``ATHANOR_STORE`` goes before it."""
    resources: dict[str, Any] = Field(default_factory=dict)
    """Where and how fast it runs; never part of what a step makes."""


def find_recipe(reference: str) -> tuple[Path, Path]:
    """The YAML file that ``reference`` (a path, or the name of a recipe that ships) means, and its base folder.

    Raises RecipeError if there is none.
    """
    path = Path(reference)
    if path.is_file():
        return path, path.resolve().parent
    shipped = SHIPPED / f"{reference}.yaml"
    if _NAME.fullmatch(reference) and shipped.is_file():
        return shipped, Path.cwd()
    if path.is_dir():
        raise RecipeError(f"{reference}: is a folder; give the path of a YAML file")
    known = shipped_recipes()
    raise RecipeError(
        f"{reference}: no such file, and no recipe of that name ships (there is: {', '.join(known)})"
        f"{did_you_mean(reference, known)}"
    )


def load_recipe(reference: str, overrides: Sequence[str] = ()) -> Recipe:
    """Read, override (``STEP.FIELD=VALUE``) and check a recipe; raises RecipeError for what cannot be run."""
    path, folder = find_recipe(reference)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        raise RecipeError(f"{_shown(path)}:{line}: not UTF-8 text; is this a recipe?") from error
    except OSError as error:
        raise RecipeError(f"{_shown(path)}: cannot be read: {error.strerror}") from error
    return parse_recipe(text, _shown(path), folder, overrides)


def parse_recipe(text: str, name: str, folder: Path, overrides: Sequence[str] = ()) -> Recipe:
    """The recipe that ``text`` declares; ``name`` is how messages call the file."""
    tree = load_tree(text, name)
    if tree.value is None:
        raise RecipeError(f"{name}:1: the file is empty; a recipe has at least 'name' and 'steps'")
    if not isinstance(tree.value, dict):
        raise RecipeError(f"{name}:1: a recipe is a mapping with 'name' and 'steps', not a {kind_of(tree.value)}")
    for override in overrides:
        apply_override(tree, override)
    head = validate(RecipeHead, tree.value, tree, (), "a recipe")
    if not _NAME.fullmatch(head.name):
        raise RecipeError(f"{tree.place(('name',))}: name {head.name!r}: take letters, digits, '-' and '_'")
    if not head.steps:
        raise RecipeError(f"{tree.place(('steps',))}: steps: there are none")
    resources = _resources(head.resources, list(head.steps), tree)
    steps = {step: _step(step, fields, resources[step], tree) for step, fields in head.steps.items()}
    for step in steps.values():
        _check_inputs(step, steps, tree, folder)
    recipe = Recipe(head.name, head.seed, head.store, folder, _in_order(steps))
    for step in recipe.steps.values():
        _check_makers(step, recipe)
        _check_network(step, recipe, tree)
    return recipe


# Steps


def _step(name: str, fields: dict[str, Any], resources: Resources, tree: Tree) -> Step:
    at: Place = ("steps", name)
    place = tree.place(at)
    if not _NAME.fullmatch(name) or name in RESERVED:
        raise RecipeError(
            f"{place}: step name {name!r}: take letters, digits, '-' and '_', and none of {', '.join(RESERVED)}"
        )
    task_name = fields.get("task")
    if task_name is None:
        raise RecipeError(f"{place}: {name} needs the field 'task', one of {', '.join(TASKS)}")
    if not isinstance(task_name, str) or task_name not in TASKS:
        remedy = did_you_mean(str(task_name), TASKS) or f"; the tasks are {', '.join(TASKS)}"
        raise RecipeError(
            f"{tree.place((*at, 'task'))}: {name}.task = {shortened(task_name)}: there is no task {task_name!r}{remedy}"
        )
    settings = {key: value for key, value in fields.items() if key != "task"}
    task = validate(task_class(task_name), settings, tree, at, task_name)
    try:
        task.check_resources(resources)
    except ValueError as error:
        raise RecipeError(f"{tree.place(('resources',))}: {name} cannot run on its resources: {error}") from error
    return Step(name, task_name, task, resources, place)


def _resources(given: dict[str, Any], steps: list[str], tree: Tree) -> dict[str, Resources]:
    """Resources of every step: the recipe's, and the step's own on top."""
    at: Place = ("resources",)
    common = validate(RecipeResources, given, tree, at, "resources")
    shared = common.model_dump(exclude_unset=True, exclude={"steps"})
    for name in common.steps:
        if name not in steps:
            raise RecipeError(
                f"{tree.place((*at, 'steps', name))}: resources.steps has {name!r}, "
                f"but there is no step {name!r}{did_you_mean(name, steps)}"
            )
    result = {}
    for name in steps:
        own = common.steps.get(name, {})
        validate(Resources, own, tree, (*at, "steps", name), "resources")
        result[name] = Resources.model_validate({**shared, **own})
    return result


def _check_inputs(step: Step, steps: Mapping[str, Step], tree: Tree, folder: Path) -> None:
    """Every reference names a step (or a folder) that makes what the field takes."""
    for slot, reference in step.task.inputs().items():
        place = tree.place(("steps", step.name, *keys_of(slot)))
        where = f"{step.name}.{slot}"
        if reference.step is None:
            if not (folder / str(reference.path)).is_dir():
                raise RecipeError(f"{place}: {where} = {{path: {reference.path}}}: there is no such folder")
            continue
        source = steps.get(reference.step)
        if source is None:
            raise RecipeError(
                f"{place}: {where} = {reference.step!r}: there is no step {reference.step!r}"
                f"{did_you_mean(reference.step, steps)}"
            )
        made = source.task.kind()
        if not any(issubclass(made, kind) for kind in reference.kinds):
            wanted = " or ".join(with_article(kind.kind) for kind in reference.kinds)
            raise RecipeError(
                f"{place}: {where}: step {source.name!r} makes {with_article(made.kind)}, not {wanted}"
                f"{_remedy(made, reference.kinds, steps, step.name)}"
            )


def _remedy(made: Kind, kinds: tuple[Kind, ...], steps: Mapping[str, Step], asking: str) -> str:
    """Where to get one of ``kinds``: the steps declared above that make it, or else the tasks that do from ``made``."""
    above = itertools.takewhile(lambda step: step.name != asking, steps.values())
    if fitting := [step.name for step in above if issubclass(step.task.kind(), kinds)]:
        return f"; name {' or '.join(fitting)}"
    classes = {name: task_class(name) for name in TASKS}
    between = [name for name, task in classes.items() if issubclass(task.makes, kinds) and takes(task, made)]
    return f"; put a step of {' or '.join(between)} between them" if between else ""


def _check_makers(step: Step, recipe: Recipe) -> None:
    """What the task asks of the settings of those that make its inputs."""
    try:
        step.task.check_makers(recipe.maker_of)
    except ValueError as error:
        raise RecipeError(f"{step.place}: {step.name}: {error}") from error


def _check_network(step: Step, recipe: Recipe, tree: Tree) -> None:
    """What a training step's resources ask of a network that was made elsewhere."""
    reference = step.task.goes_on_with()
    while reference is not None and (maker := recipe.maker_of(reference)) is not None:
        reference = maker.goes_on_with()
    if reference is None:
        return
    try:
        step.task.check_network(recipe.folder / str(reference.path), step.resources)
    except ValueError as error:
        place = tree.place(("resources",))
        raise RecipeError(f"{place}: {step.name} cannot run on its resources: {error}") from error


def _in_order(steps: dict[str, Step]) -> dict[str, Step]:
    """The steps sorted so that each comes after those it needs, otherwise as declared."""
    ordered: dict[str, Step] = {}
    while len(ordered) < len(steps):
        ready = [s for s in steps.values() if s.name not in ordered and all(need in ordered for need in s.needs)]
        if not ready:
            cycle = _cycle({name: step for name, step in steps.items() if name not in ordered})
            raise RecipeError(f"{steps[cycle[0]].place}: steps wait for each other: {' → '.join(cycle)}")
        ordered[ready[0].name] = ready[0]
    return ordered


def _cycle(steps: Mapping[str, Step]) -> list[str]:
    """One cycle among steps of which each needs another one of them."""
    path = [next(iter(steps))]
    while True:
        following = next(need for need in steps[path[-1]].needs if need in steps)
        if following in path:
            return [*path[path.index(following) :], following]
        path.append(following)


def _shown(path: Path) -> str:
    """A path as short as it can be said from here; recipes that ship by their file name."""
    if path.parent == SHIPPED:
        return path.name
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)
