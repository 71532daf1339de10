"""Dropping copies and near-copies of documents."""

from __future__ import annotations

import heapq
from collections import Counter
from dataclasses import dataclass, replace
from hashlib import blake2b
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
from storage.identity import digest_of_bytes, digest_of_text, digest_of_value
from tasks.batches import batches
from tasks.copies.characters import BATCH_CHARACTERS, Characters
from tasks.copies.gathered import gather
from tasks.copies.minhash import Banding, band_keys, banding
from tasks.copies.near_copies import Copy, Signatures, kept_documents, meetings_of
from tasks.copies.shingle_files import Shingles
from tasks.copies.shingles import WORDS_PER_SHINGLE, Words, windows_of
from tasks.copies.verdicts import IDENTITY_BYTES, Verdicts
from tasks.gate import check_source_loss
from tasks.rows import RowWork, Worked
from tasks.tally import Tally, excerpts
from tasks.task import Context, Guard, Input, Result, Sample, Task

_SKETCHED_CHARACTERS = 1 << 20
"""Texts of about this size together are sketched at once."""
_NEAR_SHOWN = 8
_EXACT_SHOWN = 2
_EXAMPLE_CHARACTERS = 80
_SIGNATURES = "signatures.arrow"
_VERDICTS = "verdicts.arrow"
_EXACT_BYTES = 16
"""Of the digest of a normalised text."""


class Dedup(Task):
    """Keep one document of every group of copies.

    In the order (first_seen, id), those of sources held out for validation before all others, a
    document is kept if and only if no kept document is a match of it. Two documents match if their
    texts are equal but for case, compatibility forms and white space, or if they agree in a band of
    their MinHash sketches and the true Jaccard similarity of their word 5-grams (see
    ``tasks.copies.shingles``) is at least ``similarity``. So the result depends on neither the order
    of arrival nor workers nor partitions, and of a chain A~B~C with A unlike C both A and C stay.

    Signatures are made per partition, in worker processes, and so are the 5-grams of the documents
    that have to be compared; the comparisons themselves are made in order by one process, some
    microseconds each. What they came to is remembered (see ``tasks.copies.verdicts``): a refresh
    compares only what has changed with what it meets. Of the whole corpus, memory holds about 250
    bytes a document while bands are compared one by one, and 16 bytes for every document and band with
    a possible match; band keys (8 bytes each), 5-grams (8 bytes a word) and decisions (32 bytes each)
    lie on disk. Time grows linearly with the text, and with the
    candidates, whose number grows with the kept documents that are nearly similar enough.
    """

    makes = Documents

    documents: Input[Documents]
    similarity: float = Field(0.8, gt=0, le=1)
    """Jaccard similarity of word 5-grams (characters, in scripts without spaces) from which documents are copies."""
    permutations: int = Field(128, ge=1, le=4096)
    """Places in the MinHash sketch of a document; more find more exactly the pairs at the threshold, and cost more."""
    recall: float = Field(0.99, gt=0, lt=1)
    """Probability with which a pair of exactly ``similarity`` becomes a candidate; bands and rows follow from it."""
    max_source_loss: float = Field(0.9, gt=0, le=1)
    """The step fails if it would drop more than this share of the documents of one source."""
    min_source_documents: int = Field(20, ge=1)
    """Sources with fewer documents than this are exempt from ``max_source_loss``."""

    def run(self, context: Context) -> Result:
        documents = context.open(self.documents)
        if not documents.rows:
            raise StepFailed("dedup: there are no documents; look at what the steps before have dropped")
        bands = banding(self.similarity, self.permutations, self.recall)
        folder = context.scratch / "signatures"
        made = context.map_rows(Sign(bands), documents.partitions, output=folder)
        signed = gather(documents.partitions, made, context.kept(_SIGNATURES), context.scratch / _SIGNATURES)
        signatures = Signatures.read(signed, bands.bands, context.scratch / "keys.bin")
        meetings = meetings_of(signatures)
        shingles = Shingles(documents, context.scratch / "shingles")
        before = context.kept(_VERDICTS)
        verdicts = Verdicts.read(before) if before else Verdicts()
        kept, copies, verdicts = kept_documents(signatures, meetings, shingles, verdicts, self.similarity, context)
        verdicts.write(context.scratch / _VERDICTS)
        for name in (_SIGNATURES, _VERDICTS):
            context.keep(context.scratch / name)
        self._check(documents, signatures, copies)
        _write(documents, kept, context)
        return self._result(documents, signatures, kept, copies, bands)

    def _check(self, documents: Documents, signatures: Signatures, copies: list[Copy]) -> None:
        """StepFailed if a source would lose suspiciously much."""
        before = Counter(signatures.sources)
        lost = Counter(signatures.sources[copy.document] for copy in copies)

        def example(source: str) -> str:
            copy = next(copy for copy in copies if signatures.sources[copy.document] == source)
            texts = _texts(documents, {copy.document, copy.kept})
            (dropped, text), (kept, _) = texts[copy.document], texts[copy.kept]
            return f"{dropped} for {kept} ({_alike(copy)}): {' '.join(text.split())[:_EXAMPLE_CHARACTERS]!r}"

        check_source_loss(
            "dedup",
            before,
            {source: count - lost[source] for source, count in before.items()},
            most=self.max_source_loss,
            smallest=self.min_source_documents,
            cause="as copies",
            remedy="look there for shared boilerplate, raise `similarity`",
            example=example,
        )

    def _result(
        self,
        documents: Documents,
        signatures: Signatures,
        kept: npt.NDArray[np.bool_],
        copies: list[Copy],
        bands: Banding,
    ) -> Result:
        sizes = signatures.bytes
        exact = [copy.document for copy in copies if copy.similarity is None]
        near = [copy.document for copy in copies if copy.similarity is not None]
        metrics: dict[str, float] = {
            "documents_in": len(kept),
            "documents_out": int(kept.sum()),
            "bytes_in": int(sizes.sum()),
            "bytes_out": int(sizes[kept].sum()),
            "dropped.exact": len(exact),
            "dropped.near": len(near),
            "bytes_dropped.exact": int(sizes[exact].sum()),
            "bytes_dropped.near": int(sizes[near].sum()),
            "bands": bands.bands,
            "rows_per_band": bands.rows,
        }
        return Result(
            counts={"documents": int(kept.sum())},
            metrics=metrics,
            headline=f"{int(kept.sum()):,} documents",
            samples=_samples(documents, copies),
        )


