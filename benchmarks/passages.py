"""Repeated passages: which lines are cut, and how fast, beside datatrove's deduplication of sentences."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from benchmarks.corpora import html_files
from benchmarks.in_process import output_of, written
from benchmarks.measure import Table, compare, rate, ratio, versions
from benchmarks.near_copies import plain
from storage.corpus import Documents
from tasks.copies.characters import normalised
from tasks.drop_passages import DropPassages

_PACKAGES = ("python3.11-doc", "postgresql-doc-15")
_PAGES = 600
"""Of each package."""
_DATATROVE = "datatrove, three stages"


def pages() -> list[str]:
    """Pages of documentation as text, with the navigation that they share."""
    return [plain(path) for package in _PACKAGES for path in html_files(package)[:_PAGES]]


def left_by_definition(texts: Sequence[str]) -> list[list[str]]:
    """Of each text the lines, but for those that an earlier text holds; a line without a word is no passage."""
    seen: set[str] = set()
    left = []
    for text in texts:
        keys = [normalised(line) for line in text.split("\n")]
        known = [key in seen and re.search(r"\w", key) is not None for key in keys]
        left.append(_solid(line for line, cut in zip(text.split("\n"), known, strict=True) if not cut))
        seen.update(keys)
    return left


def left_by_athanor(documents: Documents) -> dict[int, list[str]]:
    """The lines left of each document, by its number; a document of which nothing is left is not there."""
    task = DropPassages(  # every line that an earlier document holds
        documents="documents", per="corpus", min_documents=2, min_characters=1, max_source_loss=1.0
    )  # type: ignore[arg-type]
    with output_of(task, documents) as made:
        rows = [row for table in made.tables(["id", "text"]) for row in table.to_pylist()]
    return {int(row["id"]): _solid(row["text"].split("\n")) for row in rows}


def left_by_datatrove(texts: Sequence[str]) -> dict[int, list[str]]:
    """Its deduplication of spans of sentences, set to spans of one line, with the hash sha1."""
    from datatrove.data import Document
    from datatrove.pipeline.dedup.sentence_dedup import (
        SentDedupConfig,
        SentenceDedupFilter,
        SentenceDedupSignature,
        SentenceFindDedups,
    )
    from datatrove.utils.hashing import HashConfig

    config = SentDedupConfig(
        n_sentences=1,
        split_sentences=False,
        min_doc_words=0,
        min_num_sentences=0,
        hash_config=HashConfig(hash_fc="sha1"),
    )

    def documents() -> Iterator[Document]:
        return (Document(text=text, id=str(number)) for number, text in enumerate(texts))

    with tempfile.TemporaryDirectory() as name:
        signatures, found = str(Path(name, "signatures")), str(Path(name, "found"))
        SentenceDedupSignature(signatures, config=config).run(documents(), 0, 1)
        SentenceFindDedups(signatures, found, config=config).run(None, 0, 1)
        kept = SentenceDedupFilter(found, config=config).run(documents(), 0, 1)
        return {int(document.id): _solid(document.text.split("\n")) for document in kept}


def _solid(lines: Iterator[str] | list[str]) -> list[str]:
    return [line.strip() for line in lines if line.strip()]


def measure() -> list[Table]:
    """Lines cut against the definition, and documents a second."""
    texts = pages()
    expected = left_by_definition(texts)
    lines = sum(len(_solid(text.split("\n"))) for text in texts)
    size = sum(len(text.encode()) for text in texts)
    with tempfile.TemporaryDirectory() as name:
        documents = written(texts, Path(name))
        left_by_athanor(written(texts[:5], Path(name, "few")))
        left_by_datatrove(texts[:5])
        seconds = compare({"athanor (reads and writes Parquet)": partial(left_by_athanor, documents)})
        seconds |= compare({_DATATROVE: partial(left_by_datatrove, texts)}, rounds=1)
        kept = [left_by_athanor(documents), left_by_datatrove(texts)]
    rows = []
    for (library, spent), left in zip(seconds.items(), kept, strict=True):
        cut = lines - sum(map(len, left.values()))
        other = sum(left.get(number, []) != mine for number, mine in enumerate(expected))
        speed = [rate(len(texts), spent), rate(size / 1e6, spent), ratio(spent, min(seconds.values()))]
        rows.append([library, f"{cut:,}", f"{other:,}", *speed])
    return [
        Table(
            "Repeated lines",
            ["library", "lines cut", "documents other than by definition", "documents/s", "MB/s",
             "athanor is faster by"],
            rows,
            [
                f"{len(texts):,} pages of {' and '.join(_PACKAGES)} as text with their navigation, {lines:,} lines, "
                f"{size / 1e6:.1f} MB; a line goes that an earlier page holds, after normalisation. datatrove cuts "
                f"repeats within a page too, and compares digits as one. {versions('datatrove')}."
            ],
        )
    ]  # fmt: skip
