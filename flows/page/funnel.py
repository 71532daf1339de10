"""The funnel: how many documents and bytes each step took in and gave on, and why it dropped the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from flows.artifacts import bytes_text
from flows.page.amounts import Amounts, beginnings, largest
from flows.page.markup import Markup, element, foreign, joined
from flows.page.samples import place_of

_COLOURS = 7
"""Reasons of one step that get a colour of their own, the rest together being the last."""


def funnel(
    needs: Mapping[str, Sequence[str]],
    amounts: Mapping[str, Amounts],
    tasks: Mapping[str, str],
    notes: Mapping[str, str],
) -> Markup:
    """A row for every step of ``amounts``, with its note; all bars of documents are drawn to one scale."""
    starts = beginnings(needs, amounts)
    widest = max((max(a.documents_in, a.documents_out) for a in amounts.values()), default=0)
    rows = []
    above = ""
    for step, amount in amounts.items():
        parents = [name for name in needs[step] if name in amounts]
        origin = f"from {', '.join(parents)}" if parents and parents != [above] else ""
        documents = _documents(step, amount, starts[step], widest)
        note = element("div", notes[step], class_="note quiet") if notes.get(step) else None
        rows.append(_row(step, tasks[step], origin, joined(documents, note, _bytes(amount))))
        above = step
    return element("div", *rows, class_="funnel")


def _row(step: str, task: str, origin: str, drawn: Markup) -> Markup:
    name = element(
        "div",
        element("a", step, href=f"#step-{step}", class_="name"),
        element("span", task, class_="quiet"),
        element("span", origin, class_="quiet") if origin else None,
        class_="funnel-step",
    )
    return element("div", name, element("div", drawn), class_="funnel-row")


def _documents(step: str, amount: Amounts, start: int, widest: int) -> Markup:
    parts = parts_of(amount)
    words = f"{amount.documents_out:,} of {amount.documents_in:,} documents" if _loses(amount) else ""
    said = element(
        "div",
        element("b", words or f"{amount.documents_out:,} documents"),
        element("span", _shares(amount, start), class_="quiet"),
        class_="said",
    )
    shown = [
        element(
            "span",
            f"{count:,}" if count >= 0.07 * widest else None,
            class_=f"part {colour}",
            style=f"width:{100 * count / widest:.3f}%",
            title=f"{name}: {count:,}",
        )
        for name, colour, count in parts
        if widest
    ]
    spoken = ", ".join(f"{name} {count:,}" for name, _, count in parts)
    bar = element("div", *shown, class_="bar", role="img", aria_label=spoken)
    legend = [_key(step, name, colour, count, amount.documents_in) for name, colour, count in parts if colour != "kept"]
    return joined(said, bar, element("ul", *legend, class_="legend") if legend else None)


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


def _key(step: str, name: str, colour: str, count: int, whole: int) -> Markup:
    swatch = element("i", class_=f"swatch {colour}")
    share = f" · {percent(count, whole)}" if whole else ""
    label = element("a", foreign(name), href=f"#{place_of(step, f'dropped: {name}')}") if "reason" in colour else name
    return element("li", swatch, label, element("span", f" {count:,}{share}", class_="quiet"))


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
