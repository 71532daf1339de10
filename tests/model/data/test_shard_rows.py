"""Sequences of shards in blocks, and of shards that lie in a remote store."""

from __future__ import annotations

import threading
import time
import uuid
from pathlib import Path

import numpy as np
import pytest

from model.data.batches import collate
from model.data.order import Order
from model.data.packing import count_rows
from model.data.shard_rows import ShardRows, check_room
from model.data.training_data import make_data
from model.request import Opened, ShardsData, ShardsPart
from storage import cache as cache_module
from storage import faults
from storage.errors import UserError
from storage.place import Place
from storage.shard_index import index_of, write_index
from storage.shards import Shards, write_shard
from storage.store import Store
from tests.model.training import request
from tests.s3 import S3

FILES, CONTEXT = 12, 16


def made_shards(folder: Path, files: int = FILES, documents: int = 5) -> Shards:
    """Every token says in which file it lies: its number, counted from 1."""
    random, entries = np.random.default_rng(0), {}
    for number in range(files):
        lengths = random.integers(2, 60, documents)
        arrays = [np.full(length, number + 1) for length in lengths]
        write_shard(folder / f"train-{number:05}.arrow", list("abcde"), arrays, [0] * documents, "uint16")
        entries[f"train-{number:05}.arrow"] = (lengths, 0)
    write_index(folder, index_of(entries))
    return Shards.of_folder(folder)


class Fetches:
    """What is fetched from a slow store."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.most = 0
        self._now = 0
        self._lock = threading.Lock()

    def watch(self, monkeypatch: pytest.MonkeyPatch) -> None:
        really = Place.download

        def slowly(place: Place, name: str, *rest: object) -> object:
            with self._lock:
                self.names.append(name)
                self._now += 1
                self.most = max(self.most, self._now)
            time.sleep(0.03)
            try:
                return really(place, name, *rest)  # type: ignore[arg-type]
            finally:
                with self._lock:
                    self._now -= 1

        monkeypatch.setattr(Place, "download", slowly)


@pytest.fixture
def fetches(monkeypatch: pytest.MonkeyPatch) -> Fetches:
    found = Fetches()
    found.watch(monkeypatch)
    return found


@pytest.fixture
def local(tmp_path: Path) -> Shards:
    return made_shards(tmp_path / "made")


@pytest.fixture
def remote(tmp_path: Path, local: Shards, fetches: Fetches) -> Shards:
    """The same shards in a store elsewhere, opened on a host that has none of them."""
    url = f"memory://shards-{uuid.uuid4().hex}"
    sent = Store(url, tmp_path / "sender")
    digest = sent.adopt("shards", {name: local.path(name) for name in local.names()}).digest
    opened = Store(url, tmp_path / "home").open(digest)
    assert isinstance(opened, Shards)
    # As another process opens it.
    return Shards(opened.folder, opened.manifest)


def tokens_of(order: Order, rows: int, at_once: int = 7) -> list[np.ndarray]:
    made = []
    for start in range(0, rows, at_once):
        made += list(collate(order.read(start, min(at_once, rows - start)), CONTEXT).tokens_BT.numpy())
    return made


def files_in(row: np.ndarray) -> set[int]:
    """Numbers of the files of a row's tokens; padding is 0."""
    return {token - 1 for token in row.tolist() if token}


def test_only_what_is_read_is_fetched(remote: Shards, fetches: Fetches) -> None:
    assert len(fetches.names) == 1  # the index
    split = remote.split("train")
    assert split.documents == FILES * 5
    assert split.document(23).tolist() == [5] * len(split.document(23))
    assert len(fetches.names) == 2
    split.document(24)
    assert len(fetches.names) == 2


def test_a_shuffle_of_everything_fetches_what_a_batch_needs_side_by_side(
    remote: Shards, local: Shards, fetches: Fetches
) -> None:
    here, there = (Order([ShardRows(shards.split("train"), CONTEXT)], [1.0], 3) for shards in (local, remote))
    rows = len(ShardRows(local.split("train"), CONTEXT))
    for mine, theirs in zip(tokens_of(here, 2 * rows, 40), tokens_of(there, 2 * rows, 40), strict=True):
        assert mine.tolist() == theirs.tolist()
    assert len(fetches.names) == 1 + FILES
    assert 1 < fetches.most <= 8


