"""Collections from a web server, and what came of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tasks.collect import Collect
from tests.helpers import Outcome, run_task
from tests.tasks.sources.web import Request

QUICK = {"requests_per_second": 10_000.0, "retry_seconds": 0.001, "timeout_seconds": 60.0, "max_bad_fraction": 1.0}


def collect(tmp_path: Path, name: str = "step", previous: Outcome | None = None, **source: Any) -> Outcome:
    source = {"kind": "http", "allow_private": True} | QUICK | source
    before = previous.artifact if previous else None
    return run_task(Collect(sources=[source]), {}, tmp_path, name=name, previous=before)  # type: ignore[list-item]


def rows(outcome: Outcome) -> dict[str, dict[str, Any]]:
    """The rows of an artifact by the last part of their URLs."""
    tables = outcome.artifact.tables()  # type: ignore[attr-defined]
    return {row["url"].rsplit("/", 1)[-1]: row for table in tables for row in table.to_pylist()}


def reasons(outcome: Outcome) -> dict[str, float]:
    """Counts of what was passed over and of what was bad."""
    metrics = outcome.result.metrics
    return {n.split(".", 1)[1]: c for n, c in metrics.items() if n.startswith(("dropped.", "quarantined."))}


def sitemap(*urls: str) -> str:
    entries = "".join(f"<url><loc>{url}</loc></url>" for url in urls)
    return f'<?xml version="1.0"?><urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">{entries}</urlset>'


def redirects(target: str) -> Callable[[Request], None]:
    return lambda request: request.answer(status=302, Location=target)
