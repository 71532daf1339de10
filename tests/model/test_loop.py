"""What the loop says of a run on the way."""

from __future__ import annotations

import resource
import sys
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from model.engine import StepOutcome
from model.loop import Loop


def loop_after(seconds: float, waited: float) -> Any:
    """A loop's first process that has trained for so long, and waited for so much of it."""
    unused: Any = None
    made: Any = Loop(SimpleNamespace(rank=0), unused, unused, {}, unused, unused, None)  # type: ignore[arg-type]
    made._seconds, made._waited = seconds, waited
    return made


def test_the_figures_of_a_step_are_what_their_names_say() -> None:
    """A step of 64 tokens that took 2 s, half a second of it for the data."""
    rows: list[dict[str, float]] = []
    plan = SimpleNamespace(
        steps=10, batch_tokens=64, skip_spikes=None, learning_rate=lambda tokens: tokens, flops_per_token=5e3,
        peak_flops=4e5, record_every=1,
    )  # fmt: skip
    unused: Any = None
    recorder: Any = SimpleNamespace(record=lambda step, **figures: rows.append({"step": step, **figures}))
    engine: Any = SimpleNamespace(rank=0, device=torch.device("cpu"))
    loop: Any = Loop(engine, unused, unused, {}, plan, unused, recorder)  # type: ignore[arg-type]
    ballast = bytearray(b"x") * 50_000_000  # held when it is measured, so the most that was held is at least that
    loop._record(3, StepOutcome({"loss": 1.5}, 0.25, skipped=False), 2.0, 0.5)
    (row,) = rows
    unit = 1 if sys.platform == "darwin" else 1024
    assert row.pop("memory_bytes") == resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit > len(ballast)
    assert row == {
        "step": 3, "tokens": 192, "loss": 1.5, "grad_norm": 0.25, "learning_rate": 2.5 * 64,
        "tokens_per_second": 32.0, "flops_utilization": 32 * 5e3 / 4e5, "data_wait": 0.25,
    }  # fmt: skip


@pytest.mark.parametrize(("steps", "every"), [(9, 1), (9, 3), (10, 4)])
def test_every_so_manyth_step_is_recorded_and_the_last(steps: int, every: int) -> None:
    recorded: list[int] = []
    plan = SimpleNamespace(
        steps=steps, batch_tokens=1, skip_spikes=None, learning_rate=float, flops_per_token=1.0, peak_flops=1.0,
        record_every=every,
    )  # fmt: skip
    unused: Any = None
    recorder: Any = SimpleNamespace(record=lambda step, **figures: recorded.append(step))
    engine: Any = SimpleNamespace(rank=0, device=torch.device("cpu"))
    loop: Any = Loop(engine, unused, unused, {}, plan, unused, recorder)  # type: ignore[arg-type]
    for step in range(1, steps + 1):
        loop._record(step, StepOutcome({"loss": 1.0}, 1.0, skipped=False), 1.0, 0.0)
    wanted = list(range(every, steps + 1, every))
    assert recorded == wanted + [steps] * (steps % every != 0)


def test_waiting_for_data_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    loop = loop_after(20.0, 1.2)
    loop._warn_of_waiting(7)
    loop._warn_of_waiting(8)
    said = capsys.readouterr().err
    assert said.startswith("step 7: 6% of the time was spent waiting for batches")
    assert said.count("step") == 1


@pytest.mark.parametrize(("seconds", "waited"), [(20.0, 0.9), (9.0, 8.0)])  # little of it; too early to judge
def test_a_little_waiting_is_not_told(capsys: pytest.CaptureFixture[str], seconds: float, waited: float) -> None:
    loop_after(seconds, waited)._warn_of_waiting(7)
    assert capsys.readouterr().err == ""
