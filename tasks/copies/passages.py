"""Passages of documents (lines, paragraphs, runs of words), and which of them repeat over a corpus.

A passage is known by a 64-bit key. Keys are made per partition and laid on disk, sorted; the whole
corpus is then counted slice by slice of the keys' range, each slice small enough for memory.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from storage.identity import digest_of_text
from storage.mixing import Hashes, mixed
from tasks.batches import batches
from tasks.copies.characters import ALONE, BATCH_CHARACTERS, LETTER, Characters, Positions
from tasks.copies.shingles import Words, polynomials, windows_of

Unit = Literal["lines", "paragraphs", "words"]
Span = tuple[int, int]
"""Beginning and end in characters, the end excluded."""

_END = {"lines": re.compile(r"\n"), "paragraphs": re.compile(r"\n\s*\n")}
_PUNCTUATION = re.compile(r"[^\w\s]*")
_KEYS_AT_A_TIME = 1 << 22


@dataclass(frozen=True)
class Passages:
    """The passages of one document that may be cut."""

    keys: Hashes
    begins: Positions
    """Where each begins in the text, in characters."""
    ends: Positions

    def spans(self, chosen: npt.NDArray[np.bool_]) -> list[Span]:
        """What the chosen passages cover: ascending spans, none touching another."""
        union: list[Span] = []
        for begin, end in sorted(zip(self.begins[chosen].tolist(), self.ends[chosen].tolist(), strict=True)):
            if union and begin <= union[-1][1]:
                union[-1] = (union[-1][0], max(union[-1][1], end))
            else:
                union.append((begin, end))
        return union


def passages_of(texts: Sequence[str], unit: Unit, words: int, characters: int) -> Iterator[Passages]:
    """The passages of each text: runs of ``words`` words, or lines or paragraphs of at least so many ``characters``.

    Characters of scripts without spaces count twice. Lines and paragraphs are compared after
    normalisation, and count only if they hold a word; runs of words are compared by their words, in
    which only such forms are normalised as are one character before and after.
    """
    for batch in batches(texts, len, BATCH_CHARACTERS):
        yield from _runs(batch, words) if unit == "words" else _pieces(batch, _END[unit], characters)


def _runs(texts: Sequence[str], length: int) -> Iterator[Passages]:
    characters = Characters.of(texts)
    words = Words.of(characters)
    hashes, starts = windows_of(words, length)
    for number, (first, end) in enumerate(pairwise(words.starts.tolist())):
        count, start = max(0, end - first - length + 1), starts[number]
        begins = words.begins[first : first + count] - characters.starts[number]
        ends = words.ends[first + length - 1 : first + length - 1 + count] - characters.starts[number]
        yield Passages(hashes[start : start + count], begins, ends)


def _pieces(texts: Sequence[str], end: re.Pattern[str], least: int) -> Iterator[Passages]:
    edges = [[0, *(match.end() for match in end.finditer(text)), len(text)] for text in texts]
    pieces = [text[begin:behind] for text, mine in zip(texts, edges, strict=True) for begin, behind in pairwise(mine)]
    characters = Characters.normalised(pieces)
    column, begins, ends = characters.plain()
    words = np.concatenate([[0], np.cumsum(characters.classes >= LETTER)])[characters.starts]
    wide = np.concatenate([[0], np.cumsum(characters.classes == ALONE)])[characters.starts]
    counted = (np.diff(words) > 0) & (ends - begins + np.diff(wide) >= least)
    keys = polynomials(column, begins, ends)
    first = 0
    for mine in edges:
        own = np.flatnonzero(counted[first : first + len(mine) - 1])
        yield Passages(keys[first + own], np.array(mine[:-1], np.int64)[own], np.array(mine[1:], np.int64)[own])
        first += len(mine) - 1


def without(text: str, spans: Sequence[Span]) -> str:
    """The text without these spans.

    A cut becomes a line break, or a blank line where there was one beside it; indentation stays.
    """
    edges = [0, *(edge for span in spans for edge in span), len(text)]
    parts: list[str] = []
    gap = ""
    for begin, end in zip(edges[0::2], edges[1::2], strict=True):
        piece = text[begin:end]
        body = piece.strip()
        lead = piece[: len(piece) - len(piece.lstrip())]
        gap += lead
        if not body:
            continue
        starts_line = begin == 0 or text[begin - 1] == "\n" or "\n" in lead
        if parts:
            parts.append("\n\n" if gap.count("\n") > 1 else "\n")
        parts += [lead.rpartition("\n")[2] if starts_line else "", body]
        gap = piece[len(piece.rstrip()) :]
    return "".join(parts)


def with_punctuation(text: str, spans: Sequence[Span]) -> list[Span]:
    """The spans, each with the punctuation that directly follows it."""
    return [(begin, _PUNCTUATION.match(text, end).end()) for begin, end in spans]  # type: ignore[union-attr]


def group_key(group: str) -> np.uint64:
    """What the keys of a group's passages are combined with, so that groups are counted apart."""
    return np.uint64(int(digest_of_text(f"group\n{group}")[:16], 16))


def save_keys(path: Path, keys: Sequence[Hashes], groups: Hashes) -> None:
    """Lay the distinct keys of each document of a partition on disk: (2 × keys), sorted keys over row numbers."""
    rows = [np.unique(mine ^ group) for mine, group in zip(keys, groups, strict=True)]
    owner = np.repeat(np.arange(len(rows), dtype=np.uint64), [len(row) for row in rows])
    # Mixed, so that equal slices of the range hold about equally many keys.
    values = mixed(np.concatenate([*rows, np.empty(0, np.uint64)]))
    order = np.argsort(values, kind="stable")
    np.save(path, np.stack([values[order], owner[order]]))


def repeated(
    files: Sequence[Path],
    starts: Positions,
    rank: Positions,
    group: Positions,
    least: Positions,
    keep_first: bool,
) -> Iterator[tuple[Hashes, Positions]]:
    """Slice by slice, the keys to be cut and the documents (by number) to cut each from.

    ``files`` are those of ``save_keys``, one a partition, ``starts`` the numbers of the partitions'
    first documents. Per document: its ``rank`` in the order in which the first one keeps a passage,
    and its ``group``; per group: in how many documents, at ``least``, a passage is a repeated one.
    """
    total = sum(int(np.load(file, mmap_mode="r").shape[1]) for file in files)
    slices = max(1, math.ceil(total / _KEYS_AT_A_TIME))
    bounds = [(1 << 64) * at // slices for at in range(slices)]
    for low, high in zip(bounds, [*bounds[1:], None], strict=True):
        keys, documents = _slice(files, starts, low, high)
        order = np.lexsort((rank[documents], keys))
        keys, documents = keys[order], documents[order]
        first = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]])) if len(keys) else np.empty(0, np.int64)
        counts = np.diff(np.append(first, len(keys)))
        cut = np.repeat(counts >= least[group[documents[first]]], counts)
        if keep_first:
            cut[first] = False
        yield keys[cut], documents[cut]


def _slice(files: Sequence[Path], starts: Positions, low: int, high: int | None) -> tuple[Hashes, Positions]:
    keys, documents = [np.empty(0, np.uint64)], [np.empty(0, np.int64)]
    for file, start in zip(files, starts.tolist(), strict=True):
        content = np.load(file, mmap_mode="r")
        begin = int(np.searchsorted(content[0], np.uint64(low)))
        end = content.shape[1] if high is None else int(np.searchsorted(content[0], np.uint64(high)))
        keys.append(np.array(content[0, begin:end]))
        documents.append(content[1, begin:end].astype(np.int64) + start)
    return np.concatenate(keys), np.concatenate(documents)
