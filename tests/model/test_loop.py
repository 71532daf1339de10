"""What the loop says of a run on the way."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from model.loop import Loop


def loop_after(seconds: float, waited: float) -> Any:
    """A loop's first process that has trained for so long, and waited for so much of it."""
    unused: Any = None
    made: Any = Loop(SimpleNamespace(rank=0), unused, unused, {}, unused, unused, None)  # type: ignore[arg-type]
    made._seconds, made._waited = seconds, waited
    return made


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
