"""Models of moments of a training step, taken into the store as artifacts while it goes on.

They are builds of ``STEP.partial``: ``athanor generate RECIPE/base.partial`` continues with the newest,
``RECIPE/base.partial@N`` with an earlier one, and their lineage is that of the step, with the moment
among what it was made from. Collecting garbage keeps the last ones, as of every step.
"""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

from model.request import PUBLISHED
from storage.artifact import files_below
from storage.builds import Build
from storage.store import Store

SUFFIX = ".partial"
_POLL_SECONDS = 1.0


class Intermediate:
    """While its ``with`` block lasts, takes in what a training step publishes."""

    def __init__(self, store: Store, recipe: str, scratch: Path, build: Callable[[], Build]) -> None:
        """``build`` gives what is known of the step's build so far."""
        self._store, self._recipe, self._folder, self._build = store, recipe, scratch / PUBLISHED, build
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._failure: Exception | None = None

    def __enter__(self) -> Intermediate:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        if kind is None and self._failure is not None:
            raise self._failure

    def _follow(self) -> None:
        try:
            while not self._ended.wait(_POLL_SECONDS):
                self._take_in()
            self._take_in()
        except Exception as error:  # noqa: BLE001  # told when the step has ended
            self._failure = error

    def _take_in(self) -> None:
        for described in sorted(self._folder.glob("step-*.json")):
            moment = json.loads(described.read_text(encoding="utf-8"))
            folder = described.with_suffix("")
            build = self._build()
            manifest = self._store.adopt(build.kind, files_below(folder))
            outside = {"after_step": moment["step"], "after_tokens": moment["tokens"]}
            identity = build.identity.model_copy(update={"outside": outside})
            partial = build.model_copy(
                update={
                    "key": identity.key,
                    "identity": identity,
                    "artifact": manifest.digest,
                    "step": build.step + SUFFIX,
                    "headline": f"after {moment['tokens']:,} tokens (step {moment['step']:,})",
                }
            )
            self._store.record(partial)
            self._store.append_history(self._recipe, partial.step, partial.key, partial.artifact)
            described.unlink()
            shutil.rmtree(folder)
