"""What became of the documents of a step: kept and dropped by reason, bytes, and texts to look at."""

from __future__ import annotations

import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple
from itertools import chain, zip_longest

from storage.artifact import JsonValue
from storage.errors import StepFailed
from tasks.task import PartitionResult, Result, Sample

FORGOTTEN = "forgotten"
"""Reason of what is left out on somebody's request."""
_SAMPLES = 30
"""Most that a step shows; a rule's first comes before another's second."""
_SAMPLES_PER_TITLE = 3
_SAMPLE_CHARACTERS = 3_000
_PAIR_CHARACTERS = 9_000
"""Of each of two texts that are to be compared: what was kept of a page may begin far down in it."""
_PLACE_CHARACTERS = 500
_OPENING_CHARACTERS = 30
"""A line of so many is not found elsewhere by chance."""
_LEADING_CHARACTERS = 300
"""Of what two texts have in common before they first differ, so much is shown."""

_READERS = 8
"""Records of partitions that are read at a time for their samples: a remote store answers slowly."""
_SHORT = 3
"""Values of a sample in short: row, title and place."""

SampleOfRow = tuple[int, Sample]
"""A sample, and the number of the row that it belongs to."""
Shown = str | Callable[[], str]
"""A text, or what makes it: asked for only if it is among the samples."""


def _with_finding(url: str, found: str) -> str:
    return f"{url[: _PLACE_CHARACTERS // 2]} (found: {found})" if found else url


class Tally:
    """Counts for the rows of a partition; :func:`result_of` adds partitions up.

    Every count and every sample belongs to the ``row`` that is being worked on, so that a later
    build can take over those of the rows that have not changed.
    """

    def __init__(self) -> None:
        self.row = 0
        """Number of the row that what is counted belongs to."""
        self.counts: defaultdict[str, Counter[int]] = defaultdict(Counter)
        """Name → row → count."""
        self._offered: defaultdict[str, list[tuple[int, int, Shown, str | None, tuple[str, str, str]]]]
        self._offered = defaultdict(list)

    def count(self, name: str, number: int = 1) -> None:
        """Add to a count of this row."""
        self.counts[name][self.row] += number

    def keep(self, bytes_in: int, text: str) -> None:
        """A document was kept, as ``text``; ``bytes_in`` is the size of what came in."""
        self.count("documents_in")
        self.count("documents_out")
        self.count("bytes_in", bytes_in)
        self.count("bytes_out", len(text.encode()))

    def drop(self, reason: str, bytes_in: int, url: str, text: Shown, found: str = "") -> None:
        """A document was dropped; an excerpt of ``text`` may become a sample, with what was ``found`` in it."""
        self.count("documents_in")
        self.count("bytes_in", bytes_in)
        self.count(f"dropped.{reason}")
        self.show(f"dropped: {reason}", text, None, _with_finding(url, found), before_is="dropped")

    def forget(self, bytes_in: int) -> None:
        """A document was left out on somebody's request, so nothing of it is shown."""
        self.count("documents_in")
        self.count("bytes_in", bytes_in)
        self.count(f"dropped.{FORGOTTEN}")

    def tag(self, reason: str, url: str, text: Shown, found: str = "") -> None:
        """A document that is kept has a fault; likewise."""
        self.count(f"tagged.{reason}")
        self.show(f"tagged: {reason}", text, None, _with_finding(url, found), before_is="tagged")

    def show(
        self,
        title: str,
        before: Shown,
        after: str | None = None,
        place: str = "",
        before_is: str = "before",
        after_is: str = "after",
    ) -> None:
        """Offer a sample (see ``tasks.task.Sample``); a few of each title are kept, drawn as if by chance."""
        place = place[:_PLACE_CHARACTERS]
        rank = _rank(title, place)
        offered = self._offered[title]
        if len(offered) < _SAMPLES_PER_TITLE or rank < offered[-1][0]:
            offered.append((rank, self.row, before, after, (place, before_is, after_is)))
            offered.sort(key=lambda offer: offer[0])
            del offered[_SAMPLES_PER_TITLE:]

    def samples(self, beside: Iterable[SampleOfRow] = ()) -> list[SampleOfRow]:
        """What was offered and is still among the few of its title, with the rows.

        Without what ``fewest`` would leave out ``beside`` these samples of other rows: no text is made for nothing.
        """
        taken: defaultdict[str, list[int]] = defaultdict(list)
        for _, sample in beside:
            taken[sample.title].append(_rank(sample.title, sample.place))
        return [
            (row, Sample(title, *excerpts(before if isinstance(before, str) else before(), after), *labels))
            for title, offered in self._offered.items()
            for number, (rank, row, before, after, labels) in enumerate(offered)
            if number + sum(other <= rank for other in taken[title]) < _SAMPLES_PER_TITLE
        ]

    def stats(self) -> dict[str, JsonValue]:
        """The counts of all rows together, and the samples, as JSON."""
        return stats_of({name: sum(rows.values()) for name, rows in self.counts.items()}, self.samples())


def stats_of(counts: Mapping[str, int], samples: Sequence[SampleOfRow]) -> dict[str, JsonValue]:
    """What :func:`result_of` takes from a partition."""
    counted = {name: count for name, count in sorted(counts.items()) if count}
    return {"counts": counted, "samples": [[row, *astuple(sample)] for row, sample in samples]}


