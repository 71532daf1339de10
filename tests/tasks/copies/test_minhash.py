"""Sketches estimate similarity, and bands find what they promise."""

from __future__ import annotations

import numpy as np
import pytest

from storage.mixing import Hashes, mixed
from tasks.copies.minhash import _SEED, band_keys, banding, sketches

_MASK = (1 << 64) - 1


def _reference(members: list[int], places: int) -> list[int | None]:
    """The definition written out: members fall, round after round, until no place is empty."""
    table: list[int | None] = [None] * places
    for number in range(2 * places):
        factor = int(mixed(np.array([(number + 1) * _SEED & _MASK], np.uint64))[0]) | 1
        for member in members:
            value = member * factor & _MASK
            place = (value >> 32) * places >> 32 if number < places else number - places
            found = value & (1 << 50) - 1 | number << 50
            if table[place] is None or found < table[place]:  # type: ignore[operator]
                table[place] = found
        if None not in table:
            break
    return table


def _random_sets(sizes: list[int], seed: int = 1) -> tuple[Hashes, np.ndarray]:
    members = mixed(np.random.default_rng(seed).integers(0, 2**63, sum(sizes)).astype(np.uint64))
    return members, np.cumsum([0, *sizes])


@pytest.mark.parametrize("places", [1, 7, 16])
def test_sketches_are_the_definition_written_out(places: int) -> None:
    sizes = [0, 1, 2, 5, 30, 200, 0]
    members, starts = _random_sets(sizes)
    made = sketches(members, starts, places)
    for number, size in enumerate(sizes):
        mine = members[starts[number] : starts[number + 1]].tolist()
        assert made[number].tolist() == (_reference(mine, places) if size else [_MASK] * places)


def test_a_sketch_depends_on_the_set_alone() -> None:
    members, starts = _random_sets([3, 90_000, 40])
    together = sketches(members, starts, 128)
    for number in range(3):
        mine = members[starts[number] : starts[number + 1]]
        again = np.concatenate([mine[::-1], mine])
        assert (sketches(again, np.array([0, len(again)]), 128)[0] == together[number]).all()


@pytest.mark.parametrize("size", [3, 20, 200])
def test_agreement_is_an_unbiased_and_sharp_estimate_of_similarity(size: int) -> None:
    """Against MinHash with independent permutations, whose estimate has variance s(1 - s) ÷ places."""
    pairs, places, shared = 400, 64, size * 2 // 3
    members, _ = _random_sets([pairs * (2 * size - shared)])
    sets = []
    for pair in np.split(members, pairs):
        sets += [pair[:size], pair[size - shared :]]
    made = sketches(np.concatenate(sets), np.arange(2 * pairs + 1) * size, places)
    estimates = (made[0::2] == made[1::2]).mean(axis=1)
    true = shared / (2 * size - shared)
    spread = (true * (1 - true) / places) ** 0.5
    assert abs(estimates.mean() - true) < 4 * spread / pairs**0.5
    assert estimates.std() < 1.2 * spread


@pytest.mark.parametrize("similarity", [0.3, 0.5, 0.7, 0.8, 0.9, 1.0])
@pytest.mark.parametrize("size", [40, 1000])
def test_bands_find_what_they_promise(similarity: float, size: int) -> None:
    """The share of pairs at the threshold that become candidates, measured on random sets."""
    bands = banding(similarity, 128, 0.99)
    assert bands.bands * bands.rows <= 128
    pairs = 300
    shared = round(2 * size * similarity / (1 + similarity))
    members, _ = _random_sets([pairs * 2 * size])
    sets = []
    for pair in np.split(members, pairs):
        sets += [pair[:size], pair[size - shared : 2 * size - shared]]
    keys = band_keys(np.concatenate(sets), np.arange(2 * pairs + 1) * size, bands)
    found = (keys[0::2] == keys[1::2]).any(axis=1).mean()
    assert found >= bands.chance(shared / (2 * size - shared)) - 0.03
