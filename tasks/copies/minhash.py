"""MinHash and banding: which texts are worth comparing.

Two sets with Jaccard similarity s share the least element under a random permutation with
probability s (Broder 1997). ``rows`` such minima make a band; two sets become candidates if they
agree in any of ``bands`` bands: probability 1 - (1 - s^rows)^bands (Leskovec, Rajaraman and
Ullman, Mining of Massive Datasets, 3.4).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tasks.copies.shingles import Hashes, mixed

_SEED = 0x0A7A_0A7A


@dataclass(frozen=True)
class Banding:
    """How minima are grouped."""

    bands: int
    rows: int
    """Minima in a band."""

    def chance(self, similarity: float) -> float:
        """Probability that two sets of this similarity become candidates."""
        return 1 - (1 - float(similarity) ** self.rows) ** self.bands


def banding(similarity: float, permutations: int, recall: float) -> Banding:
    """The most selective banding that finds pairs at the threshold with at least this probability.

    More rows in a band make fewer false candidates; where no banding finds so many, the one with
    one row in each band, which finds the most, is taken.
    """
    for rows in range(permutations, 1, -1):
        candidate = Banding(permutations // rows, rows)
        if candidate.chance(similarity) >= recall:
            return candidate
    return Banding(permutations, 1)


def band_keys(sets: Sequence[Hashes], bands: Banding) -> Hashes:
    """(bands × sets) keys; two sets with one key in one band are candidates. Empty sets have meaningless keys."""
    keys = np.zeros((bands.bands, len(sets)), np.uint64)
    filled = [number for number, members in enumerate(sets) if len(members)]
    if not filled:
        return keys
    starts = np.cumsum([0] + [len(sets[number]) for number in filled[:-1]])
    members = np.concatenate([sets[number] for number in filled])
    salts = mixed(np.arange(1, bands.bands * bands.rows + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15 ^ _SEED))
    for band in range(bands.bands):
        key = np.full(len(filled), band, np.uint64)
        for row in range(bands.rows):
            salt = salts[band * bands.rows + row]
            # A bijection of 64-bit numbers stands for the permutation.
            least = np.minimum.reduceat((members ^ salt) * (salt | np.uint64(1)) >> np.uint64(16), starts)
            key = mixed(key * np.uint64(0x9E3779B97F4A7C15) + least)
        keys[band, filled] = key
    return keys
