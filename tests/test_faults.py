"""Killed at any moment, a run goes on and ends with the same artifacts; nothing is left running."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow.tracking import MlflowClient

from flows.home import Home
from tests.model.trouble import PATIENCE, Gates

WORDS = [
    "furnace",
    "ember",
    "salt",
    "mercury",
    "gold",
    "lead",
    "sulphur",
    "vessel",
    "flame",
    "ash",
    "vapour",
    "tincture",
    "copper",
    "iron",
    "glass",
]
HANZI = "水火木金土山石田人口日月天地風雨雲雪花草鳥魚馬牛羊車門書文字心手足目耳"
RECIPE = """
name: faults
steps:
  pages:     {task: collect, sources: [{kind: files, path: "site/**/*.html"}]}
  documents: {task: clean_html, pages: pages, extractor: beautifulsoup}
  kept:      {task: filter, documents: documents, rules: [length]}
  scrubbed:  {task: scrub_pii, documents: kept}
  unique:    {task: dedup, documents: scrubbed, similarity: 0.9}
  tokenizer: {task: train_tokenizer, documents: unique, vocab_size: 512}
  shards:    {task: shard, documents: unique, tokenizer: tokenizer, validation_fraction: 0.2}
  base:
    task: pretrain
    data: shards
    model: {layers: 1, width: 32, heads: 2, context: 64}
    tokens: 100_000
    batch_tokens: 512
    optimizer: {name: adamw, learning_rate: 1e-3, warmup_tokens: 2_000}
resources:
  workers: 2
  steps: {base: {processes: 2, zero_stage: 1, micro_batch_sequences: 4}}
"""


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe over 150 made pages, English and Chinese."""
    folder = tmp_path_factory.mktemp("faults")
    chance = random.Random(5)
    for number in range(150):
        page = folder / "site" / f"{number % 7}" / f"{number}.html"
        page.parent.mkdir(parents=True, exist_ok=True)
        english = " ".join(chance.choices(WORDS, k=120))
        chinese = "".join(chance.choices(HANZI, k=80))
        page.write_text(f"<html><body><h1>Page {number}</h1><p>{english}.</p><p>{chinese}。</p></body></html>")
    (folder / "recipe.yaml").write_text(RECIPE)
    return folder / "recipe.yaml"


def start(recipe: Path, home: Path, **variables: str) -> subprocess.Popen[str]:
    """`athanor run`, with these variables in its environment."""
    command = [str(Path(sys.executable).parent / "athanor"), "run", str(recipe), "--json"]
    environment = {**os.environ, "ATHANOR_HOME": str(home), "OMP_NUM_THREADS": "1", **variables}
    home.mkdir(parents=True, exist_ok=True)
    with (home / "stderr.txt").open("a") as errors:
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment)


def finish(run: subprocess.Popen[str], home: Path) -> dict[str, Any]:
    """Wait for the run's end; its JSON summary."""
    output, _ = run.communicate(timeout=900)
    assert run.returncode == 0, (home / "stderr.txt").read_text()[-3000:]
    summary: dict[str, Any] = json.loads(output)
    return summary


def of_home(home: Path) -> list[int]:
    """Every living process that was started for this home, by its environment."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                environment = (process / "environ").read_bytes()
                state = (process / "stat").read_text().rpartition(")")[2].split()[0]
            except (FileNotFoundError, PermissionError, ProcessLookupError):
                continue
            if f"ATHANOR_HOME={home}".encode() in environment.split(b"\0") and state != "Z":
                found.append(int(process.name))
    return found


def kill_all(home: Path) -> None:
    """SIGKILL for the whole tree, so fast that nobody can clean up."""
    for pid in of_home(home):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    wait_until(lambda: not of_home(home), 60)


def wait_until(reached: Callable[[], bool], seconds: float) -> bool:
    """Whether it came true within the time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if reached():
            return True
        time.sleep(0.05)
    return reached()


def artifacts(summary: dict[str, Any]) -> dict[str, str]:
    return {name: step["artifact"] for name, step in summary["steps"].items()}


def start_until(step: int, recipe: Path, home: Path, gates: Path) -> subprocess.Popen[str]:
    """A run that waits, having made this optimiser step of the pretraining."""
    run = start(recipe, home, **Gates(gates, step).environment())

    def reached() -> bool:
        return any(f'"step": {step},' in path.read_text() for path in home.glob("work/*/scratch/metrics.jsonl"))

    wait_until(lambda: reached() or run.poll() is not None, 900)
    assert run.poll() is None, (home / "stderr.txt").read_text()[-3000:]
    return run


