"""What comparing documents came to, remembered from build to build.

Whether a document is a copy of one of the kept documents that it shares a band with, and of which,
follows from their texts alone. So the answer is kept under a digest of these texts' digests, in
their order: after a refresh only documents are compared again that have changed, or that meet
others than before.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from storage.mixing import Hashes

EXACT_BYTES = 16
"""Of the digest of a normalised text."""
_KEY_BYTES = 16
_NONE = -1


class Verdict(NamedTuple):
    """The most similar of the documents that one was compared with, if it is similar enough."""

    place: int
    """Its place among these; -1 if none is."""
    similarity: float

    @property
    def is_copy(self) -> bool:
        return self.place != _NONE


NO_COPY = Verdict(_NONE, 0.0)


def key_of(exact: memoryview, document: int, others: Sequence[int]) -> bytes:
    """What the verdict on a document that meets these others is remembered under.

    ``exact`` holds the digests of all texts by the documents' numbers, ``EXACT_BYTES`` each.
    """
    size = EXACT_BYTES
    texts = [exact[size * number : size * (number + 1)] for number in (document, *others)]
    return hashlib.blake2b(b"".join(texts), digest_size=_KEY_BYTES).digest()


@dataclass
class Verdicts:
    """Verdicts by their keys: those known before, in arrays, and new ones behind them, some 30 bytes each."""

    first: Hashes = field(default_factory=lambda: np.empty(0, np.uint64))
    """The first half of each known key, ascending."""
    second: Hashes = field(default_factory=lambda: np.empty(0, np.uint64))
    places: npt.NDArray[np.int32] = field(default_factory=lambda: np.empty(0, np.int32))
    similarities: npt.NDArray[np.float64] = field(default_factory=lambda: np.empty(0, np.float64))
    used: array[int] = field(default_factory=lambda: array("q"))
    """Places of the known verdicts that were asked for."""
    _keys: bytearray = field(default_factory=bytearray)
    _places: array[int] = field(default_factory=lambda: array("i"))
    _similarities: array[float] = field(default_factory=lambda: array("d"))

    def find(self, key: bytes) -> Verdict | None:
        """The verdict under this key, if it was known before."""
        first, second = np.frombuffer(key, "<u8")
        at = int(np.searchsorted(self.first, first))
        while at < len(self.first) and self.first[at] == first:
            if self.second[at] == second:
                self.used.append(at)
                return Verdict(int(self.places[at]), float(self.similarities[at]))
            at += 1
        return None

    def add(self, key: bytes, verdict: Verdict) -> None:
        """Remember a verdict that was not known; ``find`` finds it after ``settled``."""
        self._keys += key
        self._places.append(verdict.place)
        self._similarities.append(verdict.similarity)

    def settled(self, only_used: bool = False) -> Verdicts:
        """Those known and those added, all known now; with ``only_used`` without the ones not asked for."""
        known = np.unique(np.array(self.used, np.int64)) if only_used else np.arange(len(self.first))
        added = np.frombuffer(bytes(self._keys), "<u8").reshape(-1, 2)
        first = np.concatenate([self.first[known], added[:, 0]])
        second = np.concatenate([self.second[known], added[:, 1]])
        order = np.lexsort((second, first))
        return Verdicts(
            first[order],
            second[order],
            np.concatenate([self.places[known], np.array(self._places, np.int32)])[order],
            np.concatenate([self.similarities[known], np.array(self._similarities, np.float64)])[order],
        )

    def write(self, path: Path) -> None:
        """Write those that are known; the same ones give the same bytes."""
        columns = {
            "first": self.first, "second": self.second, "place": self.places, "similarity": self.similarities
        }  # fmt: skip
        table = pa.table(columns)
        path.unlink(missing_ok=True)  # a build that was killed may have left a link to what it kept
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)

    @classmethod
    def read(cls, path: Path) -> Verdicts:
        """Map what ``write`` wrote."""
        table = pa.ipc.open_file(pa.memory_map(str(path), "r")).read_all()
        return cls(*(table[name].to_numpy() for name in ("first", "second", "place", "similarity")))
