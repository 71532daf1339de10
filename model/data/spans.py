"""Texts with gaps, and behind each text what belongs in them: T5's objective in one sequence.

``<s> the <extra_id_0> sat <extra_id_1> </s>`` is followed by ``<extra_id_0> cat <extra_id_1> on the
mat </s>`` (Raffel et al. 2020, section 3.1.4; laid out for a single stack as in section 3.2.1, with
causal attention throughout). Of a text's tokens a fixed share is missing, in spans of which two never
touch; all such choices are equally likely. The second ``<extra_id_0>`` only opens the answer: what is
behind it is predicted.

Pieces of documents are packed as elsewhere (``model.data.packing``), with room for their sentinels. A
document's first token and its end token are never missing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from model.data.batches import Sequences, Tokens
from model.data.order import keyed
from model.data.packing import Ints
from model.data.shard_rows import ShardRows
from model.learning.objective_config import SpansConfig
from storage.shards import Split


class SpanRows:
    """The sequences of a split."""

    def __init__(
        self,
        split: Split,
        context: int,
        config: SpansConfig,
        sentinels: Sequence[int],
        eos: int,
        seed: int,
        shuffle_tokens: int | None = None,
    ) -> None:
        """``sentinels``: the tokens for gaps, ``config.sentinels(context)`` or more. ``context``: 4 or more."""
        self._config, self._eos, self._seed = config, eos, seed
        self._sentinels = np.array(sentinels, np.int64)
        room = np.array([0, *map(config.places, range(1, config.longest(context) + 1))], np.int64)
        self._texts = ShardRows(split, context, shuffle_tokens, seed, room)

    def __len__(self) -> int:
        return len(self._texts)

    @property
    def blocks(self) -> Ints:
        return self._texts.blocks

    def expect(self, block: int) -> None:
        self._texts.expect(block)

    def documents(self, rows: Ints) -> list[str]:
        return self._texts.documents(rows)

    def read(self, rows: Ints, places: Ints | None = None) -> Sequences:
        """The sequences with these numbers; ``places`` in the order of the data say what is missing in them."""
        texts = self._texts.read(rows)
        row = np.repeat(np.arange(len(rows)), np.diff(texts.bounds))
        number = np.arange(len(row)) - texts.bounds[row]
        of_row = keyed(rows if places is None else places, self._seed * 4 + 3)[row]
        keys = keyed((of_row + number.astype(np.uint64)).astype(np.int64), 0)
        made = [self._with_gaps(text, int(key)) for text, key in zip(texts.pieces, keys, strict=True)]
        pieces = [np.concatenate([gapped, answer, [self._eos]]) for gapped, answer in made]
        return Sequences(
            pieces=pieces,
            lengths=np.array([len(piece) - 1 for piece in pieces], np.int64),
            masked=np.array([len(gapped) for gapped, _ in made], np.int64),
            bounds=texts.bounds,
        )

    def _with_gaps(self, text: Tokens, key: int) -> tuple[Ints, Ints]:
        """A text with gaps drawn by the key, and what is missing in them."""
        free = len(text) - 1 - int(text[-1] == self._eos)
        missing, gaps = self._config.missing(free)
        # A gap lies before, between or behind the tokens that stay, one at most in each place.
        before = _drawn(gaps, free - missing + 1, key, 0)
        # Where the missing tokens, laid end to end, are cut into one span for each gap.
        cuts = 1 + _drawn(gaps - 1, missing - 1, key, 1)
        edges = np.concatenate([[0], cuts, [missing]]) if gaps else np.zeros(1, np.int64)
        return cut_out(text, 1 + before + edges[:-1], np.diff(edges), self._sentinels)


def _drawn(count: int, size: int, key: int, draw: int) -> Ints:
    """So many different numbers of range(size), rising; every such choice is equally likely."""
    if count <= 0:
        return np.zeros(0, np.int64)
    numbers = draw * size + np.arange(size)
    return np.sort(np.argsort(keyed(numbers, key), kind="stable")[:count])


def cut_out(text: Tokens, starts: Ints, sizes: Ints, sentinels: Ints) -> tuple[Ints, Ints]:
    """The text with a sentinel for each of these spans, and the spans, each behind its sentinel."""
    missing = np.zeros(len(text), np.bool_)
    missing[np.repeat(starts - np.cumsum(sizes) + sizes, sizes) + np.arange(sizes.sum())] = True
    marked = np.insert(text.astype(np.int64), starts, sentinels[: len(starts)])
    return marked[~np.insert(missing, starts, False)], marked[np.insert(missing, starts, True)]


def filled(gapped: Sequence[int], answer: Sequence[int], sentinels: Sequence[int]) -> list[int]:
    """The text whose gaps hold what the answer has behind each sentinel, and nothing where it has none."""
    spans: dict[int, list[int]] = {token: [] for token in sentinels}
    span: list[int] = []
    for token in answer:
        if token in spans:
            span = spans[token]
        else:
            span.append(token)
    return [token for shown in gapped for token in spans.get(shown, [shown])]
