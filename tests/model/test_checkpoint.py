from __future__ import annotations

from pathlib import Path

import pytest
import torch

from model.checkpoint import Checkpoint, Checkpoints
from model.recorder import Recorder
from storage.errors import UserError


def checkpoint(step: int) -> Checkpoint:
    tensors = {"weights/a": torch.full((3,), float(step)), "exp_avg/a": torch.zeros(3)}
    return Checkpoint(step, tensors, {"step": float(step)}, loss=1.0)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_newest_of_two_is_opened(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, "run")
    assert checkpoints.latest() is None
    for step in (5, 10, 15):
        checkpoints.write(checkpoint(step))
    assert names(tmp_path) == ["step-000000010", "step-000000015"]
    latest = checkpoints.latest()
    assert latest is not None
    assert (latest.step, latest.numbers) == (15, {"step": 15.0})
    assert torch.equal(latest.tensors["weights/a"], torch.full((3,), 15.0))


@pytest.mark.parametrize("damage", ["cut", "flip", "no state", "no description", "half a description"])
def test_a_damaged_one_is_passed_over(tmp_path: Path, damage: str) -> None:
    checkpoints = Checkpoints(tmp_path, "run")
    checkpoints.write(checkpoint(1))
    checkpoints.write(checkpoint(2))
    state, about = (tmp_path / "step-000000002" / name for name in ("state.safetensors", "checkpoint.json"))
    content = state.read_bytes()
    if damage == "cut":
        state.write_bytes(content[:-5])
    elif damage == "flip":
        state.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif damage == "no state":
        state.unlink()
    elif damage == "no description":
        about.unlink()
    else:
        about.write_text(about.read_text()[:20])
    latest = checkpoints.latest()
    assert latest is not None
    assert latest.step == 1
    checkpoints.write(checkpoint(2))
    assert checkpoints.latest().step == 2  # type: ignore[union-attr]


def test_a_write_that_was_killed_does_not_count(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, "run")
    checkpoints.write(checkpoint(1))
    (tmp_path / "step-000000002.partial").mkdir()
    (tmp_path / "step-000000002.partial" / "state.safetensors").write_bytes(b"half")
    assert checkpoints.latest().step == 1  # type: ignore[union-attr]
    checkpoints.write(checkpoint(2))
    assert checkpoints.latest().step == 2  # type: ignore[union-attr]
    assert names(tmp_path) == ["step-000000001", "step-000000002"]


def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path) -> None:
    Checkpoints(tmp_path, "one").write(checkpoint(1))
    with pytest.raises(UserError, match="another run"):
        Checkpoints(tmp_path, "two").latest()


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
