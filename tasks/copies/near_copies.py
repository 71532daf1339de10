"""From signatures to the documents that are kept: the global part of deduplication."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from storage.mixing import Hashes
from tasks.copies.deciding import Before, Deciding, Meetings
from tasks.copies.precedence import precedence
from tasks.copies.shingle_files import Shingles
from tasks.copies.verdicts import NONE, Numbers, Verdicts
from tasks.task import Context

_MOST_ROUNDS = 3
"""After so many rounds that asked for the 5-grams of more documents, those of all candidates are made."""


@dataclass(frozen=True)
class Copy:
    """A document that is dropped, and the kept one that it is a copy of."""

    document: int
    kept: int
    similarity: float | None
    """Jaccard similarity; None where the texts are the same."""


@dataclass(frozen=True)
class Signatures:
    """What is known of every document, by its number: its place in the order of partitions and rows."""

    keys: Hashes
    """(bands × documents) band keys, memory-mapped."""
    order: Numbers
    """Numbers of the documents in the order in which they take precedence."""
    first_of: Numbers
    """For every document the first one, in that order, with the same normalised text: itself, most often."""
    sources: list[str]
    bytes: Numbers
    comparable: npt.NDArray[np.bool_]
    """Whether the document has words, so that it can be similar to another."""
    identities: Hashes
    """(documents × 2) digests of what decisions depend on; see ``tasks.copies.verdicts``."""

    @classmethod
    def read(cls, signed: Sequence[pa.RecordBatch], bands: int, spill: Path) -> Signatures:
        """From the partitions' signatures, one batch each; the keys go to the file ``spill``, band by band."""
        total = sum(batch.num_rows for batch in signed)
        spill.parent.mkdir(parents=True, exist_ok=True)
        keys = np.memmap(spill, np.uint64, "w+", shape=(bands, total))
        parts, start = [], 0
        for batch in signed:
            rows = batch["keys"].flatten().to_numpy().reshape(-1, bands)
            keys[:, start : start + batch.num_rows] = rows.T
            start += batch.num_rows
            parts.append(batch.drop_columns(["keys"]))
        table = pa.Table.from_batches(parts)
        order = precedence(table)
        group, _ = _numbered(table["exact"])
        source, distinct = _numbered(table["source"])
        names = distinct.to_pylist()
        first = np.full(len(order), -1, np.int64)
        # Assigned from the last to the first, so that the first of every group remains.
        first[group[order[::-1]]] = order[::-1]
        return cls(
            keys=keys,
            order=order,
            first_of=first[group],
            sources=[names[number] for number in source.tolist()],
            bytes=table["bytes"].to_numpy(),
            comparable=table["comparable"].to_numpy(),
            identities=np.frombuffer(b"".join(map(_fixed, table["identity"].chunks)), "<u8").reshape(-1, 2),
        )


def meetings_of(signatures: Signatures) -> Meetings:
    """Compare the bands one after the other; of equal texts only the first takes part."""
    everything = np.arange(len(signatures.order))
    taking_part = everything[signatures.comparable & (signatures.first_of == everything)]
    members, buckets, size = [], [], 0
    for band in signatures.keys:
        keys, counts = _grouped(band[taking_part])
        shared = counts[keys] > 1
        numbers = np.cumsum(counts > 1) - 1 + size
        members.append(taking_part[shared])
        buckets.append(numbers[keys[shared]])
        size += int((counts > 1).sum())
    everyone = np.concatenate(members)
    meets = np.zeros(len(everything), np.bool_)
    meets[everyone] = True
    documents = signatures.order[meets[signatures.order]]
    place_of = np.full(len(everything), -1, np.int64)
    place_of[documents] = np.arange(len(documents))
    return Meetings.of(documents, place_of[everyone], np.concatenate(buckets), size)


def _numbered(column: pa.ChunkedArray) -> tuple[Numbers, pa.Array]:
    """Every value's number among the distinct values, and these."""
    encoded = column.dictionary_encode()
    numbers = [chunk.indices.to_numpy() for chunk in encoded.chunks]
    return np.concatenate([np.empty(0, np.int64), *numbers]), encoded.chunk(0).dictionary


def _fixed(chunk: pa.FixedSizeBinaryArray) -> memoryview:
    """The bytes of a column of digests."""
    size = chunk.type.byte_width
    return memoryview(chunk.buffers()[1])[size * chunk.offset : size * (chunk.offset + len(chunk))]


def _grouped(keys: Hashes) -> tuple[Numbers, Numbers]:
    """For every key the number of its group, and how many keys each group has."""
    _, group, counts = np.unique(keys, return_inverse=True, return_counts=True)
    return group.astype(np.int64), counts.astype(np.int64)


def kept_documents(
    signatures: Signatures,
    meetings: Meetings,
    shingles: Shingles,
    verdicts: Verdicts,
    similarity: float,
    context: Context,
) -> tuple[npt.NDArray[np.bool_], list[Copy], Verdicts]:
    """Which documents are kept, the others as copies in the order of precedence, and what was decided.

    A document is only ever compared with kept ones, so large groups of copies cost little.
    5-grams are made of documents that have to be compared. Which ones these are is found by
    deciding with what is known; what comes out otherwise than guessed may ask for more.
    """
    identities = signatures.identities[meetings.documents]
    before = Before.of(verdicts, identities)
    if not before.known.any():
        shingles.make(np.sort(meetings.documents), context)
    progress = partial(context.progress, unit="documents", note="comparing")
    deciding = Deciding(meetings, before, shingles, similarity, progress)
    deciding.decide()
    rounds = 0
    while deciding.missing:
        rounds += 1
        wanted = list(deciding.missing) if rounds < _MOST_ROUNDS else meetings.documents
        shingles.make(np.sort(wanted), context)
        deciding.decide()
    return *_with_same_texts(signatures, meetings, deciding), Verdicts.of(
        identities, deciding.copy_of, deciding.similarities
    )


def _with_same_texts(
    signatures: Signatures, meetings: Meetings, decided: Deciding
) -> tuple[npt.NDArray[np.bool_], list[Copy]]:
    """The decisions with the documents that have the same text as another; these are copies of what it is one of."""
    kept = signatures.first_of == np.arange(len(signatures.order))
    places = np.flatnonzero(decided.copy_of != NONE)
    dropped, originals = meetings.documents[places], meetings.documents[decided.copy_of[places]]
    kept[dropped] = False
    found = zip(originals.tolist(), decided.similarities[places].tolist(), strict=True)
    near = dict(zip(dropped.tolist(), found, strict=True))
    copies = []
    for number in signatures.order[~kept[signatures.order]].tolist():
        first = int(signatures.first_of[number])
        if first != number:
            copies.append(Copy(number, near[first][0] if first in near else first, None))
        else:
            copies.append(Copy(number, *near[number]))
    return kept, copies
