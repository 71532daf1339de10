"""What a terminal shows of steps at work."""

from __future__ import annotations

from io import StringIO
from types import SimpleNamespace

import pytest

from flows.report import Terminal


def test_the_rate_is_that_of_the_work_and_not_of_what_comes_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr("flows.report.time", SimpleNamespace(monotonic=lambda: clock.now))
    stream, step = StringIO(), SimpleNamespace(name="base")
    terminal = Terminal(["base"], stream)
    terminal.started(step, "new")  # type: ignore[arg-type]
    told = terminal.progress(step)  # type: ignore[arg-type]
    for seconds, done, note in ((40, 0, "compiling"), (50, 0, "compiling"), (10, 1000, "loss 3.0")):
        clock.now += seconds
        told(done, 2000, "tokens", note)
    assert stream.getvalue().splitlines()[-1] == "base  1,000 of 2,000 tokens, 100/s, 10 s left, loss 3.0"


def test_the_rate_of_work_that_goes_on_leaves_out_what_was_done_before(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr("flows.report.time", SimpleNamespace(monotonic=lambda: clock.now))
    stream, step = StringIO(), SimpleNamespace(name="base")
    terminal = Terminal(["base"], stream)
    terminal.started(step, "new")  # type: ignore[arg-type]
    told = terminal.progress(step)  # type: ignore[arg-type]
    for seconds, done, note in ((9, 5000, ""), (20, 5200, "loss 3.0")):
        clock.now += seconds
        told(done, 6000, "tokens", note, begun=5000)
    assert stream.getvalue().splitlines()[-1] == "base  5,200 of 6,000 tokens, 10/s, 1 min 20 s left, loss 3.0"