def in_short(stats: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """The same with no more of each sample than says whether it is chosen: row, title and place.

    The texts are most of what a partition's stats hold, and of hundreds of partitions a few samples are chosen.
    """
    if "samples" not in stats:
        return dict(stats)
    return {**stats, "samples": [[row, title, place] for row, title, _, _, place, *_ in stats["samples"]]}


def fewest(samples: Iterable[SampleOfRow]) -> list[SampleOfRow]:
    """Those that one tally of all these rows would have kept, if each was among the few of its title in its own."""
    by_title: defaultdict[str, list[SampleOfRow]] = defaultdict(list)
    for row, sample in samples:
        by_title[sample.title].append((row, sample))
    ranked = (sorted(same, key=lambda one: _rank(one[1].title, one[1].place)) for same in by_title.values())
    return [one for same in ranked for one in same[:_SAMPLES_PER_TITLE]]


def counts_of(results: Sequence[PartitionResult]) -> Counter[str]:
    """The partitions' counts, added up."""
    total: Counter[str] = Counter()
    for result in results:
        total.update(result.stats["counts"])
    return total


def result_of(task: str, results: Sequence[PartitionResult]) -> Result:
    """Add up the partitions' tallies.

    Raises StepFailed if no document is left.
    """
    metrics = Counter(dict.fromkeys(("documents_in", "documents_out", "bytes_in", "bytes_out"), 0))
    metrics.update(counts_of(results))
    if not metrics["documents_out"]:
        raise StepFailed(f"{task}: none of {metrics['documents_in']} documents left{_reasons(metrics)}")
    return Result(
        counts={"documents": metrics["documents_out"]},
        metrics={name: metrics[name] for name in metrics},
        headline=f"{metrics['documents_out']:,} of {metrics['documents_in']:,} documents",
        samples=chosen(results),
    )


def _reasons(metrics: Counter[str]) -> str:
    dropped = {name.removeprefix("dropped."): n for name, n in metrics.items() if name.startswith("dropped.")}
    largest = sorted(dropped.items(), key=lambda item: (-item[1], item[0]))[:3]
    return "; dropped for " + ", ".join(f"{reason} ({n})" for reason, n in largest) if largest else ""


def chosen(results: Sequence[PartitionResult]) -> list[Sample]:
    """A few samples of each title, whatever the partitions: one of each title first, then second ones."""
    by_title: defaultdict[str, list[tuple[int, str, int, int]]] = defaultdict(list)
    for at, result in enumerate(results):
        for number, sample in enumerate(result.stats["samples"]):
            title, place = sample[1], sample[2 if len(sample) == _SHORT else 4]
            by_title[title].append((_rank(title, place), place, at, number))
    drawn = [sorted(same)[:_SAMPLES_PER_TITLE] for _, same in sorted(by_title.items())]
    turns = [offer for offer in chain.from_iterable(zip_longest(*drawn)) if offer is not None][:_SAMPLES]
    with ThreadPoolExecutor(_READERS, thread_name_prefix="samples") as threads:
        numbers = sorted({at for _, _, at, _ in turns})
        whole = dict(zip(numbers, threads.map(lambda at: _whole_stats(results[at]), numbers), strict=True))
    found = ((whole[at], number) for _, _, at, number in turns)
    return [Sample(*stats["samples"][number][1:]) for stats, number in found if stats is not None]


def _whole_stats(result: PartitionResult) -> dict[str, JsonValue] | None:
    """A partition's stats with its samples whole; None if they are no longer remembered."""
    return result.stats if result.whole is None else result.whole()


def excerpts(before: str, after: str | None) -> tuple[str, str | None]:
    """What is shown of a text; of two, from shortly before they first differ."""
    if after is None:
        return _excerpt(before, 0, _SAMPLE_CHARACTERS), None
    start = skipped = 0
    if max(len(before), len(after)) > _PAIR_CHARACTERS:
        start = max(0, _same_characters(before, after) - _LEADING_CHARACTERS)
        skipped = start or max(0, _beginning_in(before, after) - _PAIR_CHARACTERS // 2)
    return _excerpt(before, skipped, _PAIR_CHARACTERS), _excerpt(after, start, _PAIR_CHARACTERS)


def _beginning_in(before: str, after: str) -> int:
    """Where in ``before`` the first long line of ``after`` stands: behind a menu of many pages' length; else 0."""
    lines = (line.strip() for line in after[:_PAIR_CHARACTERS].split("\n"))
    opening = next((line[:_OPENING_CHARACTERS] for line in lines if len(line) >= _OPENING_CHARACTERS), "")
    return max(0, before.find(opening)) if opening else 0


def _excerpt(text: str, start: int, most: int) -> str:
    rest = len(text) - start - most
    opening = f"[{start:,} characters before …]\n" if start else ""
    closing = f"\n[… {rest:,} characters more]" if rest > 0 else ""
    return f"{opening}{text[start : start + most]}{closing}"


def _same_characters(one: str, other: str) -> int:
    """How many characters two texts begin with in common."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((index for index, (a, b) in pairs if a != b), min(len(one), len(other)))


def _rank(title: str, place: str) -> int:
    """A number that is as good as drawn by chance, and the same whatever the order and the partitions."""
    return zlib.crc32(f"{title}\n{place}".encode("utf-8", "surrogatepass"))