@pytest.fixture(scope="module")
def undisturbed(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], float]:
    """What a run makes that nobody kills, and the seconds it takes."""
    home = tmp_path_factory.mktemp("undisturbed") / "home"
    begun = time.monotonic()
    run = start(recipe, home)
    return finish(run, home), time.monotonic() - begun


@pytest.mark.slow
def test_a_run_killed_at_random_moments_ends_with_the_same_artifacts(
    recipe: Path, undisturbed: tuple[dict[str, Any], float], tmp_path: Path
) -> None:
    expected, seconds = undisturbed
    home = tmp_path / "home"
    chance = random.Random()
    kills = []
    for _ in range(4):
        run = start(recipe, home)
        moment = chance.uniform(0.15, 0.9) * seconds
        wait_until(lambda run=run: run.poll() is not None, moment)  # type: ignore[misc]
        kills.append(round(moment, 1))
        kill_all(home)
        run.communicate()
    assert artifacts(finish(start(recipe, home), home)) == artifacts(expected), f"killed after {kills} s"
    assert not of_home(home)


@pytest.mark.slow
def test_pretraining_killed_and_told_to_stop_at_random_steps_ends_with_the_same_weights(
    recipe: Path, undisturbed: tuple[dict[str, Any], float], tmp_path: Path
) -> None:
    """By SIGTERM, as machines are that are about to be taken away, a checkpoint is written first."""
    home, chance = tmp_path / "home", random.Random()
    killed = chance.randint(2, 90)
    run = start_until(killed, recipe, home, tmp_path / "first")
    kill_all(home)
    run.communicate()
    stopped = chance.randint(91, 180)
    run = start_until(stopped, recipe, home, tmp_path / "second")
    run.send_signal(signal.SIGTERM)
    run.communicate(timeout=900)
    said = f"killed after step {killed}, stopped after {stopped}"
    assert run.returncode == 130, said
    assert wait_until(lambda: not of_home(home), 120)
    kept = [path.parent.name for path in home.glob("work/*/scratch/checkpoints/*/checkpoint.json")]
    assert max(kept) == f"step-{stopped:09}", said
    assert artifacts(finish(start(recipe, home), home)) == artifacts(undisturbed[0]), said


WATCHED = (
    "loss", "grad_norm", "learning_rate", "tokens_per_second", "flops_utilization", "memory_bytes", "data_wait",
)  # fmt: skip


@pytest.mark.slow
def test_figures_of_a_training_are_in_mlflow_while_it_goes_on(recipe: Path, tmp_path: Path) -> None:
    home, last = tmp_path / "home", 40
    run = start_until(last, recipe, home, tmp_path / "gates")
    client = MlflowClient(Home(home).tracking_uri)
    experiment = client.get_experiment_by_name("faults")
    assert experiment is not None

    def told() -> dict[str, dict[int, float]]:
        running = client.search_runs([experiment.experiment_id], "tags.`athanor.step` = 'base'")
        assert {training.info.status for training in running} <= {"RUNNING"}
        points = {
            name: [p for r in running for p in client.get_metric_history(r.info.run_id, name)] for name in WATCHED
        }
        return {name: {point.step: point.value for point in found} for name, found in points.items()}

    assert wait_until(lambda: all(last in found for found in told().values()), PATIENCE)
    assert run.poll() is None
    figures = told()
    kill_all(home)
    run.communicate()
    assert all(set(points) == set(range(1, last + 1)) for points in figures.values())
    rows = [json.loads(line) for path in home.glob("work/*/scratch/metrics.jsonl") for line in path.open()]
    for name, points in figures.items():
        assert points == {row["step"]: row[name] for row in rows if row["step"] <= last and name in row}, name


@pytest.mark.slow
def test_killing_only_the_parent_leaves_no_orphan(recipe: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    run = start_until(2, recipe, home, tmp_path / "gates")
    assert len(of_home(home)) > 2
    run.send_signal(signal.SIGKILL)
    run.communicate()
    assert wait_until(lambda: not of_home(home), 120), [
        Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ") for pid in of_home(home)
    ]
