"""What each data step holds in memory, measured in a process of its own.

``python -m tests.memory PAGES KILOBYTES FOLDER`` prints a JSON object: step → [bytes that the
parent's peak lies above where it began, peak bytes of any worker].
"""

from __future__ import annotations

import json
import os
import random
import shutil
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from storage.artifact import Artifact
from tasks.clean_html import CleanHtml
from tasks.collect import Collect
from tasks.dedup import Dedup
from tasks.filter import Filter
from tasks.scrub_pii import ScrubPii
from tasks.shard import Shard
from tasks.task import Task
from tasks.train_tokenizer import TrainTokenizer
from tests.helpers import run_task

SYLLABLES = ("al", "em", "ber", "fur", "nace", "heat", "gol", "den", "ver", "mil", "ion", "ash", "sul", "phur", "lead")


def make_site(folder: Path, pages: int, kilobytes: float) -> None:
    """HTML pages that are nearly all text, no two alike."""
    chance = random.Random(7)
    words = ["".join(chance.choices(SYLLABLES, k=chance.randint(1, 4))) for _ in range(5_000)]
    for number in range(pages):
        path = folder / f"{number // 500}" / f"{number}.html"
        path.parent.mkdir(parents=True, exist_ok=True)
        text = " ".join(chance.choices(words, k=max(1, int(kilobytes * 110))))
        path.write_text(f"<html><body><p>{number} {text}.</p></body></html>")


class Meter:
    """Peaks of this process and of its workers while a step runs."""

    def __enter__(self) -> Meter:
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        self.began = _kilobytes(os.getpid(), "VmRSS")
        self.workers = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self.parent = _kilobytes(os.getpid(), "VmHWM") - self.began

    def _watch(self) -> None:
        while not self._over.wait(0.05):
            children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
            self.workers = max([self.workers, *(_kilobytes(int(pid), "VmHWM") for pid in children)])


def _kilobytes(pid: int, name: str) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith(name)), 0)


def measure(folder: Path) -> dict[str, tuple[int, int]]:
    """Every data step, one after the other, on the pages below ``folder/site``."""
    steps: list[tuple[str, Task, Mapping[str, str]]] = [
        ("collect", _task(Collect, sources=[{"kind": "files", "path": "site"}], partition_megabytes=1), {}),
        ("clean_html", _task(CleanHtml, pages="collect", extractor="resiliparse"), {"pages": "collect"}),
        ("filter", _task(Filter, documents="d", rules=["length", "characters"]), {"documents": "clean_html"}),
        ("scrub_pii", _task(ScrubPii, documents="d"), {"documents": "filter"}),
        ("dedup", _task(Dedup, documents="d"), {"documents": "scrub_pii"}),
        (
            "train_tokenizer",
            _task(TrainTokenizer, documents="d", vocab_size=1000, sample_megabytes=1),
            {"documents": "dedup"},
        ),
        (
            "shard",
            _task(Shard, documents="d", tokenizer="t"),
            {"documents": "dedup", "tokenizer": "train_tokenizer"},
        ),
    ]
    made: dict[str, Artifact] = {}
    peaks = {}
    for name, task, inputs in steps:
        with Meter() as meter:
            opened = {slot: made[step] for slot, step in inputs.items()}
            made[name] = run_task(task, opened, folder, name=name, workers=1).artifact
        peaks[name] = (meter.parent * 1024, meter.workers * 1024)
    return peaks


def _task(kind: type[Task], **settings: Any) -> Task:
    return kind.model_validate(settings)


if __name__ == "__main__":
    pages, kilobytes, folder = int(sys.argv[1]), float(sys.argv[2]), Path(sys.argv[3])
    make_site(folder / "site", pages, kilobytes)
    print(json.dumps(measure(folder)))
    shutil.rmtree(folder / "site")