@dataclass(frozen=True)
class Sign(RowWork):
    """What is needed to find copies of documents: a row for each."""

    bands: Banding

    def load(self, source: Path, name: str) -> pa.Table:
        return read_table(source, ["id", "text", "source", "first_seen"])

    def work(self, rows: pa.Table, guard: Guard) -> Worked:
        """Sketch the texts, many at a time."""
        exact: list[bytes] = []
        counts, keys = [np.empty(0, np.int64)], [np.empty((0, self.bands.bands), np.uint64)]
        for group in batches(rows["text"].to_pylist(), len, _SKETCHED_CHARACTERS):
            grams, sizes = [], []
            for texts in batches(group, len, BATCH_CHARACTERS):
                characters = Characters.normalised(texts)
                hashes, starts = windows_of(Words.of(characters), WORDS_PER_SHINGLE)
                exact += [bytes.fromhex(digest_of_text(text))[:_EXACT_BYTES] for text in characters.plain_texts()]
                grams.append(hashes)
                sizes.append(np.diff(starts))
            counts += sizes
            starts = np.concatenate([[0], np.cumsum(np.concatenate(sizes))])
            keys.append(band_keys(np.concatenate(grams), starts, self.bands))
        columns: dict[str, Any] = {name: rows[name] for name in ("id", "source", "first_seen")}
        columns["exact"] = pa.array(exact, pa.binary(_EXACT_BYTES))
        precedence = zip(rows["id"].to_pylist(), rows["first_seen"].to_pylist(), exact, strict=True)
        identities = [
            blake2b(b"%d %b %b" % (seen, text, name.encode()), digest_size=IDENTITY_BYTES).digest()
            for name, seen, text in precedence
        ]
        columns["identity"] = pa.array(identities, pa.binary(IDENTITY_BYTES))
        columns["bytes"] = pc.cast(pc.binary_length(rows["text"]), pa.int64())
        columns["comparable"] = pa.array(np.concatenate(counts) > 0)
        columns["keys"] = pa.FixedSizeListArray.from_arrays(pa.array(np.concatenate(keys).ravel()), self.bands.bands)
        return Worked(pa.table(columns), range(len(rows)), Tally())


def _write(documents: Documents, kept: npt.NDArray[np.bool_], context: Context) -> None:
    """Write the documents that are kept; a partition that loses none stays the file it is."""
    folder = context.scratch / "kept"
    folder.mkdir(parents=True, exist_ok=True)
    changed, start = [], 0
    for partition in documents.partitions:
        rows = partition.size.rows
        mask = kept[start : start + rows]
        start += rows
        if mask.all():
            context.take_over(partition.name, partition.where)
        else:
            np.save(folder / f"{partition.name}.npy", mask)
            # What is made of a partition depends on the rows that are kept, too.
            digest = digest_of_value([partition.digest, digest_of_bytes(mask.tobytes())])
            changed.append(replace(partition, digest=digest))
    context.map_partitions(keep_rows, folder, changed)


def keep_rows(folder: Path, source: Path, output: Path, guard: Guard) -> dict[str, JsonValue]:
    """Write the rows of one partition that are kept."""
    mask = np.load(folder / f"{output.name}.npy")
    write_table(read_table(source).filter(pa.array(mask)).combine_chunks(), output)
    return {}


def _alike(copy: Copy) -> str:
    return "the same text" if copy.similarity is None else f"similarity {copy.similarity:.2f}"


def _texts(documents: Documents, wanted: set[int]) -> dict[int, tuple[str, str]]:
    """URL and text of the documents with these numbers."""
    texts: dict[int, tuple[str, str]] = {}
    start = 0
    for partition in documents.partitions:
        rows = partition.size.rows
        here = [number for number in sorted(wanted) if start <= number < start + rows]
        if here:
            table = read_table(partition.path, ["url", "text"]).take([number - start for number in here])
            texts |= dict(zip(here, zip(table["url"].to_pylist(), table["text"].to_pylist(), strict=True), strict=True))
        start += rows
    return texts


def _samples(documents: Documents, copies: list[Copy]) -> list[Sample]:
    """The least similar pairs that were judged copies, and a few of the same text, side by side."""
    near = [(copy.similarity, place) for place, copy in enumerate(copies) if copy.similarity is not None]
    shown = [copies[place] for _, place in heapq.nsmallest(_NEAR_SHOWN, near)]
    shown += [copy for copy in copies if copy.similarity is None][:_EXACT_SHOWN]
    texts = _texts(documents, {number for copy in shown for number in (copy.document, copy.kept)})
    samples = []
    for copy in shown:
        (kept_url, kept), (url, dropped) = texts[copy.kept], texts[copy.document]
        before, after = excerpts(kept, dropped)
        samples.append(Sample(f"copies, {_alike(copy)}", before, after, url, f"kept: {kept_url}", "dropped"))
    return samples
