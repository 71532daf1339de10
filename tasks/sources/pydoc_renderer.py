"""A program: writes the documentation of Python's standard library, one JSON line a module.

It is run on its own, in an emptied environment (see ``tasks.sources.pydoc``), because pydoc prints
values: of the environment, of ``sys.path``, addresses of objects. What depends on the machine, on
the user or on this one run is left out here, so that the same Python gives the same bytes.

With the argument ``pages`` a line is ``{"module", "html"}``; with ``pairs`` it is
``{"module", "pairs"}``, a pair being ``[kind, name, signature, summary]``; for a module that cannot
be imported on this machine it is ``{"module", "error"}``. Standard library only.
"""

from __future__ import annotations

import contextlib
import enum
import functools
import importlib
import inspect
import json
import os
import pydoc
import re
import sys
import sysconfig
import types
import warnings
from collections.abc import Iterator
from typing import Any

LEFT_OUT = frozenset({"antigravity", "idlelib", "lib2to3", "pydoc_data", "test", "this", "turtledemo"})
"""They open a browser or a window, print poems, or hold no documentation of their own."""
_MACHINES = frozenset({"os", "platform", "posix", "site", "sys", "sysconfig", "tempfile"})
"""Modules whose texts tell about the machine."""
_ADDRESS = re.compile(r"(?: |&nbsp;)at(?: |&nbsp;)0x[0-9a-fA-F]+")
_PATH_INSIDE = re.compile(r"[/\\]\w")
_CALL = r"[\w.]+(\([^()]*(?:\([^()]*\)[^()]*)*\))(?:\s*->\s*[^.\n]{1,60}?)?"
_SIGNATURE_LINE = re.compile(_CALL)
_SIGNATURE_DASH = re.compile(_CALL + r"\s*(?:--|—|:)\s+(.+)", re.DOTALL)


def module_names() -> list[str]:
    """Public top-level modules of the standard library, sorted."""
    names = (name for name in sys.stdlib_module_names if not name.startswith("_"))
    return sorted(name for name in names if name not in LEFT_OUT)


class Scrubbed(pydoc.HTMLDoc):
    """pydoc's HTML without anything that only this machine or this run could say."""

    def filelink(self, url: str, path: str) -> str:
        """The file's place within the standard library, not on the disk."""
        library = os.path.join(sysconfig.get_path("stdlib"), "")
        return path.removeprefix(library).replace(os.sep, "/") if path.startswith(library) else "(built-in)"

    def docother(self, object: Any, name: str | None = None, mod: str | None = None, *ignored: Any) -> str:
        value = self.escape(shown(object, name or "", self._module))
        return (f"<strong>{name}</strong> = " if name else "") + value

    def docmodule(self, object: Any, name: str | None = None, mod: str | None = None, *ignored: Any) -> str:
        self._module = object.__name__
        return super().docmodule(object, name, mod, *ignored)

    _module = ""


def shown(value: Any, name: str, module: str) -> str:
    """A data value as text, if it is the same wherever this Python runs; else its type."""
    if isinstance(value, enum.Enum) and type(value.value) in (int, str):
        return f"<{type(value).__name__}.{value.name}: {value.value!r}>"
    if type(value) in (list, tuple) and value and all(_is_constant(item, name, module) for item in value):
        whole = repr(value)
        return whole if len(whole) <= 2000 else f"{whole[:2000]}..."
    if _is_constant(value, name, module):
        whole = repr(value)
        return whole if len(whole) <= 300 else f"{whole[:300]}..."
    return f"<{type(value).__name__}>"


def _is_constant(value: Any, name: str, module: str) -> bool:
    if "version" in name.lower():
        return False
    if value is None or type(value) in (bool, int, float):
        return True
    return type(value) in (str, bytes) and module not in _MACHINES and not _PATH_INSIDE.search(repr(value))


def imported(names: list[str]) -> dict[str, types.ModuleType | str]:
    """The modules by name; the class name of the exception for those that cannot be imported here."""
    found: dict[str, types.ModuleType | str] = {}
    for name in names:
        try:
            found[name] = importlib.import_module(name)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever a module does, the others go on
            found[name] = type(error).__name__
    return found


def page_of(module: types.ModuleType) -> str:
    """The module's page, scrubbed."""
    document = Scrubbed()
    title = document.escape(module.__name__)
    html = document.page(title, document.document(module, module.__name__))
    return _scrubbed(html)


def _scrubbed(text: str) -> str:
    text = _ADDRESS.sub("", text)
    for place in _places():
        text = text.replace(place, "")
    return text.encode("utf-8", "replace").decode("utf-8")


@functools.cache
def _places() -> list[str]:
    """Folders and files of this machine that a page could name, longest first."""
    places = {sysconfig.get_path("stdlib"), sys.executable, sys._base_executable}  # type: ignore[attr-defined]
    return sorted((place for place in places if place), key=lambda place: (-len(place), place))


