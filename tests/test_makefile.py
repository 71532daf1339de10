"""A machine that lacks something is told so in one line, before anything is downloaded."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def requirements(**variables: str) -> subprocess.CompletedProcess[str]:
    given = [f"{name}={value}" for name, value in {"PYTHON": sys.executable, **variables}.items()]
    command = ["make", "--no-print-directory", "requirements", *given]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def script(path: Path, text: str) -> str:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def test_a_complete_machine_passes_silently() -> None:
    done = requirements()
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"PYTHON": "no-such-python"}, "no no-such-python found; install Python 3.11 or newer"),
        ({"CXX": "no-such-compiler"}, r"no C\+\+ compiler \(no-such-compiler\) found"),
    ],
)
def test_what_is_missing_is_one_line_with_a_remedy(variables: dict[str, str], said: str) -> None:
    done = requirements(**variables)
    lines = [line for line in done.stderr.splitlines() if not line.startswith("make")]
    assert done.returncode == 2
    assert len(lines) == 1
    assert re.match(f"athanor: {said}", lines[0])


@pytest.mark.parametrize(
    ("fails_on", "said"),
    [
        ("version_info", "Python 3.9.2 is too old; install Python 3.11 or newer"),
        ("ensurepip", "has no venv module"),
        ("Python.h", "Python's C headers are missing"),
    ],
)
def test_a_python_that_will_not_do_is_told_why(fails_on: str, said: str, tmp_path: Path) -> None:
    python = script(
        tmp_path / "python3",
        f'case "$*" in *{fails_on}*) exit 1;; *--version*) echo "Python 3.9.2";; *) exit 0;; esac',
    )
    done = requirements(PYTHON=python)
    lines = [line for line in done.stderr.splitlines() if not line.startswith("make")]
    assert done.returncode == 2
    assert len(lines) == 1
    assert said in lines[0]


def test_both_locks_hold_the_same_versions_but_for_cuda() -> None:
    cpu, cuda = (_locked(ROOT / "deployments" / "requirements" / f"{name}.txt") for name in ("cpu", "cuda"))
    assert {name: version for name, version in cuda.items() if name in cpu and name != "torch"} == {
        name: version for name, version in cpu.items() if name != "torch"
    }
    assert cpu["torch"] == {f"{version}+cpu" for version in cuda["torch"]} | cuda["torch"]
    assert all(re.match("nvidia-|cuda-|triton", name) for name in cuda.keys() - cpu.keys())


def _locked(path: Path) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for line in path.read_text().splitlines():
        name, _, rest = line.partition("==")
        found.setdefault(name, set()).add(rest.split(" ")[0])
    return found
