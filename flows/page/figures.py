"""The figures of a step, as bars where they count one thing by kind, and as tables."""

from __future__ import annotations

from collections.abc import Mapping

from flows.outcome import StepOutcome
from flows.page.amounts import counted
from flows.page.funnel import percent
from flows.page.markup import Markup, element, foreign, joined
from flows.page.samples import place_of
from flows.report import figure_text

_COUNTED = {
    "dropped": ("Documents dropped, by reason", "documents_in"),
    "tagged": ("Documents tagged, by fault", "documents_in"),
    "replaced": ("Replaced, by kind", None),
    "contaminated": ("Documents that overlap an evaluation set, by set", "documents_in"),
    "overlap_characters": ("Characters of overlap, by evaluation set", None),
    "made": ("Texts made, by method", None),
    "rejected": ("Texts rejected, by method and reason", None),
    "lost": ("Documents that no text was made of, by reason", "documents_in"),
    "quarantined": ("Files that could not be read, by reason", None),
    "documents_up_to_tokens": ("Documents of at most so many tokens", "documents_in"),
}
"""Figures that count one thing by kind: what they count, and the figure they are shares of."""
_IN_FUNNEL = {"documents_in", "documents_out", "bytes_in", "bytes_out"}


def breakdowns(outcome: StepOutcome) -> Markup | None:
    """Bars for what a step counted by kind."""
    metrics = outcome.metrics
    sampled = {str(sample["title"]) for sample in outcome.samples}
    parts = []
    for prefix, (title, whole) in _COUNTED.items():
        counts = counted(metrics, prefix)
        if counts:
            if all(name.isdecimal() or name == "more" for name in counts):
                counts = dict(sorted(counts.items(), key=lambda item: int(item[0]) if item[0].isdecimal() else 1 << 62))
            places = {n: place_of(outcome.step, f"{prefix}: {n}") for n in counts if f"{prefix}: {n}" in sampled}
            parts += [element("h3", title), _bars(counts, metrics.get(whole, 0) if whole else 0, prefix, places)]
    return joined(*parts) if parts else None


def replaced_words(metrics: Mapping[str, float]) -> str:
    """``replaced: 31 email, 4 phone``; empty for a step that replaced nothing."""
    replaced = counted(metrics, "replaced")
    return f"replaced: {', '.join(f'{n:,} {kind}' for kind, n in replaced.items())}" if replaced else ""


def _bars(counts: Mapping[str, int], whole: float, prefix: str, places: Mapping[str, str]) -> Markup:
    most = max(counts.values())
    colour = {"dropped": "reason-0", "quarantined": "reason-5", "tagged": "reason-3"}.get(prefix, "bytes")
    rows = []
    for name, count in counts.items():
        filled = element("span", class_=f"part {colour}", style=f"width:{100 * count / most:.2f}%")
        share = f" · {percent(count, whole)}" if whole else ""
        place = f"#{places[name]}" if name in places else None
        rows.append(
            element(
                "div",
                element("a" if place else "span", foreign(name), href=place, class_="what"),
                element("div", filled, class_="bar"),
                element("span", f"{count:,}{share}", class_="number"),
                class_="count",
            )
        )
    return element("div", *rows, class_="counts")


Measured = dict[str, dict[str, dict[str, float]]]
"""Split → model → figure → value."""


def measured(metrics: Mapping[str, float]) -> Measured:
    """What models were measured at: ``MODEL.SPLIT.FIGURE``, where the figures of a split have a loss among them."""
    splits: Measured = {}
    for name, value in metrics.items():
        parts = name.split(".")
        if len(parts) == 3 and f"{parts[0]}.{parts[1]}.loss" in metrics:
            splits.setdefault(parts[1], {}).setdefault(parts[0], {})[parts[2]] = value
    return splits


def measures(splits: Measured) -> Markup | None:
    """A table a split, the best model first."""
    parts = []
    for split, models in splits.items():
        names = list(dict.fromkeys(figure for found in models.values() for figure in found))
        order = sorted(models, key=lambda model: (models[model]["loss"], model))
        head = element("tr", element("th", "model"), *(element("th", _words(n), class_="number") for n in names))
        rows = [
            element(
                "tr",
                element("td", model),
                *(element("td", figure_text(models[model].get(n)), class_="number") for n in names),
            )
            for model in order
        ]
        table = element("table", element("thead", head), element("tbody", *rows), class_="narrow")
        parts += [element("h3", split), element("div", table, class_="wide")]
    return joined(*parts) if parts else None


def plain_figures(metrics: Mapping[str, float]) -> Markup | None:
    """All other figures, as a table that can be opened."""
    shown = {
        f"{m}.{split}.{n}" for split, models in measured(metrics).items() for m, found in models.items() for n in found
    }
    others = {
        name: value
        for name, value in sorted(metrics.items())
        if name not in _IN_FUNNEL | shown and not (name.partition(".")[0] in _COUNTED and "." in name)
    }
    if not others:
        return None
    rows = [
        element("tr", element("td", _words(name)), element("td", figure_text(value), class_="number"))
        for name, value in others.items()
    ]
    table = element("table", element("tbody", *rows), class_="narrow")
    return element("details", element("summary", "Figures"), table, class_="settings")


def _words(name: str) -> str:
    return name.replace("_", " ")