Described = tuple[str, str, str, str]
"""Kind (``module``, ``class``, ``function`` or ``method``), qualified name, signature, summary."""


def pairs_by_module(modules: dict[str, types.ModuleType]) -> dict[str, list[Described]]:
    """What is documented in each module; an object re-exported elsewhere counts only where it is at home.

    Home is the public module that defines it; for what a private module defines (``_heapq``), the
    first public module that shows it.
    """
    shown_by: dict[int, str] = {}
    for name, module in modules.items():
        for _, value in _members(module):
            home = getattr(value, "__module__", None)
            if home in modules:
                shown_by[id(value)] = home
            else:
                shown_by.setdefault(id(value), name)
    made: dict[str, list[Described]] = {}
    for name, module in modules.items():
        at_home = [(key, value) for key, value in _members(module) if shown_by[id(value)] == name]
        found = [("module", name, "", summary_of(module)[1])]
        for key, value in at_home:
            found.extend(_described(f"{name}.{key}", value))
        made[name] = [item for item in found if item[3]]
    return made


def _members(module: types.ModuleType) -> Iterator[tuple[str, Any]]:
    """Public classes and functions of a module, by name."""
    listed = getattr(module, "__all__", None)
    for key, value in inspect.getmembers(module):
        if not (inspect.isclass(value) or inspect.isroutine(value)):
            continue
        if (listed is not None and key in listed) or (listed is None and not key.startswith("_")):
            yield key, value


def _described(name: str, value: Any) -> Iterator[Described]:
    if not inspect.isclass(value):
        signature, summary = summary_of(value)
        yield "function", name, signature, summary
        return
    yield "class", name, *summary_of(value)
    for key, member in sorted(vars(value).items()):
        if not key.startswith("_") and (inspect.isroutine(member) or isinstance(member, (classmethod, staticmethod))):
            signature, summary = summary_of(getattr(value, key, member))
            yield "method", f"{name}.{key}", signature, summary


def summary_of(value: Any) -> tuple[str, str]:
    """Signature (empty if unknown) and the first paragraph of what the object says of itself, on one line."""
    # Only the object's own words: pydoc would go on to its base classes.
    text = inspect.cleandoc(value.__doc__) if isinstance(getattr(value, "__doc__", None), str) else ""
    said = ""
    first, _, rest = text.partition("\n")
    if call := _SIGNATURE_LINE.fullmatch(first.strip()):
        said, text = call.group(1), rest.strip("\n")
    summary = " ".join(re.split(r"\n\s*\n", text.strip())[0].split())
    if call := _SIGNATURE_DASH.fullmatch(summary):
        said, summary = call.groups()
    # Some C functions have no signature, or one with names that do not exist: then what is said stays.
    with contextlib.suppress(Exception):
        said = str(inspect.signature(value))
    return _scrubbed(said), _scrubbed(summary)


class _Default:
    """Stands for a default value in a signature."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text


def scrub_signatures() -> None:
    """Let signatures, pydoc's too, show the defaults that are the same everywhere, and of others the type."""
    original = inspect.signature

    def signature(*arguments: Any, **options: Any) -> inspect.Signature:
        found = original(*arguments, **options)
        shown_defaults = [
            parameter
            if parameter.default is inspect.Parameter.empty
            else parameter.replace(default=_Default(_shown_default(parameter.default)))
            for parameter in found.parameters.values()
        ]
        return found.replace(parameters=shown_defaults)

    inspect.signature = signature


def _shown_default(value: Any) -> str:
    if type(value) in (dict, list, tuple, set, frozenset) and not value:
        return repr(value)
    if inspect.isclass(value) or inspect.isroutine(value):
        return str(getattr(value, "__qualname__", type(value).__name__))
    return shown(value, "", "")


def main(what: str) -> None:
    """Write one line a module, in the order of their names."""
    warnings.simplefilter("ignore")
    scrub_signatures()
    # What a module prints while it is imported must not get between the lines.
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as out:
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 1)
        found = imported(module_names())
        modules = {name: module for name, module in found.items() if isinstance(module, types.ModuleType)}
        pairs = pairs_by_module(modules) if what == "pairs" else {}
        for name, module in found.items():
            if isinstance(module, str):
                line: dict[str, Any] = {"module": name, "error": module}
            elif what == "pairs":
                line = {"module": name, "pairs": pairs[name]}
            else:
                line = _page_line(name, module)
            out.write(json.dumps(line) + "\n")


def _page_line(name: str, module: types.ModuleType) -> dict[str, Any]:
    try:
        return {"module": name, "html": page_of(module)}
    except Exception as error:  # noqa: BLE001 - pydoc itself trips over some modules
        return {"module": name, "error": type(error).__name__}


if __name__ == "__main__":
    main(sys.argv[1])
