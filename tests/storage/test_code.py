"""A comment never changes the identity of code; a changed constant always does."""

from __future__ import annotations

import ast
import gc
import os
import re
import sys
import threading
from pathlib import Path

import pytest

from storage import code
from storage.code import changed_symbols, code_of, normalised


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty first-party package ``tasks`` in a folder of its own."""
    monkeypatch.setattr(code, "_ROOT", tmp_path)
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "__init__.py").write_text('"""Tasks."""\n')
    return tmp_path / "tasks"


def digests(package: Path, **modules: str) -> code.SymbolDigests:
    for name, text in modules.items():
        (package / f"{name}.py").write_text(text)
    code.forget()
    return code_of("tasks.a")


BASE = '''
"""A module."""
from tasks.b import helper
LIMIT = 3
class A:
    x: int = 1
    """A field."""
    def run(self):
        """Do it."""
        return helper(self.x) + LIMIT
'''
HELPER = "def helper(x):\n    return x\n"


def test_comments_docstrings_and_layout_do_not_count(package: Path) -> None:
    before = digests(package, a=BASE, b=HELPER)
    rewritten = (
        BASE.replace("A module", "Something else").replace("A field", "Another").replace("Do it", "It is done")
    ).replace("LIMIT = 3", "# why three\n\nLIMIT = (3)")
    assert digests(package, a=rewritten, b=HELPER + "\n# the end\n") == before


@pytest.mark.parametrize(
    ("old", "new", "symbol"),
    [("LIMIT = 3", "LIMIT = 4", "LIMIT"), ("x: int = 1", "x: int = 2", "A"), ("+ LIMIT", "- LIMIT", "A")],
)
def test_a_change_of_meaning_is_seen_and_named(package: Path, old: str, new: str, symbol: str) -> None:
    before = digests(package, a=BASE, b=HELPER)
    after = digests(package, a=BASE.replace(old, new), b=HELPER)
    assert changed_symbols(before, after) == {"tasks.a": [symbol]}


def test_imported_modules_count_also_inside_functions_but_not_plumbing(package: Path) -> None:
    inside = BASE + "\n    def later(self):\n        import tasks.c\n        from . import d\n"
    texts = {
        "a": inside,
        "b": HELPER,
        "c": "C = 1\n",
        "d": 'PLUMBING = "no bytes"\nfrom tasks import e\n',
        "e": "E = 1\n",
    }
    before = digests(package, **texts)
    assert set(before) == {"tasks.a", "tasks.b", "tasks.c"}
    assert digests(package, **{**texts, "e": "E = 2\n", "d": 'PLUMBING = "no"\nD = 2\n'}) == before
    assert changed_symbols(before, digests(package, **{**texts, "c": "C = 2\n"})) == {"tasks.c": ["C"]}


def test_imports_for_type_checkers_only_do_not_count(package: Path) -> None:
    text = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from tasks.b import helper\n"
    assert set(digests(package, a=text, b=HELPER)) == {"tasks.a"}


def test_the_text_of_syntax_is_the_same_on_every_python() -> None:
    source = "def f(a, *, b=1):\n    return f'{a!r:>{b}} {{}}' if a else [x for x in b]\nclass C[T]: pass\n"
    if sys.version_info < (3, 12):
        source = source.replace("class C[T]: pass", "class C: pass")
    text = normalised(ast.parse(source.replace("class C[T]: pass", "class C: pass")))
    assert "type_params" not in text
    assert "kind" not in text
    assert text == (
        "Module(body=[FunctionDef(name='f',args=arguments(args=[arg(arg='a')],kwonlyargs=[arg(arg='b')],"
        "kw_defaults=[Constant(value=1)]),body=[Return(value=IfExp(test=Name(id='a'),body=JoinedStr(values=["
        "FormattedValue(value=Name(id='a'),conversion=114,format_spec=JoinedStr(values=[Constant(value='>'),"
        "FormattedValue(value=Name(id='b'),conversion=-1)])),Constant(value=' {}')]),orelse=ListComp(elt=Name(id='x'),"
        "generators=[comprehension(target=Name(id='x'),iter=Name(id='b'),is_async=0)])))]),ClassDef(name='C',body=[Pass()])])"
    )


def test_every_module_that_declares_itself_plumbing_says_why() -> None:
    root = Path(code.__file__).parents[1]
    for folder in code.FIRST_PARTY:
        for path in (root / folder).rglob("*.py"):
            declared = re.search(r"^PLUMBING = (.*)$", path.read_text(), re.MULTILINE)
            assert declared is None or len(declared[1]) > 10, path


def test_threads_may_ask_at_once() -> None:
    """Before Python 3.13 parsing in two threads can fail; collecting garbage all the time makes it likely."""
    errors: list[SystemError] = []

    def ask() -> None:
        try:
            code_of("tasks.dedup")
        except SystemError as error:
            errors.append(error)

    def noticed(phase: str, info: dict[str, int]) -> None:
        sum(range(50))  # a place for the interpreter to change threads

    thresholds, interval = gc.get_threshold(), sys.getswitchinterval()
    gc.set_threshold(10, 2, 2)
    gc.callbacks.append(noticed)
    sys.setswitchinterval(1e-6)
    try:
        code.forget()
        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        gc.set_threshold(*thresholds)
        gc.callbacks.remove(noticed)
        sys.setswitchinterval(interval)
    assert errors == []


def test_what_modules_say_is_remembered_by_the_state_of_their_files(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(code, "_cache", None)
    fresh = digests(package, a=BASE, b=HELPER)
    for path in package.iterdir():
        os.utime(path, (1, 1))  # long settled
    remembered = tmp_path / "code.json"

    def asked() -> code.SymbolDigests:
        code.forget()
        code.remember_in(remembered)
        return code_of("tasks.a")

    assert asked() == fresh
    with monkeypatch.context() as patched:
        patched.setattr(code, "_parsed", None)  # not called
        assert asked() == fresh
    (package / "b.py").write_text(HELPER.replace("x\n", "x + 1\n"))
    assert set(changed_symbols(fresh, asked())) == {"tasks.b"}
    (package / "b.py").unlink()
    (package / "b").mkdir()
    (package / "b" / "__init__.py").write_text(HELPER)  # an import leads to another file now
    assert asked() == fresh
    remembered.write_bytes(remembered.read_bytes()[:40])  # the power failed
    assert asked() == fresh
