"""The training sequences of token shards, those of a remote store fetched as they are needed.

By default all sequences of a split are one block, shuffled as a whole: then every file is needed
within the first steps, and all are fetched to the local disk. With ``shuffle_tokens`` the files are
drawn into blocks of about so many tokens, each packed and shuffled by itself: while one block is
read the next one is fetched, and what has been read is let go. So local disk holds a few blocks of
a split of any size, and what is given up is that two documents of different blocks never meet in a
batch.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np

from model.data.batches import Sequences, joined
from model.data.order import permuted
from model.data.packing import Ints, Packing, count_rows
from storage.errors import UserError
from storage.shards import Split


class ShardRows:
    """The sequences of a split: documents of the files of a block, packed together."""

    def __init__(
        self, split: Split, context: int, shuffle_tokens: int | None = None, seed: int = 0, room: Ints | None = None
    ) -> None:
        """``room``: see ``Packing``."""
        self._split, self._context, self._room = split, context, room
        self._files = _drawn(split, shuffle_tokens, seed)
        self._packings: dict[int, tuple[Packing, Ints | None]] = {}
        """Of the blocks being read: the packing, and the numbers of the documents in the split (None: all)."""
        self._expected: int | None = None

    def __len__(self) -> int:
        return int(self.blocks[-1])

    @cached_property
    def blocks(self) -> Ints:
        """(blocks + 1) where each block's sequences begin."""
        if len(self._files) == 1:
            sizes = [len(self._block(0)[0])]
        else:
            lengths = self._split.lengths
            sizes = [
                count_rows(lengths[self._documents(block)], self._context, self._room)
                for block in range(len(self._files))
            ]
        return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)

    def read(self, rows: Ints, places: Ints | None = None) -> Sequences:
        """The sequences with these numbers, in this order."""
        of_row = np.searchsorted(self.blocks, rows, side="right") - 1
        present: list[int] = np.unique(of_row).tolist()
        self._let_go({*present, self._expected})
        if len(present) == 1:
            return self._read(present[0], rows)
        mine = [np.flatnonzero(of_row == block) for block in present]
        parts = [self._read(block, rows[at]) for block, at in zip(present, mine, strict=True)]
        return joined(parts).take(np.argsort(np.concatenate([np.zeros(0, np.int64), *mine])))

    def expect(self, block: int) -> None:
        """Fetch the files of this block, which comes next, while others are read."""
        self._expected = block
        self._split.prefetch(self._files[block].tolist())

    def documents(self, rows: Ints) -> list[str]:
        """The ids of the documents that these sequences are of, each once."""
        of_row = np.searchsorted(self.blocks, rows, side="right") - 1
        found: list[Ints] = [np.zeros(0, np.int64)]
        for block in np.unique(of_row).tolist():
            packing, documents = self._block(block)
            numbers = packing.pieces(rows[of_row == block] - self.blocks[block]).documents
            found.append(numbers if documents is None else documents[numbers])
        return self._split.ids_of(np.unique(np.concatenate(found)))

    def _read(self, block: int, rows: Ints) -> Sequences:
        packing, documents = self._block(block)
        found = packing.pieces(rows - self.blocks[block])
        numbers = found.documents if documents is None else documents[found.documents]
        views = self._split.pieces(numbers, found.starts, found.lengths + 1)
        return Sequences(views, found.lengths, np.zeros(len(views), np.int64), found.bounds)

    def _block(self, block: int) -> tuple[Packing, Ints | None]:
        if block not in self._packings:
            documents = self._documents(block) if len(self._files) > 1 else None
            lengths = self._split.lengths if documents is None else self._split.lengths[documents]
            self._packings[block] = Packing(lengths, self._context, self._room), documents
        return self._packings[block]

    def _documents(self, block: int) -> Ints:
        bounds = self._split.index.bounds
        ranges = [np.arange(bounds[file], bounds[file + 1]) for file in self._files[block].tolist()]
        return np.concatenate([np.zeros(0, np.int64), *ranges])

    def _let_go(self, needed: set[int | None]) -> None:
        """Forget and close the blocks that are neither read nor expected."""
        for block in [block for block in self._packings if block not in needed and len(self._files) > 1]:
            del self._packings[block]
            self._split.release(self._files[block].tolist())


def _drawn(split: Split, shuffle_tokens: int | None, seed: int) -> list[Ints]:
    """The numbers of the files of each block: drawn from all, so that a block is a sample of the split."""
    index = split.index
    if shuffle_tokens is None:
        return [np.arange(len(index.files))]
    order = permuted(np.arange(len(index.files)), max(1, len(index.files)), seed)
    ends = np.cumsum((index.starts[index.bounds[1:]] - index.starts[index.bounds[:-1]])[order])
    blocks = max(1, round(int(ends[-1]) / shuffle_tokens)) if len(ends) else 1
    edges = np.searchsorted(ends, np.arange(1, blocks) * (int(ends[-1]) / blocks)).tolist() if len(ends) else []
    return [np.sort(part) for part in np.split(order, edges) if len(part)] or [order]


def check_room(splits: list[Split], shuffle_tokens: int | None) -> None:
    """UserError if a shuffle of everything would have to fetch more than local disk is to hold."""
    remote = [split for split in splits if split.remote]
    size = sum(split.bytes for split in remote)
    limit = min((split.remote for split in remote), default=0)
    if shuffle_tokens is None and size > limit:
        raise UserError(
            f"data: shuffling as a whole fetches {size / 1e9:,.1f} GB of shards, and {limit / 1e9:,.1f} GB may be kept "
            "here: set shuffle_tokens, or raise ATHANOR_CACHE_GB"
        )
