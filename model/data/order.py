"""The order of training rows: a pure function of (seed, parts, weights, position).

Which part a row comes from follows a schedule that keeps the parts' shares at every moment; which
of its rows, from a permutation by arithmetic, anew in each pass over the part. Nothing is
remembered from row to row, so any stretch of the order can be drawn at once, by any number of
processes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from model.data.batches import Rows, Sequences, joined
from model.data.course import Course
from model.data.mixture import Schedule
from model.data.packing import Ints
from storage.mixing import GOLDEN, mixed

_AHEAD = 4096
"""Rows whose places are worked out together: the arithmetic is on columns."""


def keyed(value: Ints | int, key: int) -> npt.NDArray[np.uint64]:
    """A hash of integers to 64 bits, another one for every key."""
    with np.errstate(over="ignore"):
        return mixed(np.asarray(value).astype(np.uint64) + np.uint64(key % 2**64) * np.uint64(GOLDEN))


def permuted(indices: Ints, size: int, key: int) -> Ints:
    """Where a keyed permutation of range(size) sends each index.

    A Feistel network over the next even number of bits, walked until it falls inside the range
    (Black and Rogaway 2002): no table, and the same on every version of every library.
    """
    half = max(1, ((size - 1).bit_length() + 1) // 2)
    low = np.uint64((1 << half) - 1)
    values = np.asarray(indices).astype(np.uint64)
    outside = np.ones(len(values), bool)
    while outside.any():
        left, right = values[outside] >> np.uint64(half), values[outside] & low
        for turn in range(4):
            left, right = right, left ^ (keyed(right.astype(np.int64), key * 4 + turn + 1) & low)
        values[outside] = (left << np.uint64(half)) | right
        outside = values >= size
    return values.astype(np.int64)


def turns_of(blocks: Ints, key: int) -> tuple[Ints, Ints]:
    """The numbers of the blocks in the order of a pass, and where in the pass each one ends."""
    order = permuted(np.arange(len(blocks) - 1), len(blocks) - 1, key)
    return order, np.cumsum(np.diff(blocks)[order])


def shuffled(positions: Ints, blocks: Ints, key: int) -> Ints:
    """The rows that a pass over a part has at these positions.

    ``blocks`` (blocks + 1) says where each block of rows begins. Blocks come in a shuffled order,
    and each is read to its end, shuffled too; a single block is one permutation of all rows.
    """
    order, ends = turns_of(blocks, key)
    turns = np.searchsorted(ends, positions, side="right")
    rows = np.empty(len(positions), np.int64)
    for turn in np.unique(turns).tolist():
        block, mine = int(order[turn]), np.flatnonzero(turns == turn)
        size = int(blocks[block + 1] - blocks[block])
        within = positions[mine] - (int(ends[turn]) - size)
        rows[mine] = blocks[block] + permuted(within, size, int(keyed(block, key)))
    return rows


class Order:
    """The endless sequence of training rows, drawn from one or several parts in proportion to their weights."""

    def __init__(self, parts: Sequence[Rows], weights: Sequence[float] | Course, seed: int) -> None:
        """``weights`` of the parts at every moment, or the course that a training of stages takes."""
        if not parts or any(len(part) == 0 for part in parts):
            raise ValueError("every part must hold at least one sequence")
        self._parts = list(parts)
        self._schedule = weights if isinstance(weights, Course) else Schedule(weights)
        self._seed = seed
        self._worked_out: tuple[int, Ints, Ints] = (0, np.zeros(0, np.int64), np.zeros(0, np.int64))

    def read(self, start: int, count: int) -> Sequences:
        """Rows ``start`` to ``start + count`` of the sequence."""
        if count == 0:
            return joined([])
        chosen, rows = self.places(start, count)
        present: list[int] = np.unique(chosen).tolist()
        if len(present) == 1:
            return self._parts[present[0]].read(rows, np.arange(start, start + count))
        mine = [np.flatnonzero(chosen == part) for part in present]
        read = [self._parts[part].read(rows[at], start + at) for part, at in zip(present, mine, strict=True)]
        return joined(read).take(np.argsort(np.concatenate(mine)))

    def documents(self, start: int, count: int) -> list[str]:
        """The ids of the documents that rows ``start`` to ``start + count`` are of."""
        chosen, rows = self.places(start, count)
        named = [self._parts[part].documents(rows[chosen == part]) for part in np.unique(chosen).tolist()]
        return [name for names in named for name in names]

    def places(self, start: int, count: int) -> tuple[Ints, Ints]:
        """For each of these rows, its part, and its number in that part."""
        begin, chosen, rows = self._worked_out
        if not begin <= start <= start + count <= begin + len(chosen):
            ahead = min(_AHEAD, min(map(len, self._parts)))  # few passes over a small part
            chosen, rows = self._work_out(start, max(count, ahead))
            begin, self._worked_out = start, (start, chosen, rows)
        here = slice(start - begin, start - begin + count)
        return chosen[here], rows[here]

    def _work_out(self, start: int, count: int) -> tuple[Ints, Ints]:
        chosen = self._schedule.parts(start, count)
        given = self._schedule.given(start)
        rows = np.empty(count, np.int64)
        for part in np.unique(chosen).tolist():
            mine, source = np.flatnonzero(chosen == part), self._parts[part]
            passes, positions = np.divmod(given[part] + np.arange(len(mine)), len(source))
            for number in np.unique(passes).tolist():
                now = passes == number
                rows[mine[now]] = shuffled(positions[now], source.blocks, self._key(part, number))
            if len(source.blocks) > 2:
                source.expect(self._next_block(part, int(given[part]) + len(mine) - 1))
        return chosen, rows

    def _key(self, part: int, number: int) -> int:
        """By which a pass over a part is shuffled."""
        return int(keyed(number, self._seed * 1_000_003 + part))

    def _next_block(self, part: int, given: int) -> int:
        """The block that is read after the one in which a part's row number ``given`` of all passes lies."""
        blocks = self._parts[part].blocks
        number, position = divmod(given, int(blocks[-1]))
        order, ends = turns_of(blocks, self._key(part, number))
        turn = int(np.searchsorted(ends, position, side="right")) + 1
        if turn == len(order):
            order, turn = turns_of(blocks, self._key(part, number + 1))[0], 0
        return int(order[turn])
