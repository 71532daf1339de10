from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.data.batches import Sequences, collate
from model.data.mixture import FINEST_SHARE, Schedule, integer_shares
from model.data.order import Order, permuted, shuffled


class Numbers:
    """Sequences of one token, which says the part and the number; in blocks of at most that many."""

    def __init__(self, size: int, part: int = 0, block: int = 10**9) -> None:
        self.size, self.part, self.block = size, part, block

    def __len__(self) -> int:
        return self.size

    @property
    def blocks(self) -> np.ndarray:
        return np.array([*range(0, self.size, self.block), self.size], np.int64)

    def expect(self, block: int) -> None:
        self.expected = block

    def read(self, rows: np.ndarray, places: np.ndarray | None = None) -> Sequences:
        pieces = [np.array([self.part * 1000 + row, 0]) for row in rows.tolist()]
        count = len(pieces)
        return Sequences(pieces, np.ones(count, np.int64), np.zeros(count, np.int64), np.arange(count + 1))


def places(order: Order, start: int, count: int) -> list[tuple[int, int]]:
    parts, rows = order.places(start, count)
    return list(zip(parts.tolist(), rows.tolist(), strict=True))


@given(st.integers(1, 300), st.integers(0, 2**63))
def test_a_permutation_reaches_everything_once(size: int, key: int) -> None:
    assert sorted(permuted(np.arange(size), size, key).tolist()) == list(range(size))


def test_permutations_differ_by_key_and_mix() -> None:
    first, second = permuted(np.arange(1000), 1000, 1), permuted(np.arange(1000), 1000, 2)
    assert (first == second).mean() < 0.01
    assert abs(np.corrcoef(first, np.arange(1000))[0, 1]) < 0.1


@settings(max_examples=40)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=8), st.integers(0, 99))
def test_blocks_are_read_whole_each_shuffled_in_shuffled_order(sizes: list[int], key: int) -> None:
    bounds = np.cumsum([0, *sizes])
    rows = shuffled(np.arange(bounds[-1]), bounds, key)
    assert sorted(rows.tolist()) == list(range(bounds[-1]))
    blocks = np.searchsorted(bounds, rows, side="right") - 1
    assert (np.diff(blocks) != 0).sum() == len(sizes) - 1
    some = np.arange(0, bounds[-1], 3)
    assert shuffled(some, bounds, key).tolist() == rows[some].tolist()


@settings(max_examples=15)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=3), st.integers(0, 99), st.integers(0, 80))
def test_the_order_does_not_depend_on_how_it_is_drawn(sizes: list[int], seed: int, start: int) -> None:
    parts, weights = [Numbers(size) for size in sizes], [1.0 + number for number in range(len(sizes))]
    at_once = places(Order(parts, weights, seed), 0, start + 30)
    piecewise = Order(parts, weights, seed)
    assert [*places(piecewise, 0, start), *places(piecewise, start, 30)] == at_once
    assert places(Order(parts, weights, seed), start, 30) == at_once[start:]
    assert places(piecewise, 0, start + 30) == at_once  # and back again


def test_far_into_the_order_is_no_further_than_its_beginning() -> None:
    parts = [Numbers(1_000, 0), Numbers(77, 1, block=10)]
    far = 10**12 + 12_345
    assert places(Order(parts, [0.75, 0.25], 3), far, 40)[20:] == places(Order(parts, [0.75, 0.25], 3), far + 20, 20)


@given(st.integers(1, 50), st.integers(0, 99))
def test_an_epoch_reads_every_row_once_and_the_next_in_another_order(size: int, seed: int) -> None:
    rows = [row for _, row in places(Order([Numbers(size)], [1.0], seed), 0, 2 * size)]
    assert sorted(rows[:size]) == sorted(rows[size:]) == list(range(size))
    assert size < 12 or rows[:size] != rows[size:]


def test_what_is_read_lies_in_the_order_of_the_places() -> None:
    order = Order([Numbers(30, 0), Numbers(20, 1, block=7)], [2, 1], seed=4)
    batch = collate(order.read(11, 60), 1)
    assert batch.tokens_BT[:, 0].tolist() == [part * 1000 + row for part, row in places(order, 11, 60)]
    assert len(order.read(11, 0)) == 0


def test_no_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        Order([Numbers(3), Numbers(0)], [1.0, 1.0], 1)


weights_of_parts = st.lists(st.integers(1, 60), min_size=1, max_size=9)


@settings(max_examples=50)
@given(weights_of_parts, st.integers(0, 300))
def test_at_every_moment_every_part_has_given_its_share(weights: list[int], length: int) -> None:
    schedule = Schedule(weights)
    parts = schedule.parts(0, length)
    for part, weight in enumerate(weights):
        given = np.cumsum(np.concatenate([[0], parts == part]))
        due = [Fraction(weight * rows, sum(weights)) for rows in range(length + 1)]
        assert all(abs(int(a) - b) < 1 for a, b in zip(given, due, strict=True))
        assert schedule.given(length)[part] == given[-1]


@settings(max_examples=20)
@given(weights_of_parts, st.integers(0, 2_000), st.integers(0, 60))
def test_a_schedule_can_be_entered_anywhere(weights: list[int], start: int, count: int) -> None:
    parts = Schedule(weights).parts(0, start + count)
    assert Schedule(weights).parts(start, count).tolist() == parts[start:].tolist()
    assert Schedule(weights).given(start).tolist() == np.bincount(parts[:start], minlength=len(weights)).tolist()


def test_many_small_parts_beside_a_large_one_wait_for_their_turns() -> None:
    weights = [0.9] + [0.01] * 10
    parts = Schedule(weights).parts(0, 100)
    assert np.bincount(parts).tolist() == [90] + [1] * 10
    large = np.cumsum(parts == 0) - 0.9 * np.arange(1, 101)
    assert np.abs(large).max() < 1


def test_weights_count_as_they_are_written() -> None:
    assert integer_shares([0.7, 0.1, 0.2]) == [7, 1, 2]
    assert integer_shares([1, 1, 1]) == [1, 1, 1]
    assert integer_shares([1e-5, 2e-5]) == [1, 2]
    assert integer_shares([5.0]) == [1]
    rounded = integer_shares([0.123456789, 0.876543211])
    assert rounded == [123_457, 876_543]
    assert integer_shares([1e12, 1.0, 1.0]) == [FINEST_SHARE, 1, 1]
