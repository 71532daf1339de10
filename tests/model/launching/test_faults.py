"""What can happen to a run, one thing after the other: in the end it has the weights of one to which nothing did."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from safetensors.torch import load_file

from model.config import Dropout, ModelConfig
from model.launching.launch import train
from model.learning.objective_config import MaskedConfig
from model.learning.optimizer_config import OptimizerConfig
from model.request import Opened, RandomNetwork, Request, ShardsData, ShardsPart, SpecialTokens
from storage.errors import Stopped, TrainingFailed
from storage.identity import digest_of_file
from storage.shards import Shards
from tests.made import made_shards, made_tokenizer
from tests.model.test_training import metrics, quiet, result_of
from tests.model.training import ranks, request
from tests.model.trouble import PATIENCE, Gates

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds processes in /proc")]

PROCESSES, SPOILT = 3, 20
MOST_BYTES = 100_000
"""Of a file, while the disk is as good as full: more than the log and the metrics have, less than a checkpoint."""
WORDS = ["furnace", "ember", "salt", "mercury", "gold", "火", "水", "炼金炉"]


def made_data(folder: Path) -> ShardsData:
    """What is learnt, and a part that replays something else."""
    tokenizer = made_tokenizer(folder / "tokenizer", special=["<mask>"])
    parts = []
    for name, weight in (("new", 0.8), ("old", 0.2)):
        texts = [" ".join(WORDS[(n * k + len(name)) % 8] for k in range(3 + n % 9)) for n in range(40)]
        shards = made_shards(folder / name, tokenizer, {"train": texts, "validation": texts[:4]})
        parts.append(ShardsPart(shards=Opened.of(shards), weight=weight))
    return ShardsData(parts=tuple(parts))


def encoder(folder: Path, data: ShardsData, **run: object) -> Request:
    """Words are hidden and values dropped at random: all of it must happen again after a resumption."""
    tokenizer = Shards.of_folder(data.parts[0].shards.folder).tokenizer
    dropout = Dropout(residual=0.1, embeddings=0.1, attention=0.1)
    shape = ModelConfig(layers=2, width=64, heads=4, context=16, attention="bidirectional", dropout=dropout)
    return request(
        folder,
        Shards.of_folder(data.parts[0].shards.folder),
        network=RandomNetwork(shape=shape, vocabulary=tokenizer.vocab_size),
        data=data,
        objective=MaskedConfig(),
        optimizer=OptimizerConfig(learning_rate=3e-3, warmup_tokens=400, skip_spikes=4.0),
        special_tokens=SpecialTokens(bos=1, eos=2, pad=3, mask=tokenizer.mask_id),
        run={"processes": PROCESSES, **run},
    )


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
        except BaseException:
            for pid in ranks(folder):
                os.kill(pid, signal.SIGKILL)
            raise
        failure = running.exception(timeout=PATIENCE)
    assert not ranks(folder)
    return failure


def checkpoints(folder: Path) -> list[Path]:
    """Manifests, the newest last."""
    return sorted((folder / "scratch" / "checkpoints").glob("step-*/checkpoint.json"))


def step_of(manifest: Path) -> int:
    found: int = json.loads(manifest.read_text())["about"]["step"]
    return found


def a_part(manifest: Path) -> Path:
    return manifest.parent / f"part-0001-of-{PROCESSES:04}.safetensors"


def test_killed_stopped_and_damaged_it_ends_with_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each rank is killed in turn, one while a checkpoint is written, one after the disk was full."""
    data, folder = made_data(tmp_path / "data"), tmp_path / "disturbed"
    gates = Gates(tmp_path / "gates", 4, 9, 14, 17, 22)
    for name, value in Gates(tmp_path / "none").environment(nan=[SPOILT]).items():
        monkeypatch.setenv(name, value)
    train(encoder(tmp_path / "alone", data), quiet)
    check_the_spoilt_step(tmp_path / "alone")

    for name, value in gates.environment(nan=[SPOILT]).items():
        monkeypatch.setenv(name, value)
    described = encoder(folder, data)
    log = folder / "scratch" / "training.log"

    def kill(rank: int, step: int) -> None:
        gates.reached(described, step)
        os.kill(rank_pids(folder)[rank], signal.SIGKILL)
        gates.open(step)

    def kill_while_a_checkpoint_is_written() -> None:
        gates.reached(described, 9)
        assert (folder / "scratch" / "checkpoints" / "step-000000008").is_dir()
        assert step_of(checkpoints(folder)[-1]) == 7
        kill(1, 9)

    def kill_once_the_disk_was_full() -> None:
        gates.reached(described, 14)
        for pid in rank_pids(folder).values():
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (MOST_BYTES, resource.RLIM_INFINITY))
        gates.open(14)
        gates.reached(described, 17)
        assert "step 15: no checkpoint could be written (process " in log.read_text()
        assert "File too large); training goes on with the one before" in log.read_text()
        kill(2, 17)

    def stop() -> None:
        gates.reached(described, 22)  # whose gate the signal opens
        os.kill(torchrun(folder), signal.SIGTERM)

    assert "was ended by SIGKILL" in str(during(described, folder, lambda: kill(0, 4)))
    truncated = checkpoints(folder)[-1]
    os.truncate(a_part(truncated), a_part(truncated).stat().st_size - 1)
    assert isinstance(during(described, folder, kill_while_a_checkpoint_is_written), TrainingFailed)
    assert f"{truncated.parent} is refused: {a_part(truncated).name} is not what was written" in log.read_text()
    assert isinstance(during(described, folder, kill_once_the_disk_was_full), TrainingFailed)
    assert step_of(checkpoints(folder)[-1]) in (12, 13)
    stopped = during(described, folder, stop)
    assert isinstance(stopped, Stopped)
    flipped = checkpoints(folder)[-1]
    assert f"after step 22; run again to go on from step {step_of(flipped)}" in str(stopped)
    assert step_of(flipped) == 22
    gates.open(22)  # it is done again
    shutil.copytree(folder, tmp_path / "elastic")
    content = bytearray(a_part(flipped).read_bytes())
    content[-1] ^= 1
    a_part(flipped).write_bytes(content)
    train(described, quiet)
    assert f"{flipped.parent} is refused: {a_part(flipped).name} is not what was written" in log.read_text()

    ours, undisturbed = (tmp_path / name / "output" / "model.safetensors" for name in ("disturbed", "alone"))
    assert digest_of_file(ours) == digest_of_file(undisturbed)
    rows = [result_of(row) for row in metrics(tmp_path / "alone")]
    assert [result_of(row) for row in metrics(folder)] == rows
    # And from the same state on another number of processes, under another ZeRO stage: the same sequences.
    train(encoder(tmp_path / "elastic", data, processes=1, zero_stage=3), quiet)
    for mine, theirs in zip(metrics(tmp_path / "elastic"), rows, strict=True):
        assert (mine["step"], mine.get("learning_rate")) == (theirs["step"], theirs.get("learning_rate"))
        for name in {"loss", "validation_loss"} & theirs.keys():
            assert mine[name] == pytest.approx(theirs[name], rel=1e-3)


def check_the_spoilt_step(folder: Path) -> None:
    """It is left out and told of, and the curve goes on as before."""
    rows = {row["step"]: row for row in metrics(folder) if "steps_left_out" in row}
    assert "loss" not in rows[SPOILT]
    assert (rows[SPOILT - 1]["steps_left_out"], rows[30]["steps_left_out"]) == (0, 1)
    said = (folder / "scratch" / "training.log").read_text()
    assert f"step {SPOILT} was left out: loss nan, gradient norm inf; its batch holds the documents train" in said
    before, after = (sum(rows[step]["loss"] for step in steps) for steps in (range(1, 9), range(23, 31)))
    assert after < before
    weights = load_file(folder / "output" / "model.safetensors")
    assert all(bool(weight.isfinite().all()) for weight in weights.values())
