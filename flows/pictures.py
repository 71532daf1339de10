"""The pictures that MLflow shows of a run, and the figures they are drawn from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from storage.artifact import Artifact

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BINS = 40
"""Bars of a histogram."""
_KEPT, _DROPPED, _SECOND = "#2f6f4f", "#c9783c", "#a33b3b"


def token_lengths(shards: Artifact) -> dict[str, list[float]]:
    """Histogram of the documents' lengths in tokens: ``edges`` (one more than ``counts``) and ``counts``."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    lengths = []
    for name in shards.names("*.arrow"):
        with pa.memory_map(str(shards.path(name))) as file:
            for batch in _batches(pa.ipc.open_file(file)):
                lengths.append(pc.list_value_length(batch.column("tokens")).to_numpy(zero_copy_only=False))
    values = np.concatenate(lengths) if lengths else np.zeros(0)
    positive = values[values > 0]
    if not len(positive):
        return {"edges": [], "counts": []}
    edges = np.geomspace(positive.min(), positive.max() + 1, BINS + 1)
    counts, _ = np.histogram(positive, edges)
    return {"edges": edges.tolist(), "counts": counts.tolist()}


def _batches(reader: Any) -> Any:
    return (reader.get_batch(index) for index in range(reader.num_record_batches))


def draw_token_lengths(histogram: Mapping[str, Sequence[float]], title: str) -> Figure:
    figure, axes = _figure(title)
    edges, counts = histogram["edges"], histogram["counts"]
    widths = [right - left for left, right in pairwise(edges)]
    axes.bar(edges[:-1], counts, widths, align="edge", color=_KEPT)
    axes.set(xscale="log", xlabel="tokens in a document", ylabel="documents")
    return figure


def draw_documents(steps: Mapping[str, Mapping[str, float]]) -> Figure | None:
    """Documents kept and dropped, for every step that counted them (step → its metrics); None if none did."""
    counted = {name: m for name, m in steps.items() if "documents_in" in m and "documents_out" in m}
    if not counted:
        return None
    figure, axes = _figure("documents kept and dropped")
    names = list(counted)
    kept = [counted[name]["documents_out"] for name in names]
    dropped = [max(0.0, counted[name]["documents_in"] - out) for name, out in zip(names, kept, strict=True)]
    axes.barh(names, kept, color=_KEPT, label="kept")
    axes.barh(names, dropped, left=kept, color=_DROPPED, label="dropped")
    axes.invert_yaxis()
    axes.set_xlabel("documents")
    axes.legend()
    return figure


def draw_reasons(metrics: Mapping[str, float], title: str) -> Figure | None:
    """What a step dropped, by reason; None if it dropped nothing."""
    reasons = {name.removeprefix("dropped."): n for name, n in metrics.items() if name.startswith("dropped.") and n > 0}
    if not reasons:
        return None
    figure, axes = _figure(title)
    names = sorted(reasons, key=lambda name: -reasons[name])
    axes.barh(names, [reasons[name] for name in names], color=_DROPPED)
    axes.invert_yaxis()
    axes.set_xlabel("documents dropped")
    return figure


def draw_training(rows: Sequence[Mapping[str, float]], title: str) -> Figure | None:
    """Loss and learning rate over training; None if no loss was recorded."""
    losses = {name: _series(rows, name) for name in _names(rows) if name.endswith("loss")}
    losses = {name: points for name, points in losses.items() if points[0]}
    if not losses:
        return None
    figure, axes = _figure(title)
    for name, (positions, values) in losses.items():
        axes.plot(positions, values, label=name, linewidth=1.2)
    axes.set(xlabel="step", ylabel="loss (nats per token)")
    rates = _series(rows, "learning_rate")
    if rates[0]:
        second = axes.twinx()
        second.plot(*rates, color=_SECOND, linewidth=0.8, linestyle=":", label="learning rate")
        second.set_ylabel("learning rate")
    axes.legend()
    return figure


def _names(rows: Sequence[Mapping[str, float]]) -> list[str]:
    return sorted({name for row in rows for name in row})


def _series(rows: Sequence[Mapping[str, float]], name: str) -> tuple[list[float], list[float]]:
    points = [(row["step"], row[name]) for row in rows if name in row]
    return [x for x, _ in points], [y for _, y in points]


def _figure(title: str) -> tuple[Figure, Any]:
    """A figure of its own, which no global state of matplotlib's keeps alive."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    axes.set_title(title)
    axes.grid(alpha=0.25)
    return figure, axes
