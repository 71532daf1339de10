"""Find personal data and secrets in texts, many at a time."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate

from tasks.batches import batches
from tasks.pii.anchors import tries
from tasks.pii.kinds import KINDS, Found, resolve

BATCH_BYTES = 1 << 20
"""Texts searched together: enough that a pass costs no more than its bytes, and few enough for a cache."""
_BETWEEN = b"\xff"
"""No byte of UTF-8; no form matches it, so it is the end of a text and the start of the next."""


def find(text: str, kinds: Sequence[str] = KINDS) -> list[Found]:
    """Personal data of these kinds in the order of the text, in characters; none overlaps another."""
    data = text.encode("utf-8", "surrogatepass")
    found = find_in([data], kinds)[0]
    if len(data) == len(text):
        return found
    characters, position, result = 0, 0, []
    for item in found:
        start = characters + len(data[position : item.start].decode("utf-8", "surrogatepass"))
        characters = start + len(data[item.start : item.end].decode("utf-8", "surrogatepass"))
        position = item.end
        result.append(Found(item.kind, start, characters))
    return result


def find_in(texts: Sequence[bytes], kinds: Sequence[str] = KINDS) -> list[list[Found]]:
    """For each text in UTF-8 what is in it of these kinds, in bytes, in order; none overlaps another.

    What is not asked for still hides what overlaps it: the digits of a card are no telephone
    number when cards are not replaced. Time is linear in the bytes.
    """
    found: list[list[Found]] = []
    for batch in batches(texts, len, BATCH_BYTES):
        candidates = _candidates(batch)
        found += ([item for item in resolve(candidates.get(n, [])) if item.kind in kinds] for n in range(len(batch)))
    return found


def _candidates(texts: Sequence[bytes]) -> dict[int, list[Found]]:
    """Every match of every form, by text, for the texts that have any."""
    data = _BETWEEN.join(texts)
    starts = [0, *accumulate(len(text) + 1 for text in texts)]
    found: dict[int, list[Found]] = {}
    for form, positions in tries(data):
        for position in positions:
            item = form.at(data, position)
            if item is not None:
                text = bisect_right(starts, position) - 1
                offset = starts[text]
                found.setdefault(text, []).append(Found(item.kind, item.start - offset, item.end - offset))
    return found
