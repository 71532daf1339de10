"""What was decided on documents, remembered from build to build.

Whether a document is a copy, and of which, follows from the kept documents before it that it shares
a band with. So of documents that are as they were, only those have to be decided on again that
meet a kept document which they had not met, or that were copies of one which is not kept any more.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from storage.mixing import Hashes

Numbers = npt.NDArray[np.int64]

IDENTITY_BYTES = 16
"""Of the digest of all that a decision depends on of a document: its normalised text and its precedence."""
NONE = -1
"""Instead of the document that one is a copy of: it is none."""


@dataclass(frozen=True)
class Verdicts:
    """A row for each document that shared a band with another."""

    first: Hashes = field(default_factory=lambda: np.empty(0, np.uint64))
    """The first half of each one's identity, ascending."""
    second: Hashes = field(default_factory=lambda: np.empty(0, np.uint64))
    copy_of: Numbers = field(default_factory=lambda: np.empty(0, np.int64))
    """Row of the kept document that it is a copy of, or ``NONE``."""
    similarity: npt.NDArray[np.float64] = field(default_factory=lambda: np.empty(0, np.float64))
    """To that one; 0 where there is none."""

    @classmethod
    def of(cls, identities: Hashes, copy_of: Numbers, similarity: npt.NDArray[np.float64]) -> Verdicts:
        """From (documents × 2) identities; ``copy_of`` holds numbers of these documents."""
        order = np.lexsort((identities[:, 1], identities[:, 0]))
        row_of = np.empty(len(order), np.int64)
        row_of[order] = np.arange(len(order))
        rows = np.where(copy_of >= 0, row_of[copy_of], NONE)
        return cls(identities[order, 0], identities[order, 1], rows[order], similarity[order])

    def rows_of(self, identities: Hashes) -> Numbers:
        """The row of each of these documents, (documents × 2); ``NONE`` for those that are not here."""
        rows = np.full(len(identities), NONE, np.int64)
        if len(self.first):
            # Of two whose first halves are equal by chance, one is not found, and decided on afresh.
            places = np.minimum(np.searchsorted(self.first, identities[:, 0]), len(self.first) - 1)
            found = (self.first[places] == identities[:, 0]) & (self.second[places] == identities[:, 1])
            rows[found] = places[found]
        return rows

    def write(self, path: Path) -> None:
        """Write them; the same ones give the same bytes."""
        columns = {
            "first": self.first, "second": self.second, "copy_of": self.copy_of, "similarity": self.similarity
        }  # fmt: skip
        table = pa.table(columns)
        path.unlink(missing_ok=True)  # a build that was killed may have left a link to what it kept
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)

    @classmethod
    def read(cls, path: Path) -> Verdicts:
        """Map what ``write`` wrote."""
        table = pa.ipc.open_file(pa.memory_map(str(path), "r")).read_all()
        return cls(*(table[name].to_numpy() for name in ("first", "second", "copy_of", "similarity")))
