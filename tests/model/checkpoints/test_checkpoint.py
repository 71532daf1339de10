from __future__ import annotations

import itertools
import json
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from model.checkpoints.checkpoint import MANIFEST, About, Checkpoint, Checkpoints
from model.checkpoints.part_file import WEIGHTS, Part, Parts, Piece, Written, write_part
from model.recorder import Recorder
from storage.errors import StoreCorrupted, StoreUnavailable, UserError
from storage.identity import digest_of_file


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def part(step: int) -> Part:
    """Two weights in one flat tensor, with one moment."""
    values = torch.arange(5_000, dtype=torch.float32) + step
    pieces = (Piece("a", 0, 4, 0, 0), Piece("b", 2, 5, 0, 4))
    return Part({f"{WEIGHTS}/0": values, "exp_avg/0": -values}, pieces)


def write(checkpoints: Checkpoints, step: int) -> None:
    checkpoints.begin(part(step), About(step, loss=1.0, numbers={"step": float(step)}, memory={"best": 0.5}))
    checkpoints.settle()


def opened(folder: Path, identity: str = "run") -> Checkpoint | None:
    return Checkpoints(folder, identity).latest()


def step_of(folder: Path) -> int:
    kept = opened(folder)
    assert kept is not None
    assert torch.equal(kept.parts.read(WEIGHTS, "a"), torch.arange(4) + float(kept.about.step))
    return kept.about.step


def test_the_newest_of_two_is_opened(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, "run")
    assert checkpoints.latest() is None
    for step in (5, 10, 15):
        write(checkpoints, step)
    assert step_of(tmp_path) == checkpoints.newest == 15
    write(checkpoints, 20)  # in the thread that has deleted the oldest before
    assert "step-000000005" not in names(tmp_path)
    assert {"step-000000015", "step-000000020"} <= set(names(tmp_path))


def test_ranges_are_read_from_where_they_lie(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, "run")
    write(checkpoints, 0)
    kept = opened(tmp_path)
    assert kept is not None
    assert kept.about == About(0, 1.0, {"step": 0.0}, {"best": 0.5})
    parts = kept.parts
    assert (parts.weights(), parts.kinds_of("a")) == (["a", "b"], ["exp_avg", WEIGHTS])
    assert parts.read("exp_avg", "b", 3, 2).tolist() == [-5.0, -6.0]
    with pytest.raises(StoreCorrupted, match="lacks values of weights of b: 1 of 2"):
        parts.read(WEIGHTS, "b", 1, 2)


@given(st.data())
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_weights_cut_anyhow_are_put_together(tmp_path: Path, data: st.DataObject) -> None:
    """Weights laid end to end, cut into parts anywhere, and read by any range."""
    sizes = data.draw(st.lists(st.integers(1, 9), min_size=1, max_size=4))
    total = sum(sizes)
    values = torch.randn(total)
    cuts = sorted(data.draw(st.lists(st.integers(0, total), max_size=3)))
    paths = []
    for number, (first, last) in enumerate(itertools.pairwise([0, *cuts, total])):
        pieces, begin = [], 0
        for weight, size in enumerate(sizes):
            low, high = max(first, begin), min(last, begin + size)
            if low < high:
                pieces.append(Piece(str(weight), low - begin, high - low, 0, low - first))
            begin += size
        paths.append(tmp_path / f"{number}.safetensors")
        written = write_part(paths[-1], Part({f"{WEIGHTS}/0": values[first:last]}, tuple(pieces)))
        assert written == Written(digest_of_file(paths[-1]), paths[-1].stat().st_size)
        assert torch.equal(load_file(paths[-1])[f"{WEIGHTS}/0"], values[first:last])
    parts, begin = Parts(paths), 0
    for weight, size in enumerate(sizes):
        start = data.draw(st.integers(0, size - 1))
        length = data.draw(st.integers(1, size - start))
        found = parts.read(WEIGHTS, str(weight), start, length)
        assert torch.equal(found, values[begin + start : begin + start + length])
        begin += size


