"""Hashes only say where to look: what is found is there."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from tasks.copies.characters import normalised
from tasks.copies.shingles import words_of
from tasks.overlap import index
from tasks.overlap.items import Item


def _texts(rng: random.Random, count: int) -> list[str]:
    return [" ".join(rng.choice("abcdef") for _ in range(rng.randint(0, 30))) for _ in range(count)]


@pytest.mark.parametrize("factor", [int(index._FACTOR), 0])
def test_windows_are_found_where_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, factor: int) -> None:
    """With factor 0 a window's hash is that of its last word: nearly all that are found so are none."""
    monkeypatch.setattr(index, "_FACTOR", np.uint64(factor))
    rng = random.Random(1)
    texts, items = (
        _texts(rng, 100),
        [Item(n, text, words_of(normalised(text))) for n, text in enumerate(_texts(rng, 6))],
    )
    counts = index.NgramIndex.build(tmp_path, [items[:3], items[3:]], 4, 2)
    assert [met["items"] + met["too_short"] for met in counts] == [3, 3]
    opened = index.NgramIndex(tmp_path)
    grams: dict[tuple[str, ...], set[int]] = {}
    for number, item in enumerate(items):
        length = min(4, len(item.words))
        for at in range(len(item.words) - length + 1 if length >= 2 else 0):
            grams.setdefault(tuple(item.words[at : at + length]), set()).add(number // 3)
    for text, matches in zip(texts, opened.matches(texts), strict=True):
        words = text.split()
        found = {
            (start, length) for start, length in zip(matches.starts.tolist(), matches.lengths.tolist(), strict=True)
        }
        expected = {
            (at, n) for n in (2, 3, 4) for at in range(len(words) - n + 1) if tuple(words[at : at + n]) in grams
        }
        assert found <= expected
        if factor:
            assert found == expected
            for start, length, sets in zip(matches.starts, matches.lengths, matches.sets, strict=True):
                owners = grams[tuple(words[start : start + length])]
                assert int(sets) == sum(1 << owner for owner in owners)
            for start, length, gram in zip(matches.starts, matches.lengths, matches.grams, strict=True):
                assert " ".join(words[start : start + length]) in opened.item_with(int(gram))
    assert opened.size <= len(grams)
