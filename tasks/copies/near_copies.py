"""From signatures to the documents that are kept: the global part of deduplication."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from storage.corpus import read_table, size_of
from storage.mixing import Hashes
from tasks.copies.precedence import precedence
from tasks.copies.shingle_files import Shingles
from tasks.copies.shingles import jaccard
from tasks.copies.verdicts import NO_COPY, Verdict, Verdicts, key_of
from tasks.task import Context, Progress

Numbers = npt.NDArray[np.int64]
"""Documents by their number: their place in the corpus, partition after partition."""

_PROGRESS_EVERY = 1000
_MOST_ROUNDS = 3
"""After so many rounds that asked for the 5-grams of more documents, those of all candidates are made."""
_MOST_GUESSED = 64
"""A document that cannot be compared yet is taken for no copy, unless it meets more than so many others."""


@dataclass(frozen=True)
class Copy:
    """A document that is dropped, and the kept one that it is a copy of."""

    document: int
    kept: int
    similarity: float | None
    """Jaccard similarity; None where the texts are the same."""


@dataclass(frozen=True)
class Signatures:
    """What is known of every document, in the order of partitions and rows."""

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
    exact: memoryview
    """Digests of all normalised texts, end to end."""

    @classmethod
    def read(cls, files: Sequence[Path], bands: int, spill: Path) -> Signatures:
        """Gather the partitions' signatures; the keys go to the file ``spill``, band by band."""
        total = sum(size_of(file).rows for file in files)
        spill.parent.mkdir(parents=True, exist_ok=True)
        keys = np.memmap(spill, np.uint64, "w+", shape=(bands, total))
        parts, start = [], 0
        for file in files:
            part = read_table(file)
            rows = part["keys"].combine_chunks().flatten().to_numpy().reshape(-1, bands)
            keys[:, start : start + part.num_rows] = rows.T
            start += part.num_rows
            parts.append(part.drop_columns(["keys"]))
        table = pa.concat_tables(parts)
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
            exact=memoryview(b"".join(_fixed(chunk) for chunk in table["exact"].chunks)),
        )


@dataclass(frozen=True)
class Candidates:
    """Which documents share a band with another one: its *buckets*."""

    documents: Numbers
    """Ascending numbers of the documents that share any."""
    starts: Numbers
    """(documents + 1) where each one's buckets begin in ``buckets``."""
    buckets: Numbers
    """Bucket numbers, the same over all bands."""
    size: int
    """How many buckets there are."""

    @classmethod
    def find(cls, signatures: Signatures) -> Candidates:
        """Compare the bands one after the other; of equal texts only the first takes part."""
        everything = np.arange(len(signatures.order))
        taking_part = everything[signatures.comparable & (signatures.first_of == everything)]
        documents, buckets, size = [], [], 0
        for band in signatures.keys:
            keys, counts = _grouped(band[taking_part])
            shared = counts[keys] > 1
            numbers = np.cumsum(counts > 1) - 1 + size
            documents.append(taking_part[shared])
            buckets.append(numbers[keys[shared]])
            size += int((counts > 1).sum())
        if not documents:
            return cls(np.empty(0, np.int64), np.zeros(1, np.int64), np.empty(0, np.int64), 0)
        members, all_buckets = np.concatenate(documents), np.concatenate(buckets)
        by_document = np.argsort(members, kind="stable")
        found, counts = np.unique(members, return_counts=True)
        return cls(found, np.concatenate([[0], np.cumsum(counts)]), all_buckets[by_document], size)


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


@dataclass(frozen=True)
class Decision:
    """What was decided of every document, in order."""

    kept: npt.NDArray[np.bool_]
    near: dict[int, tuple[int, float]]
    """Dropped near-copy → the kept document, and how similar they are."""
    missing: Numbers
    """Ascending numbers of documents whose 5-grams are needed first: while there are any, the rest is a guess."""


