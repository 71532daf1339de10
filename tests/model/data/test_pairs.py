"""Pairs of segments: what they are made of, and that nothing but their meaning tells the answer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from model.data.batches import collate
from model.data.order import Order
from model.data.pairs import IS_NEXT, PairRows
from model.network.transformer import IGNORED
from storage.shards import Shards, Split, write_shard

BOS, EOS = 1, 2


def split_of(folder: Path, sizes: list[int]) -> Split:
    """Documents of different tokens: the tokens of document n are n * 1000, n * 1000 + 1 …"""
    arrays = [np.array([BOS, *(1000 * (n + 1) + np.arange(size)), EOS]) for n, size in enumerate(sizes)]
    write_shard(folder / "train-0.arrow", [str(n) for n in range(len(sizes))], arrays, sizes, "uint32")
    return Shards.of_folder(folder).split("train")


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> Split:
    return split_of(tmp_path_factory.mktemp("pairs"), [500, 3, 41, 8, 900, 77])


def segments(piece: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A and B of ``<s> A </s> B </s> </s>``."""
    ends = np.flatnonzero(piece == EOS)
    assert piece[0] == BOS
    assert len(ends) == 3
    assert ends[-1] == len(piece) - 1
    return piece[1 : ends[0]], piece[ends[0] + 1 : ends[1]]


def test_every_token_is_in_one_pair_and_the_answer_is_right(split: Split) -> None:
    rows = PairRows(split, 33, BOS, EOS, seed=4)
    places = np.arange(len(rows) * 20)
    read = rows.read(places % len(rows), places)
    followed = []
    for piece, label in zip(read.pieces, read.labels, strict=True):
        a, b = segments(np.asarray(piece))
        assert 1 <= len(b) <= 15
        assert (np.diff(b) == 1).all()
        assert (label == IS_NEXT) == (b[0] == a[-1] + 1)
        if label != IS_NEXT:
            assert b[0] // 1000 != a[0] // 1000
        else:
            followed.append(np.concatenate([a, b]))
    assert np.mean(read.labels == IS_NEXT) == pytest.approx(0.5, abs=0.06)
    wanted = [token for n, size in enumerate([500, 3, 41, 8, 900, 77]) if size >= 8 for token in 1000 * (n + 1) + np.arange(size)]  # fmt: skip  # noqa: E501
    assert np.array_equal(np.unique(np.concatenate(followed)), wanted)


def test_lengths_do_not_tell_the_answer(split: Split) -> None:
    rows = PairRows(split, 33, BOS, EOS, seed=4)
    places = np.arange(len(rows) * 20)
    read = rows.read(places % len(rows), places)
    sizes = np.array([[len(part) for part in segments(np.asarray(piece))] for piece in read.pieces])
    alike = abs(sizes[:, 0] - sizes[:, 1]) <= 1
    assert alike[read.labels == IS_NEXT].all()
    assert alike[read.labels != IS_NEXT].mean() > 0.97


def test_pairs_follow_from_their_place_in_the_order_alone(split: Split) -> None:
    rows = PairRows(split, 33, BOS, EOS, seed=4)
    count = 3 * len(rows)
    whole = Order([rows], [1.0], seed=9).read(0, count)
    again = Order([rows], [1.0], seed=9)
    parts = [again.read(start, min(7, count - start)) for start in range(0, count, 7)]
    joined = [piece.tolist() for part in parts for piece in part.pieces]
    assert joined == [piece.tolist() for piece in whole.pieces]
    passes = whole.labels.reshape(3, -1)
    assert not np.array_equal(np.sort(passes[0]), np.sort(passes[1]))  # drawn anew in each pass


def test_a_batch_knows_the_answers(split: Split) -> None:
    rows = PairRows(split, 33, BOS, EOS, seed=4)
    read = rows.read(np.arange(5))
    batch = collate(read, 33)
    assert batch.labels_B.tolist() == read.labels.tolist()
    assert (batch.positions_BT[:, 0] == 0).all()
    assert collate(read.take([]), 33).labels_B.tolist() == [IGNORED]


def test_one_document_has_no_other_to_draw_from(tmp_path: Path) -> None:
    assert len(PairRows(split_of(tmp_path, [100, 5]), 33, BOS, EOS, seed=1)) == 0
