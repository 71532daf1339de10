from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from model.data.batches import Sequences, Text, TextRows, collate, joined, share
from model.data.shard_rows import ShardRows
from model.network.sight import PADDING
from model.network.transformer import IGNORED
from storage.shards import Shards, write_shard

contexts = st.integers(2, 17)


@given(st.lists(st.tuples(st.integers(1, 40), st.integers(1, 40)), min_size=1, max_size=12), contexts)
def test_batches_predict_all_tokens_after_the_first_that_counts(shapes: list[tuple[int, int]], context: int) -> None:
    texts = [Text(np.arange(length) + 100 * number, first) for number, (length, first) in enumerate(shapes)]
    rows = TextRows(texts, context)
    batch = collate(rows.read(np.arange(len(rows))), context)
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
    batch = collate(rows.read(np.arange(len(rows))[::-1]), 8)
    assert batch.documents_BT.amax(1).tolist() == [0, 0, 1]


@given(st.integers(1, 40), st.integers(1, 7), st.integers(1, 9))
def test_processes_share_a_batch_without_loss(count: int, processes: int, micro_batch: int) -> None:
    shares = [share(count, rank, processes, micro_batch) for rank in range(processes)]
    assert [number for mine in shares for part in mine for number in part] == list(range(count))
    assert len({len(mine) for mine in shares}) == 1  # collective operations would hang otherwise
    assert max(len(part) for mine in shares for part in mine) <= micro_batch


def test_a_process_without_rows_gets_padding_alone() -> None:
    batch = collate(joined([]), 8)
    assert batch.predicted == 0
    assert (batch.documents_BT == PADDING).all()
    assert batch.tokens_BT.shape == (1, 8)


def test_rows_of_shards_are_those_of_the_same_documents_in_memory(tmp_path) -> None:
    random = np.random.default_rng(0)
    documents = [random.integers(0, 500, length) for length in (30, 1, 9, 12, 2)]
    write_shard(tmp_path / "train-0.arrow", list("abc"), documents[:3], [0] * 3, "uint16")
    write_shard(tmp_path / "train-1.arrow", list("de"), documents[3:], [0] * 2, "uint16")
    shard_rows = ShardRows(Shards.of_folder(tmp_path).split("train"), 10)
    text_rows = TextRows([Text(tokens) for tokens in documents], 10)
    assert len(shard_rows) == len(text_rows)
    every = np.arange(len(text_rows))
    ours, theirs = collate(shard_rows.read(every), 10), collate(text_rows.read(every), 10)
    for name in ("tokens_BT", "targets_BT", "documents_BT", "positions_BT"):
        assert torch.equal(getattr(ours, name), getattr(theirs, name))


@given(st.lists(st.integers(2, 30), min_size=1, max_size=12), contexts, st.data())
def test_a_batch_is_what_a_plain_loop_makes_of_its_pieces(
    lengths: list[int], context: int, data: st.DataObject
) -> None:
    texts = [Text(np.arange(1, n + 1) + 100 * number, first=1 + n // 3) for number, n in enumerate(lengths)]
    rows = TextRows(texts, context)
    chosen = data.draw(st.lists(st.integers(0, len(rows) - 1), min_size=1, max_size=5))
    sequences = rows.read(np.array(chosen))
    batch = collate(sequences, context + 3)
    alone_first = sorted(range(len(chosen)), key=lambda b: sequences.bounds[b + 1] - sequences.bounds[b] > 1)
    for b, number in enumerate(alone_first):
        tokens, targets, documents, positions = [], [], [], []
        for k, piece in enumerate(range(sequences.bounds[number], sequences.bounds[number + 1])):
            ids, masked = sequences.pieces[piece].tolist(), int(sequences.masked[piece])
            tokens += ids[:-1]
            targets += [IGNORED] * masked + ids[1 + masked :]
            documents += [k] * (len(ids) - 1)
            positions += range(len(ids) - 1)
        empty = context + 3 - len(tokens)
        assert batch.tokens_BT[b].tolist() == tokens + [0] * empty
        assert batch.targets_BT[b].tolist() == targets + [IGNORED] * empty
        assert batch.documents_BT[b].tolist() == documents + [PADDING] * empty
        assert batch.positions_BT[b].tolist() == positions + [0] * empty


def test_sequences_can_be_taken_and_joined() -> None:
    rows = TextRows([Text(np.arange(length)) for length in (4, 4, 9, 3)], 8)
    every = rows.read(np.arange(len(rows)))
    apart = joined([every.take([number]) for number in range(len(every))])
    assert [piece.tolist() for piece in apart.pieces] == [piece.tolist() for piece in every.pieces]
    assert apart.bounds.tolist() == every.bounds.tolist()
    assert isinstance(joined([]), Sequences)
    assert len(joined([])) == 0


def test_a_sequence_keeps_its_number_in_the_order_when_a_batch_is_sorted() -> None:
    texts = [Text(np.arange(10 * n, 10 * n + length)) for n, length in enumerate((3, 9, 4, 9), start=1)]
    rows = TextRows(texts, 8)
    sequences = rows.read(np.array([2, 0, 1, 2]))  # the last row holds two documents
    batch = collate(sequences, 8, first_row=100)
    alone = [collate(sequences.take([number]), 8) for number in range(4)]
    assert sorted(batch.rows_B.tolist()) == [100, 101, 102, 103]
    assert batch.rows_B.tolist() != [100, 101, 102, 103]
    for place, row in enumerate(batch.rows_B.tolist()):
        assert torch.equal(batch.tokens_BT[place], alone[row - 100].tokens_BT[0])
