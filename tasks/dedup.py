"""Dropping copies and near-copies of documents."""

from __future__ import annotations

import heapq
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from storage.artifact import JsonValue
from storage.corpus import Documents, read_table, write_table
from storage.errors import StepFailed
from storage.identity import digest_of_text
from tasks.copies.minhash import Banding, band_keys, banding
from tasks.copies.near_copies import Candidates, Copy, Signatures, kept_documents
from tasks.copies.shingles import normalised, shingles_of
from tasks.task import Context, Guard, Input, Result, Sample, Task

_SHOWN = 8


class Dedup(Task):
    """Keep one document of every group of copies.

    In the order (first_seen, id), a document is kept if and only if no kept document is a match of
    it. Two documents match if their texts are equal but for case, compatibility forms and white
    space, or if they agree in a band of MinHash minima and the true Jaccard similarity of their
    word 5-grams (see ``tasks.copies.shingles``) is at least ``similarity``. So the result depends on
    neither the order of arrival nor workers nor partitions, and of a chain A~B~C with A unlike C
    both A and C stay.

    Signatures are made per partition. Of the whole corpus, memory holds about 120 bytes a document
    while bands are compared one by one, and an entry for every document and band with a possible
    match; the 5-grams of those documents are spilt to disk. Time grows linearly with the text, and
    with the candidates, whose number grows with the kept documents that are nearly similar enough.
    """

    makes = Documents

    documents: Input[Documents]
    similarity: float = Field(0.8, gt=0, le=1)
    """Jaccard similarity of word 5-grams (characters, in scripts without spaces) from which documents are copies."""
    permutations: int = Field(128, ge=1, le=4096)
    """MinHash minima per document; more find more exactly the pairs at the threshold, and take longer."""
    recall: float = Field(0.99, gt=0, lt=1)
    """Probability with which a pair of exactly ``similarity`` becomes a candidate; bands and rows follow from it."""
    max_source_loss: float = Field(0.9, gt=0, le=1)
    """The step fails if it would drop more than this share of the documents of one source."""

    def run(self, context: Context) -> Result:
        documents = context.open(self.documents)
        if not documents.rows:
            raise StepFailed("dedup: there are no documents; look at what the steps before have dropped")
        bands = banding(self.similarity, self.permutations, self.recall)
        folder = context.scratch / "signatures"
        made = context.map_partitions(sign_partition, self, documents.partitions, output=folder)
        files = [result.files[result.name] for result in made]
        signatures = Signatures.read(files, bands.bands, context.scratch / "keys.bin")
        candidates = Candidates.find(signatures)
        shingles = candidates.shingles(documents, context.scratch / "shingles.bin")
        kept, copies = kept_documents(signatures, candidates, shingles, self.similarity, context.progress)
        self._check(signatures, kept)
        self._write(documents, kept, context.output)
        return self._result(documents, signatures, kept, copies, bands)

    def _check(self, signatures: Signatures, kept: npt.NDArray[np.bool_]) -> None:
        """StepFailed if a source would lose suspiciously much."""
        before = Counter(signatures.sources)
        after = Counter(source for source, keep in zip(signatures.sources, kept, strict=True) if keep)
        for source, count in sorted(before.items()):
            dropped = count - after[source]
            if dropped > self.max_source_loss * count:
                raise StepFailed(
                    f"dedup: {dropped:,} of {count:,} documents of source {source!r} would be dropped as copies "
                    f"({dropped / count:.1%}, more than max_source_loss {self.max_source_loss:g}); look there for "
                    "shared boilerplate, raise `similarity`, or raise `max_source_loss` if it is right"
                )

    def _write(self, documents: Documents, kept: npt.NDArray[np.bool_], folder: Path) -> None:
        start = 0
        for partition in documents.partitions:
            table = read_table(partition.path)
            mask = kept[start : start + table.num_rows]
            write_table(table.filter(pa.array(mask)).combine_chunks(), folder / partition.name)
            start += table.num_rows

    def _result(
        self,
        documents: Documents,
        signatures: Signatures,
        kept: npt.NDArray[np.bool_],
        copies: list[Copy],
        bands: Banding,
    ) -> Result:
        sizes = signatures.bytes
        exact = sum(copy.similarity is None for copy in copies)
        metrics: dict[str, float] = {
            "documents_in": len(kept),
            "documents_out": int(kept.sum()),
            "bytes_in": int(sizes.sum()),
            "bytes_out": int(sizes[kept].sum()),
            "dropped.exact": exact,
            "dropped.near": len(copies) - exact,
            "bands": bands.bands,
            "rows_per_band": bands.rows,
        }
        return Result(
            counts={"rows": int(kept.sum())},
            metrics=metrics,
            headline=f"{int(kept.sum()):,} documents",
            samples=_samples(documents, copies),
        )


def sign_partition(task: Dedup, source: Path, output: Path, guard: Guard) -> dict[str, JsonValue]:
    """Write one row a document: what is needed to find its copies."""
    table = read_table(source, ["id", "text", "source", "first_seen"])
    texts = [normalised(text) for text in table["text"].to_pylist()]
    sets = shingles_of(texts)
    keys = band_keys(sets, banding(task.similarity, task.permutations, task.recall))
    columns: dict[str, Any] = {name: table[name] for name in ("id", "source", "first_seen")}
    columns["exact"] = pa.array([digest_of_text(text)[:32] for text in texts], pa.string())
    columns["bytes"] = pc.cast(pc.binary_length(table["text"]), pa.int64())
    columns["shingles"] = pa.array([len(members) for members in sets], pa.int64())
    columns["keys"] = pa.FixedSizeListArray.from_arrays(pa.array(keys.T.ravel(), pa.uint64()), len(keys))
    write_table(pa.table(columns), output)
    return {"documents": len(texts)}


def _samples(documents: Documents, copies: list[Copy]) -> list[Sample]:
    """The least similar pairs that were judged copies, and a few exact ones, with their texts."""
    near = [copy for copy in copies if copy.similarity is not None]
    shown = heapq.nsmallest(_SHOWN - 2, near, key=lambda copy: (copy.similarity, copy.document))
    shown += [copy for copy in copies if copy.similarity is None][: _SHOWN - len(shown)]
    wanted = {number for copy in shown for number in (copy.document, copy.kept)}
    texts: dict[int, tuple[str, str]] = {}
    start = 0
    for table in documents.tables(["url", "text"]):
        for number in sorted(wanted):
            if start <= number < start + table.num_rows:
                row = table.slice(number - start, 1).to_pylist()[0]
                texts[number] = (row["url"], row["text"][:1000])
        start += table.num_rows
    samples = []
    for copy in shown:
        alike = "the same text" if copy.similarity is None else f"similarity {copy.similarity:.3f}"
        title = f"{texts[copy.document][0]} dropped for {texts[copy.kept][0]}: {alike}"
        samples.append(Sample(title, texts[copy.kept][1], texts[copy.document][1]))
    return samples
