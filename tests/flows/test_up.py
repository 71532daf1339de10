"""`athanor up` and runs as processes of their own: served, triggered, interrupted, with nothing left running."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

PAGE = "<html><body><h1>Page {0}</h1><p>The body of page number {0}, with words about 中文 too.</p></body></html>"
RECIPE = """\
name: site
steps:
  pages: {task: collect, sources: [{kind: files, path: "site/*.html"}]}
  documents: {task: clean_html, pages: pages, extractor: beautifulsoup}
resources: {workers: 1}
"""
PATIENCE = 600.0
"""Seconds that a loaded machine may need for what takes a quiet one ten."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "site").mkdir()
    for number in range(8):
        (tmp_path / "site" / f"{number}.html").write_text(PAGE.format(number))
    (tmp_path / "site.yaml").write_text(RECIPE)
    return tmp_path


@pytest.fixture
def start(folder: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts `athanor` in the folder, as a process group of its own; what is left of it is killed."""
    started: list[subprocess.Popen[str]] = []
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT", "MLFLOW", "ATHANOR"))}

    def start(*arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "flows.cli", *arguments]
        root = str(Path(__file__).parents[2])
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment | {"PYTHONPATH": root},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
            process.wait()


def wait_for(condition: Callable[[], Any], what: str) -> Any:
    end = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert time.monotonic() < end, f"waited in vain for {what}"
        time.sleep(0.3)
    return found


def family(process: subprocess.Popen[str]) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


def nobody_left(processes: list[psutil.Process]) -> bool:
    return not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in processes)


def line_with(process: subprocess.Popen[str], text: str) -> str:
    assert process.stdout is not None
    said = []
    for line in process.stdout:
        said.append(line)
        if text in line:
            return line
    raise AssertionError(f"{text!r} was never said, but: {''.join(said)}")


def call(url: str, content: Any = None) -> Any:
    data = json.dumps(content).encode() if content is not None else None
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=PATIENCE) as response:
        return json.loads(response.read() or b"null")


@pytest.mark.slow
def test_up_serves_recipes_that_the_pages_can_trigger(folder: Path, start: Callable[..., Any]) -> None:
    up = start("up")
    prefect = line_with(up, "Prefect").split()[1]
    mlflow = line_with(up, "MLflow").split()[1]
    threading.Thread(target=up.stdout.read, daemon=True).start()  # a full pipe would stop it
    assert prefect.startswith("http://127.0.0.1:")
    with urllib.request.urlopen(mlflow, timeout=PATIENCE) as response:
        assert response.status == 200
    with urllib.request.urlopen(prefect, timeout=PATIENCE) as response:
        assert b"<html" in response.read().lower()

    def ours() -> Any:
        deployments = call(f"{prefect}/api/deployments/filter", {})
        return next((d for d in deployments if d["parameters"]["recipe"].endswith("site.yaml")), None)

    deployment = wait_for(ours, "the deployment")
    parameters = {"overrides": ["documents.max_page_bytes=5000000"]}
    run = call(f"{prefect}/api/deployments/{deployment['id']}/create_flow_run", {"parameters": parameters})
    final = ("COMPLETED", "FAILED", "CRASHED")
    state = wait_for(
        lambda: (s := call(f"{prefect}/api/flow_runs/{run['id']}")["state"])["type"] in final and s, "the flow run"
    )
    assert state["type"] == "COMPLETED", state

    again = start("run", "site.yaml", "--set", "documents.max_page_bytes=5000000", "--json")
    output, _ = again.communicate(timeout=PATIENCE)
    result = json.loads(output[output.index("{") :])
    assert {step["status"] for step in result["steps"].values()} == {"reused"}

    second = start("up")
    assert second.wait(PATIENCE) == 2
    assert prefect in second.stdout.read()
    children = family(up)
    up.send_signal(signal.SIGINT)
    assert up.wait(PATIENCE) == 0
    wait_for(lambda: nobody_left(children), "all to end")
    assert not (folder / ".athanor" / "up.json").exists()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_run_leaves_nothing_running(number: signal.Signals, start: Callable[..., Any]) -> None:
    run = start("run", "site.yaml")
    line_with(run, "building")
    children = family(run)
    assert children
    if number == signal.SIGINT:
        os.killpg(run.pid, number)  # as a terminal does
        assert run.wait(PATIENCE) == 130
    else:
        run.send_signal(number)
        run.wait(PATIENCE)
    wait_for(lambda: nobody_left(children), "all to end")
    again = start("run", "site.yaml")
    again.communicate(timeout=PATIENCE)
    assert again.returncode == 0


@pytest.mark.slow
def test_two_runs_at_once_without_a_server_build_each_step_once(start: Callable[..., Any]) -> None:
    runs = [start("run", "site.yaml", "--json") for _ in range(2)]
    statuses: dict[str, list[str]] = {}
    for run in runs:
        output, _ = run.communicate(timeout=2 * PATIENCE)
        assert run.returncode == 0, output
        for name, step in json.loads(output[output.index("{") :])["steps"].items():
            statuses.setdefault(name, []).append(step["status"])
    assert {name: sorted(found) for name, found in statuses.items()} == {name: ["built", "reused"] for name in statuses}
