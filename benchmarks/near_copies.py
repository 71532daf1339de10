"""Deduplication: which pairs are found, what is kept, and how fast, beside rensa, datasketch and datatrove."""

from __future__ import annotations

import json
import random
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.corpora import html_files, shared
from benchmarks.in_process import output_of, written
from benchmarks.measure import Table, compare, rate, ratio, versions
from benchmarks.near_copies_peers import (
    PLACES,
    kept_by_datasketch,
    kept_by_datatrove,
    kept_by_definition,
    kept_by_rensa,
    similar_pairs,
)
from storage.corpus import Documents
from tasks.copies.characters import normalised
from tasks.copies.minhash import band_keys, banding
from tasks.copies.shingles import shingles_of
from tasks.dedup import Dedup

GUIDES = ("installation-guide-amd64", "installation-guide-i386", "installation-guide-arm64")
_ENGLISH = ("python3.11-doc", "postgresql-doc-15")
_BYTES = 4_000
_SPEED_DOCUMENTS = 2_000
_DATATROVE_DOCUMENTS = 500
_DATATROVE = "datatrove, four stages"


def kept_by_dedup(documents: Documents, **settings: Any) -> set[int]:
    """Numbers (the ids) of the documents that the task keeps, read from the files it writes."""
    task = Dedup(documents="documents", max_source_loss=1.0, **settings)  # type: ignore[arg-type]
    with output_of(task, documents) as kept:
        return {int(identity) for table in kept.tables(["id"]) for identity in table["id"].to_pylist()}


# Texts


def plain(path: Path) -> str:
    from resiliparse.extract.html2text import extract_plain_text

    return str(extract_plain_text(path.read_text(encoding="utf-8", errors="replace")))


def guides() -> list[str]:
    """The pages of the installation guides of three architectures, in all their languages."""
    return [plain(path) for package in GUIDES for path in html_files(package)]


def with_near_copies(text: str, size: int, count: int, between: str) -> list[str]:
    """Pieces of a text, every fifth one an earlier piece with a few words (or characters) exchanged."""
    rng = random.Random(1)
    pieces: list[list[str]] = []
    parts = text.split(between) if between else list(text)
    length = size * len(parts) // len(text.encode())
    fresh = iter(range(0, len(parts) - length, length))
    while len(pieces) < count:
        if len(pieces) % 5 < 4:
            start = next(fresh, None)
            if start is None:
                break
            pieces.append(parts[start : start + length])
        else:
            changed = list(rng.choice(pieces))
            for _ in range(rng.choice((1, 5, 20, 60))):
                changed[rng.randrange(length)] = rng.choice(parts)
            pieces.append(changed)
    return [between.join(piece) for piece in pieces]


def english() -> list[str]:
    """Documentation cut into pieces of 4 KB, a fifth of them near-copies."""
    text = " ".join(plain(path) for package in _ENGLISH for path in html_files(package)[:1_500])
    return with_near_copies(text, _BYTES, _SPEED_DOCUMENTS, " ")


def chinese() -> list[str]:
    """Poems, in pieces of 4 KB, a fifth of them near-copies."""
    with shared("text/tang_poems.jsonl").open(encoding="utf-8") as lines:
        text = "".join(json.loads(line)["text"] for line in lines)
    return with_near_copies(text, _BYTES, _SPEED_DOCUMENTS, "")


# Tables


def pairs_table(texts: Sequence[str], pairs: dict[tuple[int, int], float], folder: Path) -> Table:
    """Pairs and kept documents at several thresholds against brute force."""
    documents, sets = written(texts, folder), shingles_of(texts)
    plain = [normalised(text) for text in texts]
    first = {text: number for number, text in reversed(list(enumerate(plain)))}
    distinct = {number for number in first.values() if sets[number].size}
    rows = []
    for similarity in (0.5, 0.7, 0.8, 0.9):
        candidates = _candidates(sets, similarity, distinct)
        true = {pair for pair, value in pairs.items() if value >= similarity and distinct.issuperset(pair)}
        expected = kept_by_definition(texts, pairs, similarity)
        kept = kept_by_dedup(documents, similarity=similarity)
        rows.append(
            [
                f"{similarity}",
                f"{len(true):,}",
                f"{len(true & candidates) / len(true):.4f}",
                f"{len(true & candidates) / len(candidates):.3f}",
                "1 (compared exactly)",
                f"{len(expected):,}",
                f"{len(kept - expected):,} / {len(expected - kept):,}",
            ]
        )
    return Table(
        "Near-copies found, against every pair compared",
        ["similarity", "true pairs", "recall", "precision of candidates", "precision", "kept by definition",
         "kept in excess / missing"],
        rows,
        [
            f"{len(texts):,} pages of Debian's installation guides for amd64, i386 and arm64 in all languages, as "
            "text; pairs of pages that are not the same text. The reference counts shingles as strings for every pair."
        ],
    )  # fmt: skip


