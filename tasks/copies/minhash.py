"""Sketches and banding: which texts are worth comparing.

Two sets with Jaccard similarity s agree in each place of their sketches with probability s.
``rows`` places make a band; two sets become candidates if they agree in any of ``bands`` bands:
probability 1 - (1 - s^rows)^bands (Leskovec, Rajaraman and Ullman, Mining of Massive Datasets, 3.4).

The sketch is not the minima of many permutations, which would hash every member once for each
place, but that of Dahlgaard, Knudsen and Thorup (Fast Similarity Sketching, 2017): in one round
every member falls into one place, which keeps the least hash; further rounds are needed only while
places are empty, which for a set of several times as many members as places is hardly ever.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from storage.mixing import Hashes, mixed
from tasks.copies.characters import Positions

_SEED = 0x9E37_79B9_0A7A_0A7B
_EMPTY = np.iinfo(np.uint64).max
_ROUND_BITS = 14
_HASHES_AT_A_TIME = 1 << 16


@dataclass(frozen=True)
class Banding:
    """How the places of a sketch are grouped."""

    bands: int
    rows: int
    """Places in a band."""

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


def sketches(members: Hashes, starts: Positions, places: int) -> Hashes:
    """(sets × places) sketches of the sets of hashes ``members[starts[n]:starts[n + 1]]``, repetitions allowed.

    Every value is (round, hash); the place of an empty set stays at the highest number.
    """
    sets = len(starts) - 1
    table = np.full(sets * places, _EMPTY, np.uint64)
    owner = np.repeat(np.arange(sets), np.diff(starts))
    done = 0
    while len(members) and done < 2 * places:
        # Twice as many rounds each time, so that small sets take few steps and large ones no idle rounds.
        rounds = np.arange(done, min(2 * places, max(1, 2 * done)), dtype=np.uint64)
        size = max(1, _HASHES_AT_A_TIME // len(rounds))
        for block in range(0, len(members), size):
            _fall(table, members[block : block + size], owner[block : block + size], rounds, places)
        done += len(rounds)
        empty = (table.reshape(sets, places) == _EMPTY).any(axis=1)[owner]
        members, owner = members[empty], owner[empty]
    return table.reshape(sets, places)


def _fall(table: Hashes, members: Hashes, owner: Positions, rounds: Hashes, places: int) -> None:
    """Let the members fall into their sets' places, once for each round; earlier rounds win."""
    # The members are hashes, so a multiplication by an odd number that is as good as random makes them new ones.
    factors = mixed((rounds + np.uint64(1)) * np.uint64(_SEED)) | np.uint64(1)
    hashes = members[None, :] * factors[:, None]
    place = ((hashes >> np.uint64(32)) * np.uint64(places) >> np.uint64(32)).view(np.int64)
    # In the second half of the rounds everything falls into one place, the next one each time.
    late = rounds >= places
    place[late] = (rounds[late] - np.uint64(places)).astype(np.int64)[:, None]
    hashes &= np.uint64(_EMPTY >> _ROUND_BITS)
    hashes |= (rounds << np.uint64(64 - _ROUND_BITS))[:, None]
    np.minimum.at(table, (place + owner * places).ravel(), hashes.ravel())


def band_keys(members: Hashes, starts: Positions, bands: Banding) -> Hashes:
    """(sets × bands) keys; two sets with one key in one band are candidates. Empty sets have meaningless keys."""
    used = bands.bands * bands.rows
    sketch = sketches(members, starts, used).reshape(len(starts) - 1, bands.bands, bands.rows)
    keys = np.broadcast_to(np.arange(bands.bands, dtype=np.uint64), sketch.shape[:2])
    for row in range(bands.rows):
        keys = mixed(keys * np.uint64(_SEED) + sketch[:, :, row])
    return keys
