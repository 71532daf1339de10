"""Texts with gaps: nothing is lost, the share is right, and what is missing follows from the place in the order."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.data.batches import Sequences, collate
from model.data.order import Order
from model.data.spans import SpanRows, cut_out, filled
from model.learning.objective_config import SpansConfig
from model.network.transformer import IGNORED
from storage.shards import Shards, Split, write_shard

BOS, EOS = 1, 2
SENTINELS = list(range(10, 60))
SIZES = [500, 3, 41, 0, 900, 77, 1, 8]
CONTEXT = 65


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> Split:
    """The tokens of document n are (n + 1) * 1000, (n + 1) * 1000 + 1 …"""
    folder = tmp_path_factory.mktemp("spans")
    arrays = [np.array([BOS, *(1000 * (n + 1) + np.arange(size)), EOS]) for n, size in enumerate(SIZES)]
    write_shard(folder / "train-0.arrow", [str(n) for n in range(len(SIZES))], arrays, SIZES, "uint32")
    return Shards.of_folder(folder).split("train")


def rows_of(split: Split, config: SpansConfig, seed: int = 4) -> SpanRows:
    return SpanRows(split, CONTEXT, config, SENTINELS, EOS, seed)


def texts_of(read: Sequences) -> list[tuple[list[int], list[int]]]:
    """Of every piece, the text with gaps and the answer, the end token left out."""
    found = []
    for piece, masked in zip(read.pieces, read.masked.tolist(), strict=True):
        assert piece[-1] == EOS
        found.append((piece[:masked].tolist(), piece[masked:-1].tolist()))
    return found


@settings(max_examples=25)
@given(st.floats(0.01, 0.9), st.floats(1, 8), st.integers(0, 9))
def test_the_answers_fill_the_gaps_of_every_text_and_a_fixed_share_is_missing(
    split: Split, fraction: float, mean: float, seed: int
) -> None:
    config = SpansConfig(fraction=fraction, span_tokens=mean)
    rows = rows_of(split, config, seed)
    read = rows.read(np.arange(len(rows)))
    whole: list[int] = []
    for gapped, answer in texts_of(read):
        text = filled(gapped, answer, SENTINELS)
        shown = [token for token in gapped if token in SENTINELS]
        assert shown == [token for token in answer if token in SENTINELS] == SENTINELS[: len(shown)]
        free = len(text) - 1 - (text[-1] == EOS)
        missing = len(answer) - len(shown)
        assert (missing, len(shown)) == config.missing(free)
        assert abs(missing - fraction * free) <= 0.5 or missing in (1, free) or free == 0
        assert text[0] == gapped[0]
        assert not any(a in SENTINELS and b in SENTINELS for a, b in itertools.pairwise(gapped))
        whole += text[1:]
    assert sorted(whole) == sorted(token for n in range(len(SIZES)) for token in split.document(n)[1:].tolist())
    sizes = [read.lengths[a:b].sum() for a, b in zip(read.bounds, read.bounds[1:], strict=False)]
    assert max(sizes) <= CONTEXT


def one_by_one(text: list[int], missing: list[bool]) -> tuple[list[int], list[int]]:
    """T5's rule, token by token: each run of missing tokens is a sentinel in the text; the answer names the runs."""
    gapped: list[int] = []
    answer: list[int] = []
    runs = 0
    for place, token in enumerate(text):
        if missing[place]:
            if not (place and missing[place - 1]):
                gapped.append(SENTINELS[runs])
                answer.append(SENTINELS[runs])
                runs += 1
            answer.append(token)
        else:
            gapped.append(token)
    return gapped, answer


@given(st.lists(st.booleans(), min_size=1, max_size=40))
def test_spans_are_cut_out_as_one_by_one(missing: list[bool]) -> None:
    text = np.arange(100, 100 + len(missing), dtype=np.uint16)
    edges = np.flatnonzero(np.diff(np.array([False, *missing, False]).astype(int)))
    gapped, answer = cut_out(text, edges[::2], edges[1::2] - edges[::2], np.array(SENTINELS))
    assert (gapped.tolist(), answer.tolist()) == one_by_one(text.tolist(), missing)
    assert filled(gapped.tolist(), answer.tolist(), SENTINELS) == text.tolist()


def test_every_choice_of_missing_tokens_is_equally_likely(tmp_path: Path) -> None:
    """5 tokens, 2 missing in 2 gaps or 1: the spans may lie anywhere."""
    write_shard(tmp_path / "train-0.arrow", ["a"], [np.array([BOS, *range(100, 105), EOS])], [5], "uint32")
    short = Shards.of_folder(tmp_path).split("train")
    for mean, ways in ((1.0, 6), (2.0, 4)):  # 2 of the 4 places around 3 tokens; 1 of them
        rows = SpanRows(short, CONTEXT, SpansConfig(fraction=0.4, span_tokens=mean), SENTINELS, EOS, seed=1)
        assert len(rows) == 1
        drawn = 6000
        found = texts_of(rows.read(np.zeros(drawn, np.int64), np.arange(drawn)))
        counts = np.unique([str(gapped) for gapped, _ in found], return_counts=True)[1]
        assert len(counts) == ways
        assert abs(counts / drawn - 1 / ways).max() < 5 * (1 / ways / drawn) ** 0.5


def test_what_is_missing_follows_from_the_place_in_the_order_alone(split: Split) -> None:
    rows = rows_of(split, SpansConfig())
    count = 3 * len(rows)
    whole = Order([rows], [1.0], seed=9).read(0, count)
    again = Order([rows], [1.0], seed=9)
    parts = [again.read(start, min(7, count - start)) for start in range(0, count, 7)]
    assert [piece.tolist() for part in parts for piece in part.pieces] == [piece.tolist() for piece in whole.pieces]
    assert len({str(piece) for piece in whole.pieces}) > 0.9 * len(whole.pieces)  # drawn anew in each pass
    other = Order([rows_of(split, SpansConfig(), seed=5)], [1.0], seed=9).read(0, count)
    assert [piece.tolist() for piece in other.pieces] != [piece.tolist() for piece in whole.pieces]


def test_only_the_answers_are_learnt_and_documents_are_told_apart(split: Split) -> None:
    rows = rows_of(split, SpansConfig())
    read = rows.read(np.arange(len(rows)))
    batch = collate(read, CONTEXT)
    expected = []
    for gapped, answer in texts_of(read):
        expected += [*answer[1:], EOS] if answer else []
        assert len(gapped) + len(answer) <= CONTEXT
    learnt = batch.targets_BT[batch.targets_BT != IGNORED].tolist()
    assert sorted(learnt) == sorted(expected)
    assert batch.documents_BT.max() > 0
    first = batch.positions_BT == 0
    assert not (batch.targets_BT[first] != IGNORED).any()


def test_the_arithmetic_of_room_agrees_with_counting() -> None:
    for config in (SpansConfig(), SpansConfig(fraction=0.9, span_tokens=1.0), SpansConfig(fraction=0.01)):
        for context in (4, 5, 16, 64, 513):
            longest = max(n for n in range(1, context) if config.places(n) <= context)
            assert config.longest(context) == longest
            assert config.sentinels(context) == max(config.missing(n)[1] for n in range(1, longest + 1))
