"""The pictures that MLflow shows of a run, and the figures they are drawn from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from flows.page.amounts import amounts_of, counted
from flows.page.curves import Points, losses
from flows.page.funnel import percent

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from storage.shard_index import Index

BINS = 40
"""Bars of a histogram."""
_KEPT, _DROPPED, _SECOND = "#2f6f4f", "#c9783c", "#a33b3b"


def token_lengths(index: Index) -> dict[str, list[float]]:
    """Histogram of the documents' lengths in tokens: ``edges`` (one more than ``counts``) and ``counts``."""
    import numpy as np

    positive = index.lengths[index.lengths > 0].astype(np.int64)
    if not len(positive):
        return {"edges": [], "counts": []}
    edges = np.geomspace(positive.min(), positive.max() + 1, BINS + 1)
    counts, _ = np.histogram(positive, edges)
    return {"edges": edges.tolist(), "counts": counts.tolist()}


def draw_token_lengths(histogram: Mapping[str, Sequence[float]], title: str) -> Figure:
    figure, axes = _figure(title)
    edges, counts = histogram["edges"], histogram["counts"]
    widths = [right - left for left, right in pairwise(edges)]
    axes.bar(edges[:-1], counts, widths, align="edge", color=_KEPT)
    axes.set(xscale="log", xlabel="tokens in a document", ylabel="documents")
    return figure


def draw_documents(steps: Mapping[str, Mapping[str, float]]) -> Figure | None:
    """Documents kept and dropped, for every step that counted them (step → its metrics); None if none did."""
    amounts = {name: amount for name, metrics in steps.items() if (amount := amounts_of(metrics)) is not None}
    if not amounts:
        return None
    figure, axes = _figure("documents kept and dropped", rows=len(amounts))
    names = list(amounts)
    out = [amount.documents_out for amount in amounts.values()]
    dropped = [max(0, amount.documents_in - amount.documents_out) for amount in amounts.values()]
    axes.barh(names, out, color=_KEPT, label="kept")
    bars = axes.barh(names, dropped, left=out, color=_DROPPED, label="dropped")
    said = [
        f"{a.documents_out:,} of {a.documents_in:,}" if a.documents_in != a.documents_out else f"{a.documents_out:,}"
        for a in amounts.values()
    ]
    _label(axes, bars, said)
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    return figure


def draw_reasons(metrics: Mapping[str, float], title: str) -> Figure | None:
    """What a step dropped, by reason; None if it dropped nothing."""
    reasons = counted(metrics, "dropped")
    if not reasons:
        return None
    figure, axes = _figure(title, rows=len(reasons))
    bars = axes.barh(list(reasons), list(reasons.values()), color=_DROPPED)
    whole = metrics.get("documents_in", 0)
    _label(axes, bars, [f"{n:,} ({percent(n, whole)})" if whole else f"{n:,}" for n in reasons.values()])
    return figure


def _label(axes: Any, bars: Any, labels: Sequence[str]) -> None:
    """Bars from the top downwards, each with its number, which needs no axis then."""
    axes.bar_label(bars, labels, padding=4, fontsize=9)
    axes.set_xlim(0, 1.22 * max(bar.get_x() + bar.get_width() for bar in bars))
    axes.invert_yaxis()
    axes.grid(False)
    axes.xaxis.set_visible(False)
    axes.spines[["top", "right", "bottom"]].set_visible(False)


def draw_training(curves: Mapping[str, Points], title: str) -> Figure | None:
    """Loss and learning rate over training (figure → points); None if no loss was recorded."""
    drawn = losses(curves)
    if not drawn:
        return None
    figure, axes = _figure(title)
    for name, points in drawn.items():
        axes.plot(*zip(*points, strict=True), label=name, linewidth=1.2)
    axes.set(xlabel="step", ylabel="loss (nats per token)")
    if curves.get("learning_rate"):
        second = axes.twinx()
        second.plot(*zip(*curves["learning_rate"], strict=True), color=_SECOND, linewidth=0.8, linestyle=":")
        second.set_ylabel("learning rate (dotted)")
    axes.legend()
    return figure


def _figure(title: str, rows: int = 0) -> tuple[Figure, Any]:
    """A figure of its own, which no global state of matplotlib's keeps alive; as high as its rows of bars need."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 1.3 + 0.42 * rows if rows else 4.5), layout="constrained")
    axes = figure.subplots()
    axes.set_title(title)
    axes.grid(alpha=0.25)
    return figure, axes
