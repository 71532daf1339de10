"""What went into a step and what came out of it, worked out from the figures that its build recorded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Amounts:
    """Documents and bytes of one step. ``kept`` + ``dropped`` + ``unexplained`` are the documents that went in."""

    documents_in: int
    kept: int
    dropped: dict[str, int]
    """Reason → documents, most first."""
    unexplained: int
    """Documents that went in and did not come out, for no reason that was counted."""
    added: int
    """Documents that came out and had not gone in."""
    bytes_in: int | None
    bytes_out: int | None

    @property
    def documents_out(self) -> int:
        return self.kept + self.added


def amounts_of(metrics: Mapping[str, float]) -> Amounts | None:
    """None for a step that counted no documents. A step that only makes documents (or pages) has taken what it made."""
    out = metrics.get("documents_out", metrics.get("pages"))
    if out is None:
        return None
    dropped = counted(metrics, "dropped")
    total = sum(dropped.values())
    came_in = int(metrics.get("documents_in", out + total))
    kept = max(0, min(int(out), came_in - total))
    return Amounts(
        documents_in=came_in,
        kept=kept,
        dropped=dropped,
        unexplained=max(0, came_in - total - kept),
        added=int(out) - kept,
        bytes_in=_whole(metrics.get("bytes_in")),
        bytes_out=_whole(metrics.get("bytes_out")),
    )


def counted(metrics: Mapping[str, float], prefix: str) -> dict[str, int]:
    """``dropped.short: 3`` as ``short: 3``, the most first; zeros are left out."""
    found = {name.removeprefix(f"{prefix}."): int(n) for name, n in metrics.items() if name.startswith(f"{prefix}.")}
    return dict(sorted(((name, n) for name, n in found.items() if n), key=lambda item: (-item[1], item[0])))


def beginnings(needs: Mapping[str, Iterable[str]], amounts: Mapping[str, Amounts]) -> dict[str, int]:
    """For every counted step, how many documents came from the steps that everything before it starts from.

    ``needs`` names, for each step, in the order of the graph, the steps it takes its inputs from.
    """
    sources: dict[str, frozenset[str]] = {}
    for step, before in needs.items():
        above = frozenset().union(*(sources[name] for name in before if name in sources))
        sources[step] = above or (frozenset([step]) if step in amounts else frozenset())
    return {step: sum(amounts[source].documents_out for source in sources[step]) for step in amounts}


def largest(parts: Mapping[str, int], most: int, rest: str) -> list[tuple[str, int]]:
    """The first ``most`` parts, the others together under the name ``rest``."""
    items: Sequence[tuple[str, int]] = list(parts.items())
    if len(items) <= most:
        return list(items)
    return [*items[: most - 1], (rest.format(len(items) - most + 1), sum(n for _, n in items[most - 1 :]))]


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)
