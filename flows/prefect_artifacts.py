"""What Prefect's pages show beside the task runs: progress bars, and what each step made."""

from __future__ import annotations

import contextvars
import logging
import re
import threading
import time
from collections.abc import Callable
from typing import Any
from uuid import UUID

from prefect.artifacts import create_markdown_artifact, create_progress_artifact, update_progress_artifact

from flows.recipe import Step
from tasks.task import Progress

_LONG_SECONDS = 5.0
"""Work that takes longer than this gets a progress bar, moved as often as this."""
_log = logging.getLogger(__name__)


def artifact_key(recipe: str, step: str, what: str) -> str:
    """Prefect allows small letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", f"{recipe}-{step}-{what}".lower()).strip("-")


def publish(recipe: str, step: str, text: str) -> None:
    """Show ``text`` (markdown) with the task run that is going on."""
    _told(create_markdown_artifact, key=artifact_key(recipe, step, "result"), markdown=text, description=step)


def publish_run(recipe: str, text: str) -> None:
    """Show ``text`` (markdown) with the flow run that is going on."""
    _told(create_markdown_artifact, key=artifact_key(recipe, "", "run"), markdown=text, description=recipe)


def progress_bar(recipe: str, step: Step) -> Progress:
    """Progress of the task run that is going on; call it from the thread that runs the task."""
    context = contextvars.copy_context()
    began = time.monotonic()
    lock = threading.Lock()
    bar: dict[str, Any] = {"id": None, "at": began}

    def show(percent: float, text: str) -> None:
        if bar["id"] is None:
            key = artifact_key(recipe, step.name, "progress")
            bar["id"] = _told(create_progress_artifact, progress=percent, key=key, description=text)
        else:
            identifier: UUID = bar["id"]
            _told(update_progress_artifact, artifact_id=identifier, progress=percent, description=text)

    def report(done: int, total: int | None, unit: str, note: str = "", begun: int = 0) -> None:
        now = time.monotonic()
        if not total or now - bar["at"] < _LONG_SECONDS or not lock.acquire(blocking=False):
            return
        try:
            bar["at"] = now
            text = f"{done:,} of {total:,} {unit}{', ' if note else ''}{note}"
            context.run(show, min(100.0, 100.0 * done / total), text)
        finally:
            lock.release()

    return report


def _told(call: Callable[..., Any], **arguments: Any) -> Any:
    """Call Prefect; the build does not depend on its answer."""
    try:
        return call(**arguments)
    except Exception as error:  # noqa: BLE001 - a picture that Prefect does not take must not cost the step
        _log.warning("Prefect did not take %s: %s", arguments.get("key", "progress"), error)
        return None
