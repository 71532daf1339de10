"""Many items worked on at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def batches(
    items: Iterable[T], size_of: Callable[[T], int], most: int, most_items: int | None = None
) -> Iterator[list[T]]:
    """The items in their order, in batches whose sizes add up to ``most`` at most; one that is larger comes alone.

    ``most_items``: of a batch; None for as many as its size allows.
    """
    batch: list[T] = []
    size = 0
    for item in items:
        added = size_of(item)
        if batch and (size + added > most or len(batch) == most_items):
            yield batch
            batch, size = [], 0
        batch.append(item)
        size += added
    if batch:
        yield batch