def test_shards_on_s3_are_read_the_same_though_requests_fail(
    s3: S3, local: Shards, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(faults, "_FIRST_PAUSE_SECONDS", 0.01)
    url = f"{s3.url}/corpora"
    digest = Store(url, tmp_path / "sender").adopt("shards", {name: local.path(name) for name in local.names()}).digest
    remote = Store(url, tmp_path / "home").open(digest)
    assert isinstance(remote, Shards)
    block_tokens = local.split("train").tokens // 4
    here, there = (ShardRows(shards.split("train"), CONTEXT, block_tokens, seed=5) for shards in (local, remote))
    s3.fail(3, lambda request: request.method == "GET" and "/objects/" in request.path)
    rows = len(here)
    mine, theirs = (tokens_of(Order([part], [1.0], 3), rows, 3) for part in (here, there))
    assert [row.tolist() for row in mine] == [row.tolist() for row in theirs]
    assert sum(request.method == "GET" and "/objects/" in request.path for request in s3.requests) == 1 + FILES + 3


def test_blocks_are_read_one_after_the_other_the_same_wherever_they_lie(remote: Shards, local: Shards) -> None:
    block_tokens = local.split("train").tokens // 4
    parts = [ShardRows(shards.split("train"), CONTEXT, block_tokens, seed=5) for shards in (local, remote)]
    assert len(parts[0].blocks) == 5
    rows = len(parts[0])
    here, there = (tokens_of(Order([part], [1.0], 3), 2 * rows, 1) for part in parts)
    assert [row.tolist() for row in here] == [row.tolist() for row in there]
    # A pass holds every token once, and no row holds tokens of two blocks' files.
    lengths = local.split("train").lengths.astype(int)
    assert np.count_nonzero(np.concatenate(here[:rows])) == (lengths - 1).sum()
    groups = [set(files.tolist()) for files in parts[0]._files]
    assert sorted(file for group in groups for file in group) == list(range(FILES))
    sequence = [next(n for n, group in enumerate(groups) if files_in(row) <= group) for row in here]
    turns = [block for at, block in enumerate(sequence) if at == 0 or sequence[at - 1] != block]
    assert len(turns) in (7, 8)  # a pass may begin with the block that the one before ended with
    assert sorted(turns[:4]) == [0, 1, 2, 3]


def test_the_next_block_is_fetched_while_one_is_read_and_those_read_are_closed(
    remote: Shards, fetches: Fetches
) -> None:
    split = remote.split("train")
    part = ShardRows(split, CONTEXT, split.tokens // 6, seed=1)
    order = Order([part], [1.0], 3)
    order.read(0, 2)
    deadline = time.monotonic() + 120
    while len(fetches.names) < 1 + 2 * FILES // 6 and time.monotonic() < deadline:
        time.sleep(0.01)
    sizes = sorted(len(files) for files in part._files)
    assert 1 + sizes[0] < len(fetches.names) <= 1 + sizes[-1] + sizes[-2]
    for start in range(0, len(part), 3):
        order.read(start, 3)
        open_now = sum(values is not None for values in split._values)
        assert open_now <= 3 * sizes[-1]
        assert len(part._packings) <= 3


def test_copies_of_what_was_read_make_room_for_others(
    tmp_path: Path, remote: Shards, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_module, "_UNTOUCHED_SECONDS", 0.0)
    split = remote.split("train")
    most = split.bytes // 2
    assert remote._stored is not None
    remote.__dict__["_stored"] = remote._stored.model_copy(update={"cache_limit": most})
    part = ShardRows(remote.split("train"), CONTEXT, split.tokens // 6, seed=1)
    order = Order([part], [1.0], 3)
    for start in range(0, len(part), 3):
        order.read(start, 3)
    kept = [
        path
        for path in (tmp_path / "home" / "cache" / "objects").rglob("*")
        if path.is_file() and path.stat().st_size > 0
    ]
    assert sum(path.stat().st_size for path in kept) <= most + split.bytes // FILES * 2


def test_more_than_may_be_kept_here_wants_blocks(remote: Shards, local: Shards) -> None:
    check_room([local.split("train"), remote.split("train")], None)
    split = remote.split("train")
    split.remote = split.bytes - 1
    with pytest.raises(UserError, match=r"set shuffle_tokens, or raise ATHANOR_CACHE_GB"):
        check_room([local.split("train"), split], None)
    check_room([split], 1000)


def test_a_training_run_reads_in_blocks(tmp_path: Path, remote: Shards, local: Shards) -> None:
    def drawn(shards: Shards, block: int | None) -> list[list[int]]:
        parts = (ShardsPart(shards=Opened.of(shards), weight=1.0),)
        data = make_data(request(tmp_path, shards, data=ShardsData(parts=parts, shuffle_tokens=block), context=CONTEXT))
        assert not data.validation
        return [row.tolist() for row in tokens_of(data.order, 50)]

    block = local.split("train").tokens // 3
    assert drawn(remote, block) == drawn(local, block) != drawn(local, None)


def test_blocks_hold_about_as_many_tokens_as_asked_for(tmp_path: Path) -> None:
    split = made_shards(tmp_path, files=100).split("train")
    part = ShardRows(split, CONTEXT, split.tokens // 10)
    sizes = [int(sum(split.lengths[file * 5 : file * 5 + 5].sum() for file in files)) for files in part._files]
    assert len(sizes) == 10
    assert max(sizes) < 1.5 * split.tokens / 10
    assert int(part.blocks[-1]) == sum(count_rows(split.lengths[part._documents(b)], CONTEXT) for b in range(10))
    assert len(ShardRows(split, CONTEXT, 10 * split.tokens).blocks) == 2
    assert len(ShardRows(split, CONTEXT, 1).blocks) == 101


@pytest.mark.parametrize("block", [None, 300])
def test_sequences_name_the_documents_that_they_are_of(tmp_path: Path, block: int | None) -> None:
    for file in range(4):
        lengths = np.random.default_rng(file).integers(2, 40, 9)
        arrays = [1000 * file + 40 * number + np.arange(length) for number, length in enumerate(lengths)]
        ids = [f"{file}-{number}" for number in range(9)]
        write_shard(tmp_path / f"train-{file:05}.arrow", ids, arrays, [1] * 9, "uint16")
    rows = ShardRows(Shards.of_folder(tmp_path).split("train"), 16, block)
    for row in range(len(rows)):
        read = rows.read(np.array([row]))
        wanted = {f"{piece[0] // 1000}-{piece[0] % 1000 // 40}" for piece in read.pieces}
        assert set(rows.documents(np.array([row]))) == wanted
    assert len(rows.documents(np.arange(len(rows)))) == 36
