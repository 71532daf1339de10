"""A byte-pair model that encodes each distinct segment of its texts once, and gathers ids in columns."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from storage.bpe.cuts import BEFORE, Cuts, padded, words_at
from storage.bpe.known import ABSENT, LONGEST_KEY, Ids, Known, Numbers, Words, keys_of

if TYPE_CHECKING:
    from sentencepiece import SentencePieceProcessor

_WINDOW_BYTES = 1 << 19
"""So much text is worked on at once: the columns stay in the processor's cache."""
_JOINED_BYTES = 1 << 9
"""New segments go to the model joined to texts of about this size: its time for a byte grows with the text."""


class SegmentEncoder:
    """Ids of texts in one column of bytes, exactly those of the model.

    ``separator`` is an ASCII character that stands next to another in no piece, so always a segment
    of its own: new segments are handed to the model with it between them. ``fixed`` gives the ids
    of such characters that the model is not to be asked for.
    """

    def __init__(
        self, model: SentencePieceProcessor, cuts: Cuts, separator: str, fixed: Mapping[str, list[int]]
    ) -> None:
        self._model, self._cuts, self._known = model, cuts, Known()
        self._separator = separator.encode()[0]
        self._fixed = {separator: model.encode(separator), **fixed}
        (self._separator_id,) = self._fixed[separator]
        self._enter_fixed()

    def encode(self, data: npt.NDArray[np.uint8], offsets: Numbers) -> tuple[Ids, Numbers]:
        """Ids of all texts, end to end, and (texts + 1) where each begins among them.

        ``data`` is valid UTF-8; text ``i`` lies from ``offsets[i]`` to ``offsets[i + 1]``.
        """
        begins = np.zeros(len(offsets), np.int64)
        place, end, done, window = int(offsets[0]), int(offsets[-1]), 0, _WINDOW_BYTES
        # No id stands for less than a byte. What is not written to takes no memory.
        ids = np.empty(end - place, np.int32)
        while place < end:
            size = min(window, end - place)
            around = padded(data, place, size)
            first, last = np.searchsorted(offsets, (place, place + size), side="right")
            ends = self._cuts.ends(around, size, offsets[first:last] - place)
            if not ends.size:
                window *= 2
                continue
            if window > _WINDOW_BYTES:
                # Behind a long segment no more than usual: the table has room for one window's segments.
                ends = ends[: np.searchsorted(ends, ends[0] + _WINDOW_BYTES, side="right")]
            made, counts = self._segments(around, ends, ids[done:])
            last = np.searchsorted(offsets, place + ends[-1], side="right")
            reached = np.searchsorted(ends, offsets[first:last] - place)
            begins[first:last] = done + np.cumsum(counts)[reached]
            done += made
            place, window = place + int(ends[-1]), _WINDOW_BYTES
        ids.resize(done, refcheck=False)
        return ids, begins

    def _segments(self, around: npt.NDArray[np.uint8], ends: Numbers, into: Ids) -> tuple[int, Numbers]:
        """Write the ids of the segments that end before the places ``ends``: how many all have, and each."""
        if self._known.full:
            self._known.clear()
            self._enter_fixed()
        starts = np.empty_like(ends)
        starts[0], starts[1:] = 0, ends[:-1]
        sizes = ends - starts
        starts += BEFORE
        low, high = keys_of(words_at(around), starts, np.minimum(sizes, LONGEST_KEY))
        values = self._known.find(low, high)
        long = np.flatnonzero(sizes > LONGEST_KEY)
        names = _names(around, starts[long], sizes[long])
        values[long] = self._known.find_named(names)
        if (values == ABSENT).any():
            new = np.flatnonzero((values == ABSENT) & (sizes <= LONGEST_KEY))
            values[new] = self._learn(around, starts[new], sizes[new], low[new], high[new])
            unknown = np.flatnonzero(values[long] == ABSENT)
            values[long[unknown]] = self._learn_named([names[number] for number in unknown.tolist()])
        return self._known.gather(values, into)

    def _learn(
        self, around: npt.NDArray[np.uint8], starts: Numbers, sizes: Numbers, low: Words, high: Words
    ) -> Numbers:
        """Values of segments that are not yet known; of equal ones the model sees one."""
        order = np.lexsort((low, high))
        low, high = low[order], high[order]
        fresh = np.ones(len(order), bool)
        fresh[1:] = (low[1:] != low[:-1]) | (high[1:] != high[:-1])
        chosen = order[fresh]
        # Each with the separator behind it.
        lengths = sizes[chosen] + 1
        ends = np.cumsum(lengths)
        places = np.repeat(starts[chosen] - (ends - lengths), lengths)
        joined = around[places + np.arange(len(places))]
        joined[ends - 1] = self._separator
        values = self._ask(joined, ends)
        self._known.add(low[fresh], high[fresh], values)
        made = np.empty(len(order), np.int64)
        made[order] = values[np.cumsum(fresh) - 1]
        return made

    def _learn_named(self, names: list[bytes]) -> list[int]:
        """The same for segments too long to be their own key."""
        distinct = list(dict.fromkeys(names))
        separator = bytes([self._separator])
        joined = np.frombuffer(b"".join(name + separator for name in distinct), np.uint8)
        ends = np.cumsum([len(name) + 1 for name in distinct], dtype=np.int64)
        values = dict(zip(distinct, self._ask(joined, ends).tolist(), strict=True))
        for name, value in values.items():
            self._known.add_named(name, value)
        return [values[name] for name in names]

    def _ask(self, joined: npt.NDArray[np.uint8], ends: Numbers) -> Numbers:
        """Values of the segments that end, their separators included, at ``ends``: what the model says."""
        if not ends.size:
            return np.empty(0, np.int64)
        text = joined.tobytes()
        bounds = [0, *ends[:-1][np.diff(ends // _JOINED_BYTES) > 0].tolist(), len(text)]
        texts = [text[start:end] for start, end in pairwise(bounds)]
        # One by one, since for a list the model starts a thread.
        ids = np.concatenate([self._model.encode(each, return_type="numpy") for each in texts])
        marks = ids == self._separator_id
        counts = np.diff(np.flatnonzero(marks), prepend=-1) - 1
        if len(counts) != len(ends):
            raise AssertionError(f"{len(ends)} segments came back as {len(counts)}")
        return self._known.pool(ids[~marks], counts)

    def _enter_fixed(self) -> None:
        for text, ids in self._fixed.items():
            content = text.encode()
            around = padded(np.frombuffer(content, np.uint8), 0, len(content))
            low, high = keys_of(words_at(around), np.array([BEFORE]), np.array([len(content)]))
            self._known.add(low, high, self._known.pool(np.array(ids, np.int32), np.array([len(ids)])))


def _names(around: npt.NDArray[np.uint8], starts: Numbers, sizes: Numbers) -> list[bytes]:
    if not starts.size:
        return []
    text = around.tobytes()
    return [text[start : start + size] for start, size in zip(starts.tolist(), sizes.tolist(), strict=True)]
