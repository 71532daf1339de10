"""What a training step leaves of its moments, taken into the store as artifacts while it goes on.

Models are builds of ``STEP.partial``: ``athanor generate RECIPE/base.partial`` continues with the newest,
``RECIPE/base.partial@N`` with an earlier one, and their lineage is that of the step, with the moment
among what it was made from. States, which longer runs continue from, are likewise builds of
``STEP.state`` (see ``flows.longer``). Collecting garbage keeps the last ones of both, as of every step.
"""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

from flows import longer
from flows.history import History
from model.request import KEPT, PUBLISHED
from storage.artifact import State, files_below
from storage.builds import Build, Identity

SUFFIX = ".partial"
_POLL_SECONDS = 1.0


class Intermediate:
    """While its ``with`` block lasts, takes in what a training step publishes and keeps."""

    def __init__(
        self, history: History, scratch: Path, build: Callable[[], Build], stem: Identity | None = None
    ) -> None:
        """``build`` gives what is known of the step's build so far; ``stem``: the identity of its states."""
        self._history, self._scratch, self._build, self._stem = history, scratch, build, stem
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
        for described in sorted((self._scratch / PUBLISHED).glob("step-*.json")):
            build = self._build()
            self._take(described, build, build.kind, SUFFIX, build.identity)
        for described in sorted((self._scratch / KEPT).glob("step-*.json")):
            if self._stem is not None:
                self._take(described, self._build(), State.kind, longer.SUFFIX, self._stem)

    def _take(self, described: Path, build: Build, kind: str, suffix: str, made_of: Identity) -> None:
        """Make a folder with a moment's files, described by the file beside it, an artifact of the store."""
        moment = json.loads(described.read_text(encoding="utf-8"))
        folder = described.with_suffix("")
        store = self._history.store
        manifest = store.adopt(kind, files_below(folder))
        identity = made_of.model_copy(
            update={"outside": {"after_step": moment["step"], "after_tokens": moment["tokens"]}}
        )
        taken = build.model_copy(
            update={
                "key": identity.key,
                "kind": kind,
                "identity": identity,
                "artifact": manifest.digest,
                "step": build.step + suffix,
                "headline": f"after {moment['tokens']:,} tokens (step {moment['step']:,})",
            }
        )
        store.record(taken)
        self._history.append(taken.step, taken)
        described.unlink()
        shutil.rmtree(folder)
