from __future__ import annotations

import bisect
import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from model.data.packing import Packing, count_rows, pack_lengths

lengths_of_documents = st.lists(st.integers(0, 60), max_size=40)
contexts = st.integers(2, 17)


def packing_of(lengths: list[int], context: int) -> Packing:
    return Packing(np.array(lengths, np.uint32), context)


def rooms_one_by_one(lengths: list[int], capacity: int) -> list[int]:
    """The room left in each bin by best fit, one item after the other, longest first."""
    rooms: list[int] = []
    for length in sorted(lengths, reverse=True):
        place = bisect.bisect_left(rooms, length)
        bisect.insort(rooms, (rooms.pop(place) if place < len(rooms) else capacity) - length)
    return rooms


@given(lengths_of_documents, contexts)
def test_every_prediction_is_made_once_and_no_row_is_overfull(lengths: list[int], context: int) -> None:
    packing = packing_of(lengths, context)
    pieces = packing.pieces(np.arange(len(packing)))
    made = [
        (int(document), int(start) + offset)
        for document, start, length in zip(pieces.documents, pieces.starts, pieces.lengths, strict=True)
        for offset in range(length)
    ]
    assert sorted(made) == [(document, i) for document, length in enumerate(lengths) for i in range(max(length - 1, 0))]
    sizes = [pieces.lengths[a:b].sum() for a, b in zip(pieces.bounds, pieces.bounds[1:], strict=False)]
    assert all(0 < size <= context for size in sizes)
    assert len(sizes) == len(packing) == count_rows(np.array(lengths, np.uint32), context)


@given(lengths_of_documents, st.integers(6, 17), st.integers(0, 3))
def test_pieces_that_take_more_room_than_they_predict_fit_too(lengths: list[int], context: int, more: int) -> None:
    room = np.array([0, *(n + more + n // 4 for n in range(1, context) if n + more + n // 4 <= context)], np.int64)
    packing = Packing(np.array(lengths, np.uint32), context, room)
    pieces = packing.pieces(np.arange(len(packing)))
    for a, b in zip(pieces.bounds, pieces.bounds[1:], strict=False):
        assert room[pieces.lengths[a:b]].sum() <= context
    predicted = np.zeros(len(lengths), np.int64)
    np.add.at(predicted, pieces.documents, pieces.lengths)
    assert predicted.tolist() == [max(n - 1, 0) for n in lengths]
    ends = sorted(zip(pieces.documents, pieces.starts, pieces.starts + pieces.lengths, strict=True))
    assert all(a[2] == b[1] for a, b in itertools.pairwise(ends) if a[0] == b[0])
    assert len(packing) == count_rows(np.array(lengths, np.uint32), context, room)


@given(lengths_of_documents, contexts)
def test_a_document_is_cut_only_where_it_is_longer_than_the_context(lengths: list[int], context: int) -> None:
    packing = packing_of(lengths, context)
    documents = packing.pieces(np.arange(len(packing))).documents
    assert np.bincount(documents, minlength=len(lengths)).tolist() == [-(-max(n - 1, 0) // context) for n in lengths]


@given(lengths_of_documents, contexts, st.data())
def test_rows_can_be_asked_for_in_any_order(lengths: list[int], context: int, data: st.DataObject) -> None:
    packing = packing_of(lengths, context)
    wanted = data.draw(st.lists(st.integers(0, max(len(packing) - 1, 0)), max_size=5 if len(packing) else 0))
    pieces = packing.pieces(np.array(wanted, np.int64))
    for position, row in enumerate(wanted):
        alone = packing.pieces(np.array([row]))
        here = slice(*pieces.bounds[position : position + 2])
        for name in ("documents", "starts", "lengths"):
            assert getattr(pieces, name)[here].tolist() == getattr(alone, name).tolist()


@given(st.lists(st.integers(1, 40), max_size=120), st.integers(40, 90))
def test_packing_by_kinds_is_best_fit_one_by_one(lengths: list[int], capacity: int) -> None:
    kinds = pack_lengths(np.bincount(lengths, minlength=1), capacity)
    held = [kinds.lengths[a:b] for a, b in zip(kinds.bounds, kinds.bounds[1:], strict=False)]
    assert [list(kind) for kind in held] == [sorted(kind, reverse=True) for kind in held]
    rooms = np.repeat([capacity - int(kind.sum()) for kind in held], kinds.rows)
    assert sorted(rooms.tolist()) == rooms_one_by_one(lengths, capacity)
    every = [length for kind, rows in zip(held, kinds.rows, strict=True) for length in kind.tolist() * int(rows)]
    assert sorted(every) == sorted(lengths)


def test_documents_longer_than_four_billion_tokens_together_are_found() -> None:
    lengths = np.full(5, 2**31, np.uint32)
    packing = Packing(lengths, 2**20)
    pieces = packing.pieces(np.array([len(packing) - 6, len(packing) - 1]))
    # The rests of all five, 2**20 - 1 predictions each, are the last rows.
    assert pieces.documents.tolist() == [4, 4]
    assert pieces.starts.tolist() == [(2**11 - 2) * 2**20, (2**11 - 1) * 2**20]


def test_long_contexts_are_sorted_as_well() -> None:
    lengths = np.random.default_rng(1).integers(2, 300_000, 200)
    packing = Packing(lengths, 100_000)
    pieces = packing.pieces(np.arange(len(packing)))
    assert int(pieces.lengths.sum()) == int(lengths.sum() - 200)
    assert (pieces.starts + pieces.lengths < lengths[pieces.documents]).all()