def kept_documents(
    signatures: Signatures,
    candidates: Candidates,
    shingles: Shingles,
    verdicts: Verdicts,
    similarity: float,
    context: Context,
) -> tuple[npt.NDArray[np.bool_], list[Copy], Verdicts]:
    """Which documents are kept, the others as copies in the order of precedence, and the verdicts that were needed.

    A document is only ever compared with kept ones, so large groups of copies cost little.
    5-grams are made of documents on which there is no verdict yet. Which ones that are is found by
    deciding with what is known; what comes out otherwise than guessed may ask for more.
    """  # fmt: skip
    if not len(verdicts.first):
        shingles.make(candidates.documents, context)
    rounds = 0
    while (found := _decided(signatures, candidates, shingles, verdicts, similarity, context.progress)).missing.size:
        rounds += 1
        shingles.make(found.missing if rounds < _MOST_ROUNDS else candidates.documents, context)
        verdicts = verdicts.settled()
    return *_with_same_texts(signatures, found), verdicts.settled(only_used=True)


def _decided(
    signatures: Signatures,
    candidates: Candidates,
    shingles: Shingles,
    verdicts: Verdicts,
    similarity: float,
    progress: Progress,
) -> Decision:
    """Decide in order, as far as can be."""
    kept = np.ones(len(signatures.order), np.bool_)
    near: dict[int, tuple[int, float]] = {}
    missing: set[int] = set()
    bucket_of: list[list[int]] = [[] for _ in range(candidates.size)]
    """Per bucket: the kept documents in it, by their places in ``compared``."""
    compared: list[int] = []
    """Kept documents among the candidates, in order."""
    position_of = np.full(len(kept), -1, np.int64)
    position_of[candidates.documents] = np.arange(len(candidates.documents))
    positions = position_of[signatures.order]
    some = positions >= 0
    in_order = zip(signatures.order[some].tolist(), positions[some].tolist(), strict=True)
    for done, (number, position) in enumerate(in_order, 1):
        if done % _PROGRESS_EVERY == 0:
            progress(done, len(candidates.documents), "documents", "comparing")
        buckets = candidates.buckets[candidates.starts[position] : candidates.starts[position + 1]].tolist()
        others = [compared[other] for other in sorted({other for bucket in buckets for other in bucket_of[bucket]})]
        verdict = NO_COPY
        if others:
            key = key_of(signatures.exact, number, others)
            known = verdicts.find(key)
            lacking = [] if known else [each for each in (number, *others) if not shingles.has(each)]
            if lacking:
                missing.update(lacking)
                if len(others) > _MOST_GUESSED:
                    kept[number] = False
                    continue
            elif known:
                verdict = known
            else:
                verdict = _compared(number, others, shingles, similarity)
                verdicts.add(key, verdict)
        if verdict.is_copy:
            kept[number] = False
            near[number] = (others[verdict.place], verdict.similarity)
        else:
            for bucket in buckets:
                bucket_of[bucket].append(len(compared))
            compared.append(number)
    return Decision(kept, near, np.array(sorted(missing), np.int64))


def _with_same_texts(signatures: Signatures, found: Decision) -> tuple[npt.NDArray[np.bool_], list[Copy]]:
    """The decision with the documents that have the same text as another; these are copies of what it is one of."""
    kept = found.kept.copy()
    kept[signatures.first_of != np.arange(len(kept))] = False
    copies = []
    for number in signatures.order[~kept[signatures.order]].tolist():
        first = int(signatures.first_of[number])
        if first != number:
            copies.append(Copy(number, found.near[first][0] if first in found.near else first, None))
        else:
            copies.append(Copy(number, *found.near[number]))
    return kept, copies


def _compared(document: int, others: Sequence[int], shingles: Shingles, similarity: float) -> Verdict:
    """The most similar of the other documents, if it is similar enough; of equally similar ones the first."""
    mine = shingles.of(document)
    best = NO_COPY
    for place, other in enumerate(others):
        theirs = shingles.of(other)
        shorter, longer = sorted((len(mine), len(theirs)))
        # Jaccard similarity is at most the ratio of the sizes.
        if shorter / longer < similarity:
            continue
        found = jaccard(mine, theirs)
        if found >= similarity and found > best.similarity:
            best = Verdict(place, found)
    return best