def _candidates(sets: Sequence[Any], similarity: float, among: set[int]) -> set[tuple[int, int]]:
    starts = np.cumsum([0, *map(len, sets)])
    keys = band_keys(np.concatenate(sets), starts, banding(similarity, PLACES, 0.99))
    found: set[tuple[int, int]] = set()
    for band in keys.T:
        members: defaultdict[int, list[int]] = defaultdict(list)
        for number in sorted(among):
            members[int(band[number])].append(number)
        for bucket in members.values():
            found.update(combinations(bucket, 2))
    return found


def kept_table(texts: Sequence[str], pairs: dict[tuple[int, int], float], folder: Path) -> Table:
    """What each library keeps at 0.8."""
    expected = kept_by_definition(texts, pairs, 0.8)
    kept = {
        "athanor": kept_by_dedup(written(texts, folder), similarity=0.8),
        "rensa": kept_by_rensa(texts),
        "datasketch": kept_by_datasketch(texts),
    }
    return Table(
        "What is kept at similarity 0.8",
        ["library", "kept", "kept though similar to a kept one", "dropped though similar to none"],
        [[name, f"{len(k):,}", f"{len(k - expected):,}", f"{len(expected - k):,}"] for name, k in kept.items()],
        [
            f"The same pages in the same order; by definition {len(expected):,} are kept. The peers take a candidate "
            f"for a copy without comparing the texts. {versions('rensa', 'datasketch')}, {PLACES} permutations."
        ],
    )


def speed_table(name: str, texts: Sequence[str], folder: Path) -> Table:
    """Documents a second, end to end."""
    documents = written(texts, folder)
    for warm in (kept_by_rensa, kept_by_datasketch):
        warm(texts[:5])
    kept_by_dedup(written(texts[:5], folder / "few"))
    seconds = compare(
        {
            "athanor (reads and writes Parquet)": partial(kept_by_dedup, documents),
            "rensa": partial(kept_by_rensa, texts),
            "datasketch": partial(kept_by_datasketch, texts),
        }
    )
    few = texts[:_DATATROVE_DOCUMENTS]
    kept_by_datatrove(few[:5])  # imports
    spent = compare({_DATATROVE: partial(kept_by_datatrove, few)}, rounds=1)[_DATATROVE]
    per_document = {library: each / len(texts) for library, each in seconds.items()} | {_DATATROVE: spent / len(few)}
    fastest = min(per_document.values())
    return Table(
        f"Near-deduplication, {name}",
        ["library", "documents/s", "MB/s", "athanor is faster by"],
        [
            [library, rate(1, each), rate(_mean_bytes(texts) / 1e6, each), ratio(each, fastest)]
            for library, each in per_document.items()
        ],
        [
            f"{len(texts):,} documents of {_mean_bytes(texts):,.0f} bytes, one in five a near-copy, similarity 0.8; "
            f"datatrove on the first {len(few):,}. The peers are given the texts in memory and shingled in Python by "
            f"the same definition. {versions('rensa', 'datasketch', 'datatrove')}."
        ],
    )


def _mean_bytes(texts: Sequence[str]) -> float:
    return sum(len(text.encode()) for text in texts) / len(texts)


def measure() -> list[Table]:
    """Recall and precision on the installation guides, then speed on English and Chinese."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pages = guides()
        pairs = similar_pairs(pages, 0.5)
        tables = [pairs_table(pages, pairs, folder / "guides"), kept_table(pages, pairs, folder / "again")]
        tables.append(speed_table("English documentation", english(), folder / "english"))
        tables.append(speed_table("Chinese poems", chinese(), folder / "chinese"))
        return tables
