"""What a run learns of its records' way to MLflow, and how long it waits for that."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from flows import tracking
from flows.home import Home
from flows.journal import Progress
from flows.tracking import Tracker


@dataclass
class Sending:
    """A sender that does as it is told."""

    alive: bool = True
    process: int = 1

    def lives(self) -> bool:
        return self.alive

    def finish(self, journal: Any) -> dict[str, Any]:
        journal.close()
        return {}

    def leave(self) -> None: ...


@pytest.fixture
def sender(monkeypatch: pytest.MonkeyPatch) -> Sending:
    made = Sending()
    monkeypatch.setattr(tracking, "sender_for", lambda home: made)
    monkeypatch.setattr(tracking, "_LINK_SECONDS", 0.1)
    return made


def test_a_step_learns_its_mlflow_run_when_it_is_sent(home: Home, sender: Sending) -> None:
    tracker = Tracker(home, "toy", "run", {})
    assert tracker.run_of("pages") is None
    progress = Progress.of(tracker.journal.path)
    progress.experiment, progress.steps = "7", {"pages": "abc"}
    progress.save()
    assert tracker.run_of("pages") == tracker.wait_for_run("pages") == "abc"
    assert tracker.sent().experiment == "7"
    tracker.close("done", {}, None)


def test_waiting_for_mlflow_has_an_end(home: Home, sender: Sending) -> None:
    tracker = Tracker(home, "toy", "run", {})
    assert tracker.wait_for_run("pages") is None
    tracker.close("failed", {}, None)


def test_nobody_waits_where_mlflow_refuses_or_the_sender_has_ended(
    home: Home, sender: Sending, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking, "_LINK_SECONDS", float("inf"))
    tracker = Tracker(home, "toy", "run", {})
    progress = Progress.of(tracker.journal.path)
    progress.failure = "refused"
    progress.save()
    assert tracker.wait_for_run("pages") is None
    progress.failure = None
    progress.save()
    sender.alive = False
    assert tracker.wait_for_run("pages") is None
    tracker.close("failed", {}, None)
