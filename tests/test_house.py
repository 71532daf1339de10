"""Rules of the house that hold for every module and every task."""

from __future__ import annotations

import ast
import importlib.metadata
import subprocess
import sys
from pathlib import Path

import pytest

from storage.code import FIRST_PARTY, code_of, file_of
from storage.described import descriptions_of
from storage.kinds import artifact_class
from tasks.registry import TASKS, task_class
from tasks.task import Task

ROOT = Path(__file__).parents[1]
HEAVY = ("torch", "deepspeed", "transformers", "peft", "mlflow")

# Imported by tasks, but unable to shape an artifact's bytes.
NOT_SHAPING = {
    "pebble": "runs functions in processes",
    "pydantic": "validates settings, which enter the key by value",
    "pydantic_core": "see pydantic",
    "fsspec": "moves bytes",
    "typing_extensions": "types",
    "psutil": "measures memory",
    "matplotlib": "draws for people",
}
ALWAYS_SHAPING = {"numpy", "pyarrow"}
"""Formats and arithmetic of every task; a new version of them rebuilds nothing (see docs/decisions.md)."""


@pytest.mark.parametrize("module", ["flows.cli", "flows.recipe", "flows.plan", "tasks.registry"])
def test_what_only_plans_imports_nothing_heavy(module: str) -> None:
    code = f"import sys, {module}; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", sorted(TASKS))
def test_importing_a_task_does_not_import_torch(name: str) -> None:
    code = f"import sys; from tasks.registry import task_class; task_class({name!r}); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize("name", sorted(TASKS))
def test_a_task_declares_the_libraries_that_its_code_imports(name: str) -> None:
    task = task_class(name)
    modules = code_of(task.__module__, *task.also_runs)
    assert task.__module__ in modules
    distributions = importlib.metadata.packages_distributions()
    imported = {
        distributions[top][0].lower()
        for module in modules
        for top in _top_level_imports(module)
        if top in distributions and top not in FIRST_PARTY and top not in NOT_SHAPING
    }
    declared = {library.lower() for library in task.libraries}
    assert imported - ALWAYS_SHAPING == declared - ALWAYS_SHAPING


@pytest.mark.parametrize("name", sorted(TASKS))
def test_every_field_of_a_task_is_documented(name: str) -> None:
    described = descriptions_of(task_class(name))
    assert [field for field in task_class(name).model_fields if not described.get(field) and field != "documents"] == []


@pytest.mark.parametrize("name", sorted(TASKS))
def test_every_kind_a_task_makes_can_be_opened(name: str) -> None:
    task: type[Task] = task_class(name)
    assert artifact_class(task.makes.kind) is task.makes


def _top_level_imports(module: str) -> set[str]:
    path = file_of(module)
    assert path is not None
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.split(".")[0])
    return found
