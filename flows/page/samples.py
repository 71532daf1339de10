"""Samples for a person to judge: texts side by side with their differences marked, grouped by what they show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from flows.page.differences import Row, rows
from flows.page.markup import Markup, element, foreign, joined

Shown = Mapping[str, str | None]
"""A sample as a build's record holds it; see ``tasks.task.Sample``."""
_LONGEST = 20_000
"""Characters of one text that are shown at most, whatever a task may have recorded."""


def samples(recorded: Sequence[Shown]) -> Markup | None:
    """All samples of a step, those with the same title together; None if there are none."""
    groups: dict[str, list[Shown]] = {}
    for sample in recorded:
        groups.setdefault(str(sample["title"]), []).append(sample)
    if not groups:
        return None
    return joined(*(_group(title, same) for title, same in sorted(groups.items(), key=_order)))


def _order(group: tuple[str, list[Shown]]) -> tuple[bool, str]:
    """What was kept comes first, then what was dropped, by reason."""
    return group[0].startswith("dropped"), group[0]


def _group(title: str, same: Sequence[Shown]) -> Markup:
    number = element("span", f"{len(same)} samples", class_="quiet") if len(same) > 1 else None
    summary = element("summary", foreign(title), " ", number)
    return element("details", summary, *(_sample(sample) for sample in same), class_="group", open=True)


def _sample(sample: Shown) -> Markup:
    place = sample.get("place")
    head = foreign(place, "div", class_="place") if place else None
    before, after = (sample["before"] or "")[:_LONGEST], sample.get("after")
    if after is None:
        return element("article", head, element("div", foreign(before, "pre"), class_="alone"), class_="sample")
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
    return element("div", element("div", *heads, class_="sides"), *(_row(row) for row in found), class_="beside")


def _row(row: Row) -> Markup:
    cells = (element("pre", text, dir="auto", class_=None if text else "empty") for text in (row.before, row.after))
    return element("div", *cells, class_=f"row row-{row.kind}")
