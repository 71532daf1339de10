"""Samples: drawn as if by chance, the same whatever the partitions, and cut where two texts differ."""

from __future__ import annotations

import json
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.tally import Tally, excerpts, fewest, in_short, result_of
from tasks.task import PartitionResult, Sample

DOCUMENTS = st.lists(st.tuples(st.sampled_from(["short", "long", "odd"]), st.integers(0, 10_000)), unique=True)


def tallied(documents: list[tuple[str, int]], sizes: list[int]) -> list[Sample]:
    """Samples of documents dropped for a reason, in partitions of these sizes."""
    results = []
    rest = list(documents)
    for size in [*sizes, len(documents)]:
        tally = Tally()
        tally.keep(1, "x")
        for reason, number in rest[:size]:
            tally.drop(reason, 1, f"page/{number}", f"text {number}")
        rest = rest[size:]
        stats: Any = json.loads(json.dumps(tally.stats()))
        if size % 2:
            results.append(PartitionResult("0", {"0": Path("0")}, stats, reused=False))
        else:
            whole = partial(deepcopy, stats)
            results.append(PartitionResult("0", {"0": Path("0")}, in_short(stats), reused=True, whole=whole))
    return result_of("filter", results).samples


@settings(max_examples=50, deadline=None)
@given(DOCUMENTS, st.lists(st.integers(0, 5), max_size=5), st.randoms())
def test_samples_do_not_depend_on_order_or_partitions(
    documents: list[tuple[str, int]], sizes: list[int], chance: Any
) -> None:
    whole = tallied(documents, [])
    shuffled = list(documents)
    chance.shuffle(shuffled)
    assert tallied(shuffled, sizes) == whole
    for reason in {reason for reason, _ in documents}:
        same = [sample for sample in whole if sample.title == f"dropped: {reason}"]
        assert len(same) == min(3, sum(reason == other for other, _ in documents))


def test_every_reason_has_a_sample_before_another_has_two() -> None:
    samples = tallied([(f"reason{number % 25}", number) for number in range(200)], [70])
    assert len(samples) == 30
    assert len({sample.title for sample in samples[:25]}) == 25


def test_a_sample_whose_text_has_been_lost_is_not_shown() -> None:
    tally = Tally()
    tally.keep(1, "x")
    tally.drop("odd", 1, "page", "text")
    lost = PartitionResult("0", {"0": Path("0")}, in_short(tally.stats()), reused=True, whole=lambda: None)
    assert result_of("filter", [lost]).samples == []
    assert "text" not in str(lost.stats)


def test_the_text_of_a_sample_is_made_only_if_it_is_shown() -> None:
    asked = []

    def text(number: int) -> str:
        asked.append(number)
        return str(number)

    tally = Tally()
    for number in range(100):
        tally.drop("odd", 1, f"page/{number}", lambda number=number: text(number))
    assert asked == []
    assert len(tally.stats()["samples"]) == len(asked) == 3


@given(st.sets(st.integers(0, 99), max_size=3), st.sets(st.integers(100, 199), max_size=6), st.booleans())
def test_only_texts_are_made_that_are_shown_beside_earlier_samples(
    before: set[int], numbers: set[int], same_title: bool
) -> None:
    title = "dropped: odd" if same_title else "dropped: other"
    beside = [(row, Sample(title, "earlier", None, f"page/{row}")) for row in sorted(before)]
    tally = Tally()
    for tally.row in sorted(numbers):
        tally.drop("odd", 1, f"page/{tally.row}", f"text {tally.row}")
    shown = fewest([*beside, *tally.samples()])
    assert fewest([*beside, *tally.samples(beside)]) == shown
    assert tally.samples(beside) == [sample for sample in tally.samples() if sample in shown]


def test_two_long_texts_are_shown_from_shortly_before_they_differ() -> None:
    before, after = "a" * 10_000 + "secret" + "b" * 15_000, "a" * 10_000 + "<X>" + "b" * 15_000
    shown, beside = excerpts(before, after)
    assert shown.startswith("[9,700 characters before …]\n" + "a" * 300 + "secret")
    assert beside is not None
    assert beside.startswith("[9,700 characters before …]\n" + "a" * 300 + "<X>")
    assert shown.endswith("[… 6,306 characters more]")
    assert excerpts("short", "shorter") == ("short", "shorter")
    assert excerpts("x" * 3_001, None) == ("x" * 3_000 + "\n[… 1 characters more]", None)


def test_a_page_whose_menu_is_long_is_shown_from_where_its_kept_text_begins() -> None:
    story = "It was fed once, and kept an even heat for weeks.\n" + "More of the story.\n" * 400
    page = "Menu, one of many entries\n" * 2_000 + story
    shown, beside = excerpts(page, f"A title\n{story}")
    assert "It was fed once" in shown
    assert shown.startswith("[47,500 characters before …]\n")
    assert beside == f"A title\n{story}"
