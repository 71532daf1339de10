"""What became of the documents of a step: kept and dropped by reason, bytes, and texts to look at."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from storage.artifact import JsonValue
from storage.errors import StepFailed
from tasks.task import PartitionResult, Result, Sample

_SAMPLES = 8
_SAMPLES_PER_TITLE = 2
_SAMPLE_CHARACTERS = 1_000


class Tally:
    """Counts for one partition; :meth:`stats` makes them JSON, :func:`result_of` adds partitions up."""

    def __init__(self) -> None:
        self.documents_in = 0
        self.documents_out = 0
        self.bytes_in = 0
        self.bytes_out = 0
        self.counted: Counter[str] = Counter()
        self.samples: list[tuple[str, str, str | None]] = []

    def keep(self, bytes_in: int, text: str) -> None:
        """A document was kept, as ``text``; ``bytes_in`` is the size of what came in."""
        self.documents_in += 1
        self.documents_out += 1
        self.bytes_in += bytes_in
        self.bytes_out += len(text.encode())

    def drop(self, reason: str, bytes_in: int, url: str, text: str) -> None:
        """A document was dropped; an excerpt of ``text`` may become a sample."""
        self.documents_in += 1
        self.bytes_in += bytes_in
        self.counted[f"dropped.{reason}"] += 1
        self.show(f"dropped: {reason}", f"{url}\n\n{text}")

    def show(self, title: str, before: str, after: str | None = None) -> None:
        """Offer a sample; the first few of each title are kept."""
        if sum(known == title for known, _, _ in self.samples) < _SAMPLES_PER_TITLE:
            self.samples.append((title, before[:_SAMPLE_CHARACTERS], after and after[:_SAMPLE_CHARACTERS]))

    def stats(self) -> dict[str, JsonValue]:
        return {
            "documents_in": self.documents_in,
            "documents_out": self.documents_out,
            "bytes_in": self.bytes_in,
            "bytes_out": self.bytes_out,
            "counted": dict(sorted(self.counted.items())),
            "samples": [list(sample) for sample in self.samples],
        }


def result_of(task: str, results: Sequence[PartitionResult]) -> Result:
    """Add up the partitions' tallies.

    Raises StepFailed if no document is left.
    """
    metrics: Counter[str] = Counter()
    for result in results:
        for name in ("documents_in", "documents_out", "bytes_in", "bytes_out"):
            metrics[name] += result.stats[name]
        metrics.update(result.stats["counted"])
    if not metrics["documents_out"]:
        raise StepFailed(f"{task}: none of {metrics['documents_in']} documents left{_reasons(metrics)}")
    return Result(
        counts={"documents": metrics["documents_out"]},
        metrics={name: metrics[name] for name in metrics},
        headline=f"{metrics['documents_out']:,} of {metrics['documents_in']:,} documents",
        samples=_samples([sample for result in results for sample in result.stats["samples"]]),
    )


def _reasons(metrics: Counter[str]) -> str:
    dropped = {name.removeprefix("dropped."): n for name, n in metrics.items() if name.startswith("dropped.")}
    largest = sorted(dropped.items(), key=lambda item: (-item[1], item[0]))[:3]
    return "; dropped for " + ", ".join(f"{reason} ({n})" for reason, n in largest) if largest else ""


def _samples(offered: Sequence[Any]) -> list[Sample]:
    """One of each title first, then second ones."""
    chosen: list[Sample] = []
    for turn in range(_SAMPLES_PER_TITLE):
        by_title: dict[str, list[Any]] = {}
        for sample in offered:
            by_title.setdefault(sample[0], []).append(sample)
        chosen.extend(Sample(*same[turn]) for same in by_title.values() if len(same) > turn)
    return chosen[:_SAMPLES]
