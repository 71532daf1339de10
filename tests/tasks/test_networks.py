"""Batches of rows for networks of transformers; what opens them is tested where they are used."""

from __future__ import annotations

from tasks.networks import batches


def test_batches_hold_every_row_once() -> None:
    lengths = [3, 9, 1, 9, 20, 4]
    made = list(batches(lengths, 18))
    assert sorted(number for batch in made for number in batch) == list(range(6))
    assert all(len(batch) == 1 or len(batch) * lengths[batch[0]] <= 18 for batch in made)
