"""The documentation of Python's own standard library, as ``pydoc`` writes it: real pages on every machine."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from storage.artifact import JsonValue
from storage.errors import StepFailed
from tasks.sources import pydoc_renderer
from tasks.sources.base import NO_PAST, Item, Page, PassedOver, Past, Source
from tasks.task import World

_ENVIRONMENT = {"PYTHONHASHSEED": "0", "TZ": "UTC", "LC_ALL": "C.UTF-8"}
"""All that the renderer sees: sets print in one order, times and texts do not depend on the machine."""
_FLAGS = ("-S", "-s", "-P", "-B", "-X", "utf8")
"""No site packages, none of the user's, none from the current folder; nothing written beside the modules."""


class Pydoc(Source):
    """About 210 pages, 10 MB of HTML. The same Python gives the same bytes, wherever and by whom it is run."""

    kind: Literal["pydoc"] = "pydoc"
    license: str | None = "PSF-2.0"

    def fingerprint(self, world: World) -> JsonValue:
        return {"python": sys.version, "platform": sys.platform}

    def pages(self, world: World, past: Past = NO_PAST) -> Iterator[Item]:
        for line in rendered("pages"):
            name = f"{line['module']}.html"
            if "error" in line:
                yield PassedOver(name, "not_importable")
            else:
                yield Page(url=name, content=line["html"].encode(), content_type="text/html; charset=utf-8")


def rendered(what: Literal["pages", "pairs"]) -> Iterator[dict[str, Any]]:
    """The renderer's lines (see ``pydoc_renderer``), in the order of the modules' names, as they are written.

    Raises StepFailed if it ends early. Closing the iterator ends it.
    """
    base = getattr(sys, "_base_executable", None) or sys.executable
    command = [base, *_FLAGS, str(Path(pydoc_renderer.__file__).resolve()), what]
    with tempfile.TemporaryFile() as complaints:
        process = subprocess.Popen(  # noqa: S603 - our own program
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=complaints, env=_ENVIRONMENT, cwd="/"
        )
        assert process.stdout is not None
        try:
            for line in process.stdout:
                yield json.loads(line)
            if process.wait() != 0:
                complaints.seek(0)
                said = complaints.read().decode(errors="replace").strip().splitlines() or ["no message"]
                raise StepFailed(f"source pydoc: {base} ended with status {process.returncode}: {said[-1]}")
        finally:
            process.kill()
            process.wait()
            process.stdout.close()
