"""The identity of code: digests of what modules say, not of how they are written down.

Comments, docstrings and layout do not count; a changed constant, default or branch does.
"""

from __future__ import annotations

import ast
import importlib.metadata
import os
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from storage.code_cache import CodeCache
from storage.identity import digest_of_text

PLUMBING = "it describes code; no task calls it"

FIRST_PARTY = ("storage", "model", "tasks", "flows")
_ROOT = Path(__file__).resolve().parents[1]
# Fields of syntax nodes that say nothing about meaning, or that only some versions of Python have when empty.
_IGNORED_FIELDS = {"type_comment", "type_ignores", "kind", "ctx"}

SymbolDigests = dict[str, dict[str, str]]
"""Module name → symbol defined at its top level (``<imports>`` and ``<module>`` for the rest) → digest."""


def code_of(*modules: str) -> SymbolDigests:
    """Digests of ``modules`` and of every first-party module they import, also inside functions.

    Modules that declare ``PLUMBING = "why"`` are left out together with what only they import:
    they cannot shape an artifact's bytes. Raises ModuleNotFoundError if there is no such module.
    """
    found: SymbolDigests = {}
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        said = _read(name)
        if said.plumbing and name not in modules:
            continue
        found[name] = said.symbols
        waiting.extend(module for imported in said.imports for module in _first_party(imported))
    if _cache is not None:
        _cache.save()
    return {name: symbols for name, symbols in sorted(found.items()) if symbols}


def remember_in(path: Path) -> None:
    """Keep what modules say in a file, so that no later process has to parse what has not changed since."""
    global _cache
    _cache = CodeCache(path, Path(__file__))


def library_versions(names: Sequence[str]) -> dict[str, str]:
    """Installed version of each distribution; PackageNotFoundError if one is missing."""
    return {name: importlib.metadata.version(name) for name in sorted(names)}


def changed_symbols(old: SymbolDigests, new: SymbolDigests) -> dict[str, list[str]]:
    """Module → names of the symbols that differ, for modules that differ at all."""
    changes = {}
    for module in sorted(old.keys() | new.keys()):
        before, after = old.get(module, {}), new.get(module, {})
        differing = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
        if differing:
            changes[module] = differing
    return changes


@cache
def file_of(module: str) -> Path | None:
    """Source file of a first-party module, or None if there is no such module. Looked for once per process."""
    base = os.path.join(_ROOT, *module.split("."))
    for candidate in (os.path.join(base, "__init__.py"), f"{base}.py"):
        if os.path.isfile(candidate):
            return Path(candidate)
    return None


def forget() -> None:
    """Look at the code anew: a process else takes it for what it was when it was asked for first."""
    for function in (file_of, _read):
        function.cache_clear()


_parsing = threading.Lock()
"""Before Python 3.13 two threads that parse at once share a count of depth, and one may fail: "AST constructor
recursion depth mismatch". Steps are planned in threads."""


@dataclass(frozen=True)
class _Said:
    """What a module says."""

    symbols: dict[str, str]
    imports: list[str]
    """Names in its imports that begin as ours do; whether they are modules is looked for when they are followed."""
    plumbing: bool


_cache: CodeCache | None = None


@cache
def _read(module: str) -> _Said:
    """What a first-party module says; parsed once per state of its file."""
    path = file_of(module)
    if path is None:
        raise ModuleNotFoundError(f"no first-party module {module!r}")
    if _cache is None:
        return _parsed(module, path)
    return _Said(**_cache.get(path, lambda: vars(_parsed(module, path))))


def _parsed(module: str, path: Path) -> _Said:
    with _parsing:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    parts: dict[str, list[str]] = {}
    plumbing = False
    for statement in tree.body:
        if _is_text(statement):
            continue
        name = _symbol(statement)
        plumbing = plumbing or name == "PLUMBING"
        parts.setdefault(name, []).append(normalised(statement))
    parts.get("<imports>", []).sort()
    symbols = {name: digest_of_text("\n".join(texts))[:16] for name, texts in parts.items()}
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    return _Said(symbols, sorted(set(_imports(tree, package))), plumbing)


def _symbol(statement: ast.stmt) -> str:
    """The name under which a change of this top-level statement is reported."""
    if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return statement.name
    if isinstance(statement, (ast.Import, ast.ImportFrom)):
        return "<imports>"
    targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
    names = [target.id for target in targets if isinstance(target, ast.Name)]
    return names[0] if names else "<module>"


def _is_text(statement: ast.AST) -> bool:
    """A string that stands alone: a docstring, of a field too."""
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )


def normalised(node: object) -> str:
    """A text of the syntax that is the same on every supported version of Python.

    ``ast.dump`` and ``ast.unparse`` differ from version to version (new empty fields, quoting
    inside f-strings), so only the fields that hold something are written, in the grammar's order.
    """
    if isinstance(node, ast.AST):
        fields = []
        for name in type(node)._fields:
            value = None if name in _IGNORED_FIELDS else getattr(node, name, None)
            if value is not None and value != []:
                fields.append(f"{name}={normalised(value)}")
        return f"{type(node).__name__}({','.join(fields)})"
    if isinstance(node, list):
        return "[" + ",".join(normalised(item) for item in node if not _is_text(item)) + "]"
    return repr(node)


def _imports(tree: ast.Module, package: str) -> Iterator[str]:
    for node in _statements(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")
                base = ".".join(parents[: len(parents) - node.level + 1] + ([base] if base else []))
            names = [base, *(f"{base}.{alias.name}" for alias in node.names)]
        else:
            continue
        yield from (name for name in names if name.partition(".")[0] in FIRST_PARTY)


def _first_party(name: str) -> Iterator[str]:
    """The module, and the packages around it, that a name in an import stands for."""
    parts = name.split(".")
    for length in range(1, len(parts) + 1):
        module = ".".join(parts[:length])
        if file_of(module) is not None:
            yield module


def _statements(tree: ast.Module) -> Iterator[ast.AST]:
    """All statements, nested ones too, but those below ``if TYPE_CHECKING:``, which are never run."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            waiting.extend(node.orelse)
            continue
        yield node
        for blocks in ("body", "orelse", "finalbody", "handlers", "cases"):
            waiting.extend(getattr(node, blocks, ()) if not isinstance(node, (ast.expr, ast.Lambda)) else ())