@pytest.mark.parametrize("damage", ["cut", "flip", "no part", "half a manifest", "another loss"])
def test_a_damaged_one_is_refused_and_the_one_before_used(
    tmp_path: Path, damage: str, capfd: pytest.CaptureFixture[str]
) -> None:
    checkpoints = Checkpoints(tmp_path, "run")
    write(checkpoints, 1)
    write(checkpoints, 3)
    state, about = tmp_path / "step-000000003" / "part-0000-of-0001.safetensors", tmp_path / "step-000000003" / MANIFEST
    content = state.read_bytes()
    if damage == "cut":
        state.write_bytes(content[:-5])
    elif damage == "flip":
        state.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif damage == "no part":
        state.unlink()
    elif damage == "half a manifest":
        about.write_text(about.read_text()[:20])
    else:
        about.write_text(about.read_text().replace('"loss": 1.0', '"loss": 2.0'))
    again = Checkpoints(tmp_path, "run")
    kept = again.latest()
    assert kept is not None
    assert kept.about.step == 1
    assert "step-000000003 is refused" in capfd.readouterr().err
    write(again, 2)  # the run goes on from there, and what was refused gives way
    assert step_of(tmp_path) == 2


def test_a_write_that_was_killed_does_not_count(tmp_path: Path) -> None:
    write(Checkpoints(tmp_path, "run"), 1)
    half = tmp_path / "step-000000002"
    half.mkdir()
    (half / "part-0000-of-0001.safetensors").write_bytes(b"half")
    assert step_of(tmp_path) == 1
    assert not half.exists()


def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path) -> None:
    write(Checkpoints(tmp_path, "one"), 1)
    with pytest.raises(UserError, match="another run"):
        opened(tmp_path, "two")


@contextmanager
def full_disk() -> Iterator[None]:
    """Files may not grow beyond what a manifest or a log needs."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4_096, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_costs_a_checkpoint_and_not_the_run(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    checkpoints = Checkpoints(tmp_path, "run")
    write(checkpoints, 1)
    with full_disk():
        for step in range(2, 7):
            write(checkpoints, step)
    assert checkpoints.failures == 5
    said = capfd.readouterr().err
    assert (
        "step 2: no checkpoint could be written (process 0: File too large); training goes on with the one before"
        in said
    )
    assert step_of(tmp_path) == 1
    write(checkpoints, 7)
    assert step_of(tmp_path) == 7


def test_a_run_that_can_write_no_checkpoint_at_all_fails(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, "run")
    with full_disk():
        write(checkpoints, 1)
        write(checkpoints, 2)
        with pytest.raises(StoreUnavailable, match="no checkpoint could be written in 3 tries"):
            write(checkpoints, 3)


def test_metrics_that_do_not_fit_on_the_disk_are_left_out(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "metrics.jsonl", 0)
    for step in range(1, 201):
        if step == 2:
            with full_disk():
                for filling in range(200):
                    recorder.record(2, filling=filling)
        recorder.record(step, loss=1.0)
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert recorder.lost > 0
    assert len(rows) == 400 - recorder.lost
    assert rows[-1] == {"step": 200, "loss": 1.0}


def test_metrics_are_cut_back_to_the_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    first = Recorder(path, 0)
    for step in (1, 2, 3):
        first.record(step, loss=float(step))
        if step == 2:
            first.record(step, validation_loss=0.5)
    with path.open("a") as file:
        file.write('{"step": 4, "lo')  # killed while writing
    again = Recorder(path, 2)
    assert path.read_text() == '{"step": 1, "loss": 1.0}\n{"step": 2, "loss": 2.0}\n'
    again.record(2, validation_loss=0.5)
    again.record(3, loss=3.0)
    assert path.read_text().count('"step": 3') == 1
    Recorder(path, 0)
    assert path.read_text() == ""
