from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model.batches import Order, ShardRows, Text, TextRows, collate, pack, permuted, share
from model.transformer import IGNORED, PADDING
from storage.shards import ShardFile, Split, write_shard

settings.register_profile("steady", deadline=None)
settings.load_profile("steady")

lengths_of_documents = st.lists(st.integers(0, 60), max_size=30)
contexts = st.integers(2, 17)


@given(lengths_of_documents, contexts)
def test_packing_makes_every_prediction_once_and_overfills_nothing(lengths: list[int], context: int) -> None:
    packing = pack(np.array(lengths, np.int64), context)
    made = [
        (int(document), int(start) + offset)
        for document, start, length in zip(packing.documents, packing.starts, packing.lengths, strict=True)
        for offset in range(length)
    ]
    assert sorted(made) == [(document, i) for document, length in enumerate(lengths) for i in range(length)]
    sizes = [packing.lengths[a:b].sum() for a, b in zip(packing.sequences, packing.sequences[1:], strict=False)]
    assert all(0 < size <= context for size in sizes)


@given(lengths_of_documents, contexts)
def test_a_document_is_cut_only_where_it_is_longer_than_the_context(lengths: list[int], context: int) -> None:
    packing = pack(np.array(lengths, np.int64), context)
    pieces = np.bincount(packing.documents, minlength=len(lengths)) if lengths else np.array([])
    assert pieces.tolist() == [-(-length // context) for length in lengths]


@given(st.lists(st.tuples(st.integers(1, 40), st.integers(1, 40)), min_size=1, max_size=12), contexts)
def test_batches_predict_all_tokens_after_the_first_that_counts(shapes: list[tuple[int, int]], context: int) -> None:
    texts = [Text(np.arange(length) + 100 * number, first) for number, (length, first) in enumerate(shapes)]
    rows = TextRows(texts, context)
    batch = collate([rows.row(index) for index in range(len(rows))], context)
    predicted = batch.targets_BT != IGNORED
    wanted = [int(token) for text in texts for token in text.tokens[max(1, text.first) :]]
    assert sorted(batch.targets_BT[predicted].tolist()) == sorted(wanted)
    assert batch.predicted == len(wanted)
    assert (batch.targets_BT[predicted] == batch.tokens_BT[predicted] + 1).all()
    real = batch.documents_BT != PADDING
    assert int(real.sum()) == sum(len(text.tokens) - 1 for text in texts)
    assert not predicted[~real].any()


def test_rows_of_one_document_come_first() -> None:
    rows = TextRows([Text(np.arange(length + 1)) for length in (3, 8, 4, 8)], 8)
    batch = collate([rows.row(index) for index in (2, 0, 1)], 8)
    assert batch.documents_BT.amax(1).tolist() == [0, 0, 1]


@settings(max_examples=200)
@given(st.integers(1, 300), st.integers(0, 2**63))
def test_a_permutation_reaches_everything_once(size: int, key: int) -> None:
    assert sorted(permuted(np.arange(size), size, key).tolist()) == list(range(size))


def test_permutations_differ_by_key_and_mix() -> None:
    first, second = permuted(np.arange(1000), 1000, 1), permuted(np.arange(1000), 1000, 2)
    assert (first == second).mean() < 0.01
    assert abs(np.corrcoef(first, np.arange(1000))[0, 1]) < 0.1


class Numbers:
    """Rows that only have a number."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __len__(self) -> int:
        return self.size

    def row(self, index: int) -> list:
        raise AssertionError("not read here")


@given(st.lists(st.integers(1, 40), min_size=1, max_size=3), st.integers(0, 99), st.integers(0, 200))
def test_the_order_does_not_depend_on_how_it_is_drawn(sizes: list[int], seed: int, start: int) -> None:
    parts, weights = [Numbers(size) for size in sizes], [1.0 + number for number in range(len(sizes))]
    at_once = Order(parts, weights, seed).places(0, start + 30)
    piecewise = Order(parts, weights, seed)
    assert [*piecewise.places(0, start), *piecewise.places(start, 30)] == at_once
    assert Order(parts, weights, seed).places(start, 30) == at_once[start:]
    assert piecewise.places(0, start + 30) == at_once  # and back again


@given(st.integers(1, 50), st.integers(0, 99))
def test_an_epoch_reads_every_row_once_and_the_next_in_another_order(size: int, seed: int) -> None:
    places = [index for _, index in Order([Numbers(size)], [1.0], seed).places(0, 2 * size)]
    assert sorted(places[:size]) == sorted(places[size:]) == list(range(size))
    assert size < 12 or places[:size] != places[size:]


def test_a_mixture_keeps_its_proportions_in_every_stretch() -> None:
    order = Order([Numbers(1000), Numbers(10), Numbers(300)], [0.7, 0.1, 0.2], seed=5)
    for start in (0, 500, 12_345):
        chosen = np.bincount([part for part, _ in order.places(start, 1000)], minlength=3) / 1000
        assert np.abs(chosen - [0.7, 0.1, 0.2]).max() < 0.01


@given(st.integers(1, 40), st.integers(1, 7), st.integers(1, 9))
def test_processes_share_a_batch_without_loss(count: int, processes: int, micro_batch: int) -> None:
    rows = [[number] for number in range(count)]
    shares = [share(rows, rank, processes, micro_batch) for rank in range(processes)]
    assert [row for mine in shares for part in mine for row in part] == rows
    assert len({len(mine) for mine in shares}) == 1  # collective operations would hang otherwise
    assert max(len(part) for mine in shares for part in mine) <= micro_batch


def test_a_process_without_rows_gets_padding_alone() -> None:
    batch = collate([], 8)
    assert batch.predicted == 0
    assert (batch.documents_BT == PADDING).all()
    assert batch.tokens_BT.shape == (1, 8)


def test_rows_of_shards_are_those_of_the_same_documents_in_memory(tmp_path) -> None:
    random = np.random.default_rng(0)
    documents = [random.integers(0, 500, length) for length in (30, 1, 9, 12, 2)]
    write_shard(tmp_path / "a.arrow", list("abcde"), documents, [0] * 5, "uint16")
    shard_rows = ShardRows(Split([ShardFile.open(tmp_path / "a.arrow")]), 10)
    text_rows = TextRows([Text(tokens) for tokens in documents], 10)
    assert len(shard_rows) == len(text_rows)
    for index in range(len(text_rows)):
        ours, theirs = collate([shard_rows.row(index)], 10), collate([text_rows.row(index)], 10)
        assert torch.equal(ours.tokens_BT, theirs.tokens_BT)
        assert torch.equal(ours.targets_BT, theirs.targets_BT)


def test_no_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        Order([Numbers(3), Numbers(0)], [1.0, 1.0], 1)
