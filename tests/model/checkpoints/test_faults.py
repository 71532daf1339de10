"""What can happen to a run, one thing after the other: in the end it has the weights of one to which nothing did."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from model.launching.launch import train
from model.request import Request
from storage.errors import Stopped, TrainingFailed
from storage.identity import digest_of_file
from storage.shards import Shards
from tests.model.test_training import metrics, quiet, result_of
from tests.model.training import made_shards, ranks, request, until

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds processes in /proc")]


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Shards:
    return made_shards(tmp_path_factory.mktemp("data"))


def rank_pids(folder: Path) -> dict[int, int]:
    """The training processes, without the torchrun that started them."""
    found = {}
    for pid in ranks(folder):
        try:
            variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        except OSError:
            continue
        found |= {int(value[5:]): pid for value in variables if value.startswith(b"RANK=")}
    return found


def torchrun(folder: Path) -> int:
    return next(pid for pid in ranks(folder) if pid not in rank_pids(folder).values())


def during(described: Request, folder: Path, act: Callable[[], None]) -> BaseException | None:
    """What becomes of a run during which something is done."""
    with ThreadPoolExecutor(1) as thread:
        running = thread.submit(train, described, quiet)
        try:
            act()
        finally:
            failure = running.exception(timeout=300)
    assert not ranks(folder)
    return failure


def reach(folder: Path, step: int) -> None:
    """Wait until a step is recorded, and then for a moment."""
    file = folder / "scratch" / "metrics.jsonl"
    until(lambda: file.exists() and f'"step": {step},' in file.read_text(), 200, f"step {step}")
    time.sleep(random.random() / 20)


def is_writing(folder: Path) -> bool:
    places = (folder / "scratch" / "checkpoints").glob("step-*")
    return any(not (place / "checkpoint.json").exists() for place in places)


def test_killed_stopped_and_damaged_it_ends_with_the_same_weights(tmp_path: Path, shards: Shards) -> None:
    train(request(tmp_path / "alone", shards), quiet)
    folder = tmp_path / "disturbed"
    described = request(folder, shards)

    def kill_first() -> None:
        reach(folder, 4)
        os.kill(rank_pids(folder)[0], signal.SIGKILL)

    def kill_second_while_it_writes() -> None:
        reach(folder, 9)
        until(lambda: is_writing(folder), 30, "a checkpoint that is being written")
        os.kill(rank_pids(folder)[1], signal.SIGKILL)

    def stop() -> None:
        reach(folder, 14)
        os.kill(torchrun(folder), signal.SIGTERM)

    assert isinstance(during(described, folder, kill_first), TrainingFailed)
    assert isinstance(during(described, folder, kill_second_while_it_writes), TrainingFailed)
    stopped = during(described, folder, stop)
    assert isinstance(stopped, Stopped)
    kept = sorted((folder / "scratch" / "checkpoints").glob("step-*/checkpoint.json"))[-1]
    step = json.loads(kept.read_text())["about"]["step"]
    assert f"after step {step}; run again to go on from step {step}" in str(stopped)
    shutil.copytree(folder, tmp_path / "elastic")
    part = kept.parent / "part-0001-of-0002.safetensors"
    part.write_bytes(part.read_bytes()[:-1] + b"\xff")
    train(described, quiet)
    assert (
        f"{kept.parent} is refused: {part.name} is not what was written"
        in (folder / "scratch/training.log").read_text()
    )
    ours, undisturbed = (tmp_path / name / "output" / "model.safetensors" for name in ("disturbed", "alone"))
    assert digest_of_file(ours) == digest_of_file(undisturbed)
    rows = [result_of(row) for row in metrics(tmp_path / "alone")]
    assert [result_of(row) for row in metrics(folder)] == rows
    # And from the same state on another number of processes, under another ZeRO stage: the same sequences.
    train(request(tmp_path / "elastic", shards, run={"processes": 1, "zero_stage": 3}), quiet)
    for mine, theirs in zip(metrics(tmp_path / "elastic"), rows, strict=True):
        assert (mine["step"], mine.get("learning_rate")) == (theirs["step"], theirs.get("learning_rate"))
        for name in {"loss", "validation_loss"} & theirs.keys():
            assert mine[name] == pytest.approx(theirs[name], rel=1e-3)
