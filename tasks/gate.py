"""Failing rather than emptying a source."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from storage.errors import StepFailed


def check_source_loss(
    task: str,
    before: Mapping[str, int],
    after: Mapping[str, int],
    *,
    most: float,
    smallest: int,
    cause: str,
    remedy: str,
    example: Callable[[str], str],
) -> None:
    """Raise StepFailed if a source would lose more than the share ``most`` of its documents.

    ``before`` and ``after`` count documents by source; sources of fewer than ``smallest`` documents
    are exempt, since there a single page is a large share. ``cause`` completes "would be dropped",
    ``example(source)`` shows what would be lost, ``remedy`` says what to do besides raising
    ``max_source_loss``. The first such source, by name, is reported.
    """
    for source, count in sorted(before.items()):
        dropped = count - after.get(source, 0)
        if count >= smallest and dropped > most * count:
            raise StepFailed(
                f"{task}: {dropped:,} of {count:,} documents of source {source!r} would be dropped {cause} "
                f"({dropped / count:.1%}, more than max_source_loss {most:g}), for example {example(source)}; "
                f"{remedy}, or raise `max_source_loss` if it is right"
            )
