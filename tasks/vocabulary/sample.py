"""A sample of texts by source and by bytes: seeded, and the same however the corpora are cut into partitions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from storage.corpus import Documents, Partition, read_table
from storage.errors import UserError
from storage.identity import digest_of_text

_HASH_BITS = 52
_STEPS_BITS = 6
_CLASSES = (_HASH_BITS + 1) << _STEPS_BITS
"""Hashes are told apart to about 1 % of their size, so that any share of a source can be met that well."""


@dataclass(frozen=True)
class Drawn:
    """Which documents were drawn: of each source those whose hash lies below a limit."""

    partitions: Sequence[Partition]
    lowest: Sequence[Mapping[str, int]]
    """Of each partition and source, the lowest class of a hash: what holds nothing drawn is not read again."""
    limits: Mapping[str, int]
    """By source: documents of lower classes are drawn."""
    bytes_in: Mapping[str, int]
    """By source, UTF-8 bytes of all texts."""
    bytes_drawn: Mapping[str, int]
    seed: int

    def tables(self) -> Iterator[pa.Table]:
        """The documents drawn, with id, url, source, language and text, by partition."""
        for partition, lowest in zip(self.partitions, self.lowest, strict=True):
            if any(least < self.limits[source] for source, least in lowest.items()):
                table = read_table(partition.path, ["id", "url", "source", "language", "text"])
                limits = [self.limits[source] for source in table["source"].to_pylist()]
                table = table.filter(pa.array(_classes(table["id"], self.seed) < limits))
                if len(table):
                    yield table


def draw(documents: Sequence[Documents], seed: int, wanted_bytes: float, weights: Mapping[str, float]) -> Drawn:
    """Draw about ``wanted_bytes`` of text, the sources by their weights (none given: by their bytes).

    A source with less than its share is drawn whole, and the others make up for it. One pass over
    the corpora; memory: a row of counts a source, and two numbers for each partition and source.
    UserError for weights that do not fit the sources.
    """
    partitions = [partition for corpus in documents for partition in corpus.partitions]
    sizes: dict[str, npt.NDArray[np.int64]] = {}
    lowest: list[dict[str, int]] = []
    for partition in partitions:
        table = read_table(partition.path, ["id", "source", "text"])
        classes = _classes(table["id"], seed)
        lengths = pc.binary_length(table["text"]).to_numpy().astype(np.int64)
        coded = table["source"].combine_chunks().dictionary_encode()
        lowest.append({})
        for number, source in enumerate(coded.dictionary.to_pylist()):
            rows = np.flatnonzero(coded.indices.to_numpy() == number)
            lowest[-1][source] = int(classes[rows].min())
            counts = sizes.setdefault(source, np.zeros(_CLASSES, np.int64))
            np.add.at(counts, classes[rows], lengths[rows])
    totals = {source: int(counts.sum()) for source, counts in sorted(sizes.items())}
    shares = shares_of(totals, wanted_bytes, _checked(weights, totals) if weights else totals)
    limits, drawn = {}, {}
    for source, total in totals.items():
        behind = np.cumsum(sizes[source])
        limits[source] = _CLASSES if shares[source] >= total else int(np.searchsorted(behind, shares[source]) + 1)
        if shares[source] <= 0:
            limits[source] = 0
        drawn[source] = int(behind[limits[source] - 1]) if limits[source] else 0
    return Drawn(partitions, lowest, limits, totals, drawn, seed)


def shares_of(totals: Mapping[str, int], wanted: float, weights: Mapping[str, float]) -> dict[str, float]:
    """How many of its bytes each source gives: by weight, none more than it has, in all what is wanted if it is there.

    ``totals`` and ``weights`` by source; a weight of 0 gives nothing.
    """
    shares = dict.fromkeys(totals, 0.0)
    open_sources = {source for source in totals if weights[source] > 0}
    left = wanted
    while open_sources:
        per_weight = left / sum(weights[source] for source in open_sources)
        small = {source for source in open_sources if totals[source] <= per_weight * weights[source]}
        for source in small or open_sources:
            shares[source] = min(totals[source], per_weight * weights[source])
        if not small:
            break
        left -= sum(totals[source] for source in small)
        open_sources -= small
    return shares


def _checked(weights: Mapping[str, float], totals: Mapping[str, int]) -> Mapping[str, float]:
    known = ", ".join(totals)
    if unknown := sorted(weights.keys() - totals.keys()):
        raise UserError(f"train_tokenizer.weights: no document comes from {unknown[0]!r}; the sources are {known}")
    if missing := sorted(totals.keys() - weights.keys()):
        raise UserError(f"train_tokenizer.weights: there is none for {missing[0]!r}; add one (0 leaves the source out)")
    if not any(weights.values()):
        raise UserError(f"train_tokenizer.weights: all are 0; give one of {known} more")
    return weights


def _classes(ids: pa.ChunkedArray, seed: int) -> npt.NDArray[np.int64]:
    """The class of each document's hash, by seed and id: the larger the hash, the higher, in steps of about 1 %."""
    digits = _HASH_BITS // 4
    hashes = [int(digest_of_text(f"tokenizer\n{seed}\n{identity}")[:digits], 16) for identity in ids.to_pylist()]
    return np.array([_class(value) for value in hashes], np.int64)


def _class(value: int) -> int:
    octave = value.bit_length()
    if octave <= _STEPS_BITS:
        return value
    return (octave << _STEPS_BITS) | ((value >> (octave - 1 - _STEPS_BITS)) & ((1 << _STEPS_BITS) - 1))
