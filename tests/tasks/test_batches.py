"""Batches of bounded size."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from tasks.batches import batches

texts = st.lists(st.text(max_size=12), max_size=30)


@given(texts, st.integers(1, 20), st.none() | st.integers(1, 4))
def test_batches_are_the_items_in_order_and_as_full_as_they_may_be(items, most, most_items) -> None:
    made = list(batches(items, len, most, most_items))
    assert [item for batch in made for item in batch] == items
    for batch in made:
        assert batch
        assert len(batch) == 1 or sum(map(len, batch)) <= most
        assert most_items is None or len(batch) <= most_items
    for batch, following in pairwise(made):
        full = len(batch) == most_items
        assert full or sum(map(len, batch)) + len(following[0]) > most


def test_a_stream_is_read_no_further_than_the_batch_at_hand() -> None:
    read: list[int] = []
    made = batches((read.append(n) or n for n in range(10)), lambda _: 1, 3)
    assert next(made) == [0, 1, 2]
    assert read == [0, 1, 2, 3]
