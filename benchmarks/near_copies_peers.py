"""What a near-copy is, by counting every pair; and the libraries that drop near-copies."""

from __future__ import annotations

import re
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from tasks.copies.characters import normalised
from tasks.copies.shingles import words_of

PLACES = 128
"""Places of a signature, or permutations."""


# The reference: sets of strings, every pair


def string_shingles(text: str) -> set[str]:
    """The shingles as strings: the definition, and what the peers are given."""
    plain = normalised(text)
    words = re.findall(r"\w+", plain) if plain.isascii() else words_of(plain)
    if len(words) < 5:
        return {" ".join(words)} if words else set()
    return {" ".join(words[at : at + 5]) for at in range(len(words) - 4)}


def similar_pairs(texts: Sequence[str], least: float) -> dict[tuple[int, int], float]:
    """Every pair of texts with at least this Jaccard similarity, by a product of sparse matrices."""
    from scipy.sparse import csr_matrix

    numbers: defaultdict[str, int] = defaultdict(lambda: len(numbers))
    rows = [[numbers[gram] for gram in string_shingles(text)] for text in texts]
    sizes = np.array([len(row) for row in rows])
    columns = np.concatenate([np.array(row, np.int64) for row in rows])
    shape = (len(texts), len(numbers))
    member = csr_matrix((np.ones(len(columns), np.int32), columns, np.concatenate([[0], np.cumsum(sizes)])), shape)
    found: dict[tuple[int, int], float] = {}
    for start in range(0, len(texts), 500):
        both = (member[start : start + 500] @ member.T).tocoo()
        first, second = both.row + start, both.col
        similarity = both.data / (sizes[first] + sizes[second] - both.data)
        for at in np.flatnonzero((similarity >= least) & (first < second)):
            found[int(first[at]), int(second[at])] = float(similarity[at])
    return found


def kept_by_definition(texts: Sequence[str], pairs: dict[tuple[int, int], float], similarity: float) -> set[int]:
    """In order, every text that neither equals nor resembles one that is kept."""
    alike: defaultdict[int, list[int]] = defaultdict(list)
    for (first, second), value in pairs.items():
        if value >= similarity:
            alike[second].append(first)
    kept: set[int] = set()
    seen: dict[str, int] = {}
    for number, text in enumerate(texts):
        same = seen.setdefault(normalised(text), number)
        if same == number and not any(other in kept for other in alike[number]):
            kept.add(number)
    return kept


# The peers, which drop a document that their index finds similar to a kept one


def _shingled(texts: Sequence[str]) -> Iterator[list[str]]:
    return (sorted(string_shingles(text)) or [""] for text in texts)


def kept_by_rensa(texts: Sequence[str], similarity: float = 0.8) -> set[int]:
    """Without a comparison of the candidates, which rensa has no data for."""
    from rensa import RMinHash, RMinHashLSH

    index = RMinHashLSH(threshold=similarity, num_perm=PLACES, num_bands=16)
    kept = set()
    for number, tokens in enumerate(_shingled(texts)):
        sketch = RMinHash(num_perm=PLACES, seed=1)
        sketch.update(tokens)
        if not index.query(sketch):
            index.insert(number, sketch)
            kept.add(number)
    return kept


def kept_by_datasketch(texts: Sequence[str], similarity: float = 0.8) -> set[int]:
    """With its own choice of bands."""
    from datasketch import MinHash, MinHashLSH

    index = MinHashLSH(threshold=similarity, num_perm=PLACES)
    kept = set()
    for number, tokens in enumerate(_shingled(texts)):
        sketch = MinHash(num_perm=PLACES)
        sketch.update_batch([token.encode() for token in tokens])
        if not index.query(sketch):
            index.insert(number, sketch)
            kept.add(number)
    return kept


def kept_by_datatrove(texts: Sequence[str]) -> set[int]:
    """Signatures, buckets, clusters and filter, at its defaults (14 bands of 8) but for the hash, sha1.

    Its default, xxhash, is a package whose newer versions refuse what it is given.
    """
    from datatrove.data import Document
    from datatrove.pipeline.dedup import MinhashDedupBuckets, MinhashDedupCluster, MinhashDedupFilter
    from datatrove.pipeline.dedup.minhash import MinhashConfig, MinhashDedupSignature
    from datatrove.utils.hashing import HashConfig

    config = MinhashConfig(hash_config=HashConfig(hash_fc="sha1"))

    def documents() -> Iterator[Document]:
        return (Document(text=text, id=str(number)) for number, text in enumerate(texts))

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        signatures, buckets, remove = (str(folder / part) for part in ("signatures", "buckets", "remove"))
        MinhashDedupSignature(signatures, config).run(documents(), 0, 1)
        for bucket in range(config.num_buckets):
            MinhashDedupBuckets(signatures, buckets, config=config).run(None, bucket, config.num_buckets)
        MinhashDedupCluster(buckets, remove, config).run(None, 0, 1)
        return {int(document.id) for document in MinhashDedupFilter(remove).run(documents(), 0, 1)}
