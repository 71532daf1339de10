"""From signatures to the documents that are kept: the global part of deduplication."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from storage.corpus import Documents, Partition, read_table, size_of
from storage.identity import digest_of_bytes, digest_of_value
from storage.mixing import Hashes
from tasks.copies.precedence import precedence
from tasks.copies.shingles import jaccard, shingles_of
from tasks.rows import RowWork, Worked
from tasks.tally import Tally
from tasks.task import Context, Guard, Progress

Numbers = npt.NDArray[np.int64]
"""Documents by their number: their place in the corpus, partition after partition."""

_PROGRESS_EVERY = 1000


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

    def shingles(self, documents: Documents, context: Context, folder: Path) -> Shingles:
        """Make the 5-grams of these documents again, in worker processes, and lay them on disk in one file."""
        folder.mkdir(parents=True, exist_ok=True)
        partitions, start = [], 0
        for partition in documents.partitions:
            rows = partition.size.rows
            here = self.documents[(self.documents >= start) & (self.documents < start + rows)] - start
            start += rows
            if here.size:
                np.save(folder / f"{partition.name}.rows.npy", here)
                # What is made of a partition depends on the rows that are wanted, too.
                digest = digest_of_value([partition.digest, digest_of_bytes(here.tobytes())])
                partitions.append(replace(partition, digest=digest))
        return Shingles.gathered(self.documents, partitions, context, folder)


def _numbered(column: pa.ChunkedArray) -> tuple[Numbers, pa.Array]:
    """Every value's number among the distinct values, and these."""
    encoded = column.dictionary_encode()
    numbers = [chunk.indices.to_numpy() for chunk in encoded.chunks]
    return np.concatenate([np.empty(0, np.int64), *numbers]), encoded.chunk(0).dictionary


def _grouped(keys: Hashes) -> tuple[Numbers, Numbers]:
    """For every key the number of its group, and how many keys each group has."""
    _, group, counts = np.unique(keys, return_inverse=True, return_counts=True)
    return group.astype(np.int64), counts.astype(np.int64)


@dataclass(frozen=True)
class Shingles:
    """The 5-grams of some documents, memory-mapped."""

    documents: Numbers
    ends: Numbers
    values: Hashes

    @classmethod
    def gathered(cls, documents: Numbers, partitions: Sequence[Partition], context: Context, folder: Path) -> Shingles:
        """Those that the workers make of the partitions, one behind the other."""
        sizes, spill = [np.zeros(1, np.int64)], folder / "shingles.bin"
        made = context.map_rows(Shingle(folder), partitions, output=folder)
        with spill.open("wb") as file:
            for result in made:
                (path,) = result.files.values()
                for chunk in _mapped(path)["shingles"].chunks:
                    sizes.append(np.diff(chunk.offsets.to_numpy()))
                    file.write(chunk.flatten().to_numpy())
        ends = np.cumsum(np.concatenate(sizes))
        # As a plain array: slices of a memory map are many times as slow.
        values = np.asarray(np.memmap(spill, np.uint64, "r")) if ends[-1] else np.empty(0, np.uint64)
        return cls(documents, ends, values)

    def of(self, position: int) -> Hashes:
        """Those of the document at this position in ``documents``."""
        return self.values[self.ends[position] : self.ends[position + 1]]


def _mapped(path: Path) -> pa.Table:
    return pa.ipc.open_file(pa.memory_map(str(path), "r")).read_all()


@dataclass(frozen=True)
class Shingle(RowWork):
    """The 5-grams of the documents that are wanted: a row for each."""

    folder: Path
    """Where the numbers of the rows wanted lie."""

    def load(self, source: Path, name: str) -> pa.Table:
        return read_table(source, ["text"]).take(pa.array(np.load(self.folder / f"{name}.rows.npy")))

    def work(self, rows: pa.Table, guard: Guard) -> Worked:
        sets = shingles_of(rows["text"].to_pylist())
        ends = np.cumsum([0, *map(len, sets)])
        column = pa.LargeListArray.from_arrays(
            pa.array(ends), pa.array(np.concatenate([*sets, np.empty(0, np.uint64)]))
        )
        return Worked(pa.table({"shingles": column}), range(len(sets)), Tally())

    def save(self, made: pa.Table, output: Path) -> None:
        path = output.with_suffix(".shingles.arrow")
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, made.schema) as writer:
            writer.write_table(made)

    def saved(self, files: Mapping[str, Path]) -> pa.Table:
        (path,) = files.values()
        return _mapped(path)


def kept_documents(
    signatures: Signatures, candidates: Candidates, shingles: Shingles, similarity: float, progress: Progress
) -> tuple[npt.NDArray[np.bool_], list[Copy]]:
    """Decide in order; a document is only ever compared with kept ones, so large groups of copies cost little."""
    kept = np.ones(len(signatures.order), np.bool_)
    copies: list[Copy] = []
    bucket_of: list[list[int]] = [[] for _ in range(candidates.size)]
    """Per bucket: the kept documents in it, by their place in ``compared``."""
    compared: list[int] = []
    """Positions of kept documents among the candidates, in order."""
    position_of = {int(document): position for position, document in enumerate(candidates.documents)}
    kept_for: dict[int, int] = {}
    """Dropped near-copy → the kept document."""
    for done, number in enumerate(signatures.order.tolist(), 1):
        if done % _PROGRESS_EVERY == 0:
            progress(done, len(kept), "documents", "comparing")
        first = int(signatures.first_of[number])
        if first != number:
            kept[number] = False
            copies.append(Copy(number, kept_for.get(first, first), None))
        elif number in position_of:
            position = position_of[number]
            buckets = candidates.buckets[candidates.starts[position] : candidates.starts[position + 1]].tolist()
            others = sorted({other for bucket in buckets for other in bucket_of[bucket]})
            match = _match(position, [compared[other] for other in others], shingles, similarity)
            if match is None:
                for bucket in buckets:
                    bucket_of[bucket].append(len(compared))
                compared.append(position)
            else:
                kept[number] = False
                kept_for[number] = match[0]
                copies.append(Copy(number, *match))
    return kept, copies


def _match(position: int, others: Sequence[int], shingles: Shingles, similarity: float) -> tuple[int, float] | None:
    """The most similar of the other documents, if it is similar enough; of equally similar ones the first."""
    mine = shingles.of(position)
    best: tuple[float, int] | None = None
    for other in others:
        theirs = shingles.of(other)
        shorter, longer = sorted((len(mine), len(theirs)))
        # Jaccard similarity is at most the ratio of the sizes.
        if shorter / longer < similarity:
            continue
        found = jaccard(mine, theirs)
        if found >= similarity and (best is None or found > best[0]):
            best = (found, int(shingles.documents[other]))
    return (best[1], best[0]) if best else None
