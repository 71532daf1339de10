"""The funnel: how many documents and bytes each step took in and gave on, and why it dropped the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flows.artifacts import bytes_text
from flows.page.amounts import Amounts, largest
from flows.page.markup import Markup, element, foreign
from flows.page.samples import place_of

_ROOMY = 0.07
"""Share of the widest bar from which a part has room for its number."""
_COLOURS = 7
"""Reasons of one step that get a colour of their own, the rest together being the last."""


@dataclass(frozen=True)
class FunnelStep:
    """A step that counted documents."""

    name: str
    task: str
    needs: Sequence[str]
    amount: Amounts
    note: str = ""
    sampled: frozenset[str] = frozenset()
    """Titles of its samples, which reasons are linked to."""


def funnel(steps: Sequence[FunnelStep], starts: Mapping[str, int]) -> Markup:
    """A row for every step, all bars of documents drawn to one scale; ``starts``: see ``amounts.beginnings``."""
    widest = max((max(s.amount.documents_in, s.amount.documents_out) for s in steps), default=0)
    names = {step.name for step in steps}
    rows = []
    above: list[str] = []
    for step in steps:
        parents = [name for name in step.needs if name in names]
        origin = f"from {', '.join(parents)}" if parents != above and parents else ""
        rows.append(_row(step, origin, starts[step.name], widest))
        above = [step.name]
    return element("div", *rows, class_="funnel")


def _row(step: FunnelStep, origin: str, start: int, widest: int) -> Markup:
    name = element(
        "div",
        element("a", step.name, href=f"#step-{step.name}", class_="name"),
        element("span", step.task, class_="quiet"),
        element("span", origin, class_="quiet") if origin else None,
        class_="funnel-step",
    )
    parts = parts_of(step.amount)
    legend = [_key(step, name, colour, count) for name, colour, count in parts if colour != "kept"]
    drawn = element(
        "div",
        _said(step.amount, start),
        _bar(parts, widest),
        element("ul", *legend, class_="legend") if legend else None,
        element("div", step.note, class_="note quiet") if step.note else None,
        _bytes(step.amount),
    )
    return element("div", name, drawn, class_="funnel-row")


def _said(amount: Amounts, start: int) -> Markup:
    words = f"{amount.documents_out:,} of {amount.documents_in:,} documents" if _loses(amount) else ""
    return element(
        "div",
        element("b", words or f"{amount.documents_out:,} documents"),
        element("span", _shares(amount, start), class_="quiet"),
        class_="said",
    )


def _bar(parts: Sequence[tuple[str, str, int]], widest: int) -> Markup:
    shown = [
        element(
            "span",
            f"{count:,}" if count >= _ROOMY * widest else None,
            class_=f"part {colour}",
            style=f"width:{100 * count / widest:.3f}%",
            title=f"{name}: {count:,}",
        )
        for name, colour, count in parts
    ]
    spoken = ", ".join(f"{name} {count:,}" for name, _, count in parts)
    return element("div", *shown, class_="bar", role="img", aria_label=spoken)


def parts_of(amount: Amounts) -> list[tuple[str, str, int]]:
    """Name, class of colour and documents of each part of a step's bar."""
    parts = [("kept", "kept", amount.kept)]
    reasons = largest(amount.dropped, _COLOURS, "{} other reasons")
    parts += [(name, f"reason-{number}", count) for number, (name, count) in enumerate(reasons)]
    parts += [("no reason counted", "unexplained", amount.unexplained), ("added", "added", amount.added)]
    return [part for part in parts if part[2]]


def _loses(amount: Amounts) -> bool:
    return amount.documents_in != amount.documents_out or bool(amount.dropped)


def _shares(amount: Amounts, start: int) -> str:
    """``82.0 % kept; 51.2 % of the 1,032 that came in``."""
    said = [f"{percent(amount.kept, amount.documents_in)} kept"] if _loses(amount) and amount.documents_in else []
    if start and start != amount.documents_in:
        said.append(f"{percent(amount.documents_out, start)} of the {start:,} at the start")
    return "; ".join(said)


def _key(step: FunnelStep, name: str, colour: str, count: int) -> Markup:
    title = f"dropped: {name}"
    label = (
        element("a", foreign(name), href=f"#{place_of(step.name, title)}") if title in step.sampled else foreign(name)
    )
    whole = step.amount.documents_in
    share = f" · {percent(count, whole)}" if whole else ""
    return element(
        "li", element("i", class_=f"swatch {colour}"), label, element("span", f" {count:,}{share}", class_="quiet")
    )


def _bytes(amount: Amounts) -> Markup | None:
    said = bytes_words(amount)
    if not amount.bytes_in or amount.bytes_out is None:
        return element("div", said, class_="note quiet") if said else None
    share = min(100.0, 100 * amount.bytes_out / amount.bytes_in)
    filled = element("span", class_="part bytes", style=f"width:{share:.3f}%")
    bar = element("div", filled, class_="bar thin", role="img", aria_label=said)
    return element("div", bar, element("span", said, class_="quiet"), class_="bytes-line")


def bytes_words(amount: Amounts) -> str:
    """``149.0 MB → 6.3 MB (4.2 % of the bytes)``; empty if they were not counted."""
    if amount.bytes_out is None:
        return ""
    if not amount.bytes_in:
        return bytes_text(amount.bytes_out)
    share = percent(amount.bytes_out, amount.bytes_in)
    return f"{bytes_text(amount.bytes_in)} → {bytes_text(amount.bytes_out)} ({share} of the bytes)"


def percent(part: float, whole: float) -> str:
    """``12.3 %``; a share that would round to nothing or to all is said to be near it."""
    share = 100 * part / whole
    if 0 < share < 0.05:
        return "< 0.1 %"
    if 99.95 <= share < 100:
        return "> 99.9 %"
    return f"{share:.1f} %"
