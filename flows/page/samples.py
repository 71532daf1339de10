"""Samples for a person to judge: texts side by side with their differences marked, grouped by what they show."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from flows.page.differences import Row, related, rows
from flows.page.markup import Markup, element, escaped, foreign, joined

Shown = Mapping[str, str | None]
"""A sample as a build's record holds it; see ``tasks.task.Sample``."""
_LONGEST = 20_000
"""Characters of one text that are shown at most, whatever a task may have recorded."""


def samples(step: str, recorded: Sequence[Shown], metrics: Mapping[str, float]) -> Markup | None:
    """All samples of a step, those with the same title together; None if there are none.

    Of those that are counted by kind, such as what was dropped by reason, the commonest comes first.
    """
    groups: dict[str, list[Shown]] = {}
    for sample in recorded:
        groups.setdefault(str(sample["title"]), []).append(sample)
    if not groups:
        return None
    titles = sorted(groups, key=lambda title: (title.partition(":")[0], -_count(title, metrics), title))
    return joined(*(_group(step, title, groups[title], _count(title, metrics)) for title in titles))


def _count(title: str, metrics: Mapping[str, float]) -> int:
    """How often what a sample shows was counted (``dropped: short`` as ``dropped.short``); 0 if it was not."""
    return int(metrics.get(title.replace(": ", ".", 1), 0))


def place_of(step: str, title: str) -> str:
    """Where on the page the samples with this title begin: an ``id``."""
    return f"{step}-{re.sub('[^A-Za-z0-9]+', '-', title)}"


def _group(step: str, title: str, same: Sequence[Shown], whole: int) -> Markup:
    said = f"{len(same)} of {whole:,}" if whole else f"{len(same)} samples" if len(same) > 1 else ""
    summary = element("summary", foreign(title), element("span", said, class_="quiet"))
    shown = element("div", *(_sample(sample) for sample in same), class_="samples")
    return element("details", summary, shown, class_="group", id=place_of(step, title), open=True)


def _sample(sample: Shown) -> Markup:
    place = sample.get("place")
    head = foreign(place, "div", class_="place") if place else None
    before, after = (sample["before"] or "")[:_LONGEST], sample.get("after")
    if after is None:
        return element("article", head, element("div", foreign(before, "pre"), class_="alone"), class_="sample short")
    names = (str(sample.get("before_is") or "before"), str(sample.get("after_is") or "after"))
    return element("article", head, _beside(before, after[:_LONGEST], names), class_="sample")


def _beside(before: str, after: str, names: tuple[str, str]) -> Markup:
    heads = [element("div", name, class_="side") for name in names]
    found = rows(before, after)
    if all(row.kind == "same" for row in found):
        return joined(
            element("div", f"{names[0]} and {names[1]} are the same", class_="side"),
            element("div", foreign(before, "pre"), class_="alone"),
        )
    if not related(found):  # such as a prompt and its response
        found = [Row("apart", escaped(before), escaped(after))]
    return element("div", element("div", *heads, class_="sides"), *(_row(row) for row in found), class_="beside")


def _row(row: Row) -> Markup:
    cells = (element("pre", text, dir="auto", class_=None if text else "empty") for text in (row.before, row.after))
    return element("div", *cells, class_=f"row row-{row.kind}")
