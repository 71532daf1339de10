"""What rules look at: many documents' texts as columns, each worked out once and only when asked for.

*Lines* are cut and compared by Arrow's kernels; *chunks* (what stands between white space) are cut
and numbered by them. What has to be known of a chunk (its words, their lengths and classes) is in
the :mod:`~tasks.rules.vocabulary`, so a text becomes arrays of numbers without a Python object per
word. Sums per document and per line are differences of cumulative sums.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks.rules.hashes import first_of, mixed
from tasks.rules.unspaced import isolated, may_be_unspaced
from tasks.rules.vocabulary import LETTER, PUNCTUATION, SENTENCE_END, SYMBOL, WIDE_SIGN, Vocabulary, vocabulary


def sums(values: np.ndarray, bounds: np.ndarray) -> np.ndarray:
    """Sums of ``values[bounds[i] : bounds[i + 1]]``; segments may be empty."""
    dtype = np.float64 if values.dtype.kind == "f" else np.int64
    running = np.concatenate([np.zeros(1, dtype), np.cumsum(values, dtype=dtype)])
    return running[bounds[1:]] - running[bounds[:-1]]


def shares(counts: np.ndarray, totals: np.ndarray) -> np.ndarray:
    """Quotients; 0 where there is nothing to divide by."""
    return np.divide(counts, totals, out=np.zeros(len(counts)), where=totals > 0)


class Lines:
    """Parts of the documents (lines, paragraphs), as an Arrow array of all, and the bounds of each document's."""

    def __init__(self, values: pa.Array, bounds: np.ndarray) -> None:
        self.values = values
        self.bounds = bounds

    @classmethod
    def of(cls, lists: pa.Array) -> Lines:
        return cls(lists.flatten(), np.asarray(lists.offsets).astype(np.int64))

    @cached_property
    def counts(self) -> np.ndarray:
        """Lines of each document."""
        return np.diff(self.bounds)

    @cached_property
    def documents(self) -> np.ndarray:
        """The document of each line."""
        return np.repeat(np.arange(len(self.counts)), self.counts)

    @cached_property
    def lengths(self) -> np.ndarray:
        """Characters of each line."""
        return np.asarray(pc.utf8_length(self.values)).astype(np.int64)

    @cached_property
    def stripped(self) -> pa.Array:
        return pc.utf8_trim_whitespace(self.values)

    @cached_property
    def printed(self) -> np.ndarray:
        """Which lines are not blank."""
        return np.asarray(pc.binary_length(self.stripped)) > 0

    @cached_property
    def numbers(self) -> np.ndarray:
        """A number for each line that equal lines of one document share."""
        same = np.asarray(pc.dictionary_encode(self.values).indices).astype(np.int64)
        return self.documents * (int(same.max(initial=0)) + 1) + same

    @cached_property
    def repeated(self) -> np.ndarray:
        """Which lines stood in their document before."""
        return first_of(mixed(self.numbers)) != np.arange(len(self.numbers))

    def where(self, mask: np.ndarray) -> Lines:
        """Only some of the lines."""
        running = np.concatenate([[0], np.cumsum(mask)])
        return Lines(self.values.filter(pa.array(mask)), running[self.bounds])

    def sums(self, values: np.ndarray) -> np.ndarray:
        return sums(values, self.bounds)

    def start_with(self, *starts: str) -> np.ndarray:
        """Which stripped lines start so."""
        return _any(len(self.stripped), [pc.starts_with(self.stripped, start) for start in starts])

    def end_with(self, *ends: str, stripped: bool = True) -> np.ndarray:
        """Which lines end so."""
        values = self.stripped if stripped else self.values
        return _any(len(values), [pc.ends_with(values, end) for end in ends])


def offsets_of(texts: pa.Array) -> np.ndarray:
    """Where the bytes of each text (large strings) begin, and the end; int64."""
    return np.frombuffer(texts.buffers()[1], dtype=np.int64)[: len(texts) + 1]


def content_of(texts: pa.Array) -> np.ndarray:
    """The bytes of all texts (large strings); uint8."""
    return np.frombuffer(texts.buffers()[2] or b"", dtype=np.uint8)[: offsets_of(texts)[-1]]


def _documents_with(phrase: bytes, content: bytes, bounds: np.ndarray) -> Iterator[int]:
    """Which segments of the content have the phrase; each is looked for once in all."""
    at = content.find(phrase) if phrase else -1
    while at >= 0:
        segment = int(np.searchsorted(bounds, at, side="right")) - 1
        if at + len(phrase) <= bounds[segment + 1]:
            yield segment
            at = int(bounds[segment + 1]) - 1
        at = content.find(phrase, at + 1)


def _any(length: int, masks: Sequence[pa.Array]) -> np.ndarray:
    found = np.zeros(length, dtype=bool)
    for mask in masks:
        found |= np.asarray(mask)
    return found


class Batch:
    """Documents' texts, and their languages (ISO codes) where rules depend on them."""

    def __init__(self, texts: Sequence[str], languages: Sequence[str] | None = None) -> None:
        self.texts = list(texts)
        self.languages = np.array(languages if languages is not None else ["und"] * len(texts), dtype=object)
        self._shared = vocabulary()

    def __len__(self) -> int:
        return len(self.texts)

    @cached_property
    def array(self) -> pa.Array:
        return pa.array(self.texts, pa.large_string())

    @cached_property
    def characters(self) -> np.ndarray:
        """Characters of each text."""
        return np.fromiter(map(len, self.texts), dtype=np.int64, count=len(self))

    def count(self, *signs: str) -> np.ndarray:
        """How often one of the strings occurs in each text."""
        counts = np.zeros(len(self), dtype=np.int64)
        for sign in signs:
            counts += np.array([text.count(sign) for text in self.texts], dtype=np.int64)
        return counts

    @cached_property
    def _lowered(self) -> bytes:
        """All texts in UTF-8, their ASCII letters in lower case: many times faster than all letters."""
        return content_of(self.array).tobytes().lower()

    def contain(self, phrases: Sequence[str]) -> np.ndarray:
        """Which texts contain one of the phrases, in any case."""
        made = np.zeros(len(self), dtype=bool)
        bounds = offsets_of(self.array)
        for phrase in phrases:
            if phrase.isascii():
                made[list(_documents_with(phrase.lower().encode(), self._lowered, bounds))] = True
            else:
                made |= [phrase.lower() in text.lower() for text in self.texts]
        return made

    @cached_property
    def lines(self) -> Lines:
        """What newlines separate, blank lines too."""
        return Lines.of(pc.split_pattern(self.array, "\n"))

    @cached_property
    def printed_lines(self) -> Lines:
        """Lines that are not blank."""
        return self.lines.where(self.lines.printed)

    # Chunks: what stands between white space

    @cached_property
    def _chunks(self) -> tuple[np.ndarray, np.ndarray]:
        """Numbers of the chunks, and the bounds of each line's."""
        lines = self.lines.values
        unspaced = may_be_unspaced(self.array)
        if unspaced.any():
            spaced = [isolated(text) if may_be else text for text, may_be in zip(self.texts, unspaced, strict=True)]
            lines = pc.split_pattern(pa.array(spaced, pa.large_string()), "\n").flatten()
        lists = pc.utf8_split_whitespace(lines)
        encoded = pc.dictionary_encode(lists.flatten())
        distinct = encoded.dictionary.to_pylist()
        numbers = self._shared.numbers_of(distinct)
        indices = np.asarray(encoded.indices)
        bounds = np.asarray(lists.offsets).astype(np.int64)
        if "" in distinct:  # stands for the beginning and end of a line that are blank
            kept = indices != distinct.index("")
            bounds = np.concatenate([[0], np.cumsum(kept)])[bounds]
            indices = indices[kept]
        return numbers[indices], bounds

    @cached_property
    def _vocabulary(self) -> Vocabulary:
        """The vocabulary, which knows all chunks of this batch."""
        assert len(self._chunks) == 2
        return self._shared

    @cached_property
    def chunks(self) -> np.ndarray:
        """The number of every chunk in the vocabulary."""
        return self._chunks[0]

    @cached_property
    def chunk_bounds(self) -> np.ndarray:
        """Where each document's chunks begin, and the end."""
        return self._chunks[1][self.lines.bounds]

    @cached_property
    def chunks_of_lines(self) -> np.ndarray:
        """Chunks of each line."""
        return np.diff(self._chunks[1])

    def per_line(self, of_chunks: np.ndarray) -> np.ndarray:
        """Sums over the chunks of each line."""
        return sums(of_chunks, self._chunks[1])

    @cached_property
    def chunk_lengths(self) -> np.ndarray:
        return self._vocabulary.length[self.chunks]

    @cached_property
    def printed(self) -> np.ndarray:
        """Characters of each text that are not white space."""
        return sums(self.chunk_lengths, self.chunk_bounds)

    @cached_property
    def letters(self) -> np.ndarray:
        """Letters of each text."""
        return sums(self._vocabulary.letters[self.chunks], self.chunk_bounds)

    # Words: chunks with their punctuation split off

    @cached_property
    def _words(self) -> tuple[np.ndarray, np.ndarray]:
        """Numbers of the words, and the bounds of each line's."""
        known = self._vocabulary
        counts = known.count[self.chunks]
        ends = np.cumsum(counts)
        starts = np.repeat(known.first[self.chunks] - (ends - counts), counts)
        words = known.parts[starts + np.arange(len(starts))]
        bounds = np.concatenate([[0], ends])[self._chunks[1]]
        flags = known.flags[words]
        if (flags & WIDE_SIGN).any():
            words, bounds = self._without_wide_signs(words, bounds, flags)
        return words, bounds

    def _without_wide_signs(
        self, words: np.ndarray, bounds: np.ndarray, flags: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """In texts without spaces punctuation is no word."""
        document_bounds = bounds[self.lines.bounds]
        unspaced = sums((flags & LETTER) > 0, document_bounds) > 0.5 * np.diff(document_bounds)
        of_unspaced = np.repeat(unspaced, np.diff(document_bounds))
        kept = ~(((flags & WIDE_SIGN) > 0) & of_unspaced)
        return words[kept], np.concatenate([[0], np.cumsum(kept)])[bounds]

    @cached_property
    def words(self) -> np.ndarray:
        """The number of every word in the vocabulary; letters of scripts without spaces count singly."""
        return self._words[0]

    @cached_property
    def word_bounds(self) -> np.ndarray:
        """Where each document's words begin, and the end."""
        return self._words[1][self.lines.bounds]

    @cached_property
    def word_bounds_of_lines(self) -> np.ndarray:
        return self._words[1]

    @cached_property
    def flags(self) -> np.ndarray:
        """Flags of every word (see the vocabulary)."""
        return self._vocabulary.flags[self.words]

    @cached_property
    def word_lengths(self) -> np.ndarray:
        """Characters of every word."""
        return self._vocabulary.word_length[self.words]

    @cached_property
    def spellings(self) -> np.ndarray:
        """A hash of every word's characters (see :mod:`tasks.rules.runs`); uint64."""
        return self._vocabulary.spelling[self.words]

    @cached_property
    def pieces(self) -> np.ndarray:
        """Words of each document, letters of scripts without spaces counted singly, symbols too."""
        return np.diff(self.word_bounds)

    @cached_property
    def tokens(self) -> np.ndarray:
        """Words of each document, estimated in scripts without spaces, symbols too; float64."""
        return self._estimated(np.ones(len(self.words), dtype=bool))

    @cached_property
    def exact_word_counts(self) -> np.ndarray:
        """Words of each document that are not mere symbols, estimated in scripts without spaces; float64."""
        return self._estimated((self.flags & SYMBOL) == 0)

    def _estimated(self, counted: np.ndarray) -> np.ndarray:
        if not (self.flags & LETTER).any():
            return sums(counted, self.word_bounds).astype(np.float64)
        weights = np.where(counted, self._vocabulary.weight[self.words], 0.0)
        return sums(weights, self.word_bounds)

    @cached_property
    def word_counts(self) -> np.ndarray:
        """Words of each document that are not mere symbols, to the nearest whole number."""
        return np.rint(self.exact_word_counts).astype(np.int64)

    @cached_property
    def is_spaced_word(self) -> np.ndarray:
        """Which words are neither symbols nor letters of scripts without spaces."""
        return (self.flags & (SYMBOL | LETTER)) == 0

    @cached_property
    def spaced_words(self) -> np.ndarray:
        """Words of each document that spaces separate."""
        return sums(self.is_spaced_word, self.word_bounds)

    @cached_property
    def is_unspaced(self) -> np.ndarray:
        """Which documents are mostly in scripts without spaces."""
        return self.exact_word_counts - self.spaced_words > self.spaced_words

    @cached_property
    def pieces_per_word(self) -> np.ndarray:
        """How many pieces a word has: 1, and more in documents in scripts without spaces; float64."""
        return np.where(self.is_unspaced, shares(self.pieces.astype(np.float64), self.tokens), 1.0)

    @cached_property
    def words_of_lines(self) -> np.ndarray:
        """Words of each line: what spaces separate, estimated in scripts without spaces."""
        counts = self.chunks_of_lines
        if not self.is_unspaced.any():
            return counts
        unspaced = self.is_unspaced[self.lines.documents]
        weights = np.where((self.flags & SYMBOL) == 0, self._vocabulary.weight[self.words], 0.0)
        return np.where(unspaced, np.rint(sums(weights, self.word_bounds_of_lines)), counts)

    def has_words(self, words: Sequence[str]) -> np.ndarray:
        """Which documents (rows) have which words (columns); bool."""
        made = np.zeros((len(self), len(words)), dtype=bool)
        table = np.full(int(self.words.max(initial=0)) + 1, -1)
        for column, word in enumerate(words):
            if 0 <= (number := self._vocabulary.number_of_word(word)) < len(table):
                table[number] = column
        found = table[self.words]
        places = np.flatnonzero(found >= 0)
        made[np.searchsorted(self.word_bounds, places, side="right") - 1, found[places]] = True
        return made

    @cached_property
    def sentences_of_lines(self) -> np.ndarray:
        """Sentences of each line; a blank one has none."""
        return count_sentences(self.flags, self.word_bounds_of_lines)


def count_sentences(flags: np.ndarray, bounds: np.ndarray) -> np.ndarray:
    """Sentences in each segment of words: a new one begins with the first word after a mark that ends one."""
    is_end = (flags & SENTENCE_END) > 0
    ends = np.concatenate([[0], np.cumsum(is_end)])
    content = np.flatnonzero(~is_end & ((flags & PUNCTUATION) == 0))
    segment = np.repeat(np.arange(len(bounds) - 1), np.diff(bounds))[content]
    # Marks since the content word before, or since the segment's beginning.
    previous = np.concatenate([[-1], content[:-1]])
    since = ends[np.maximum(previous + 1, bounds[segment])]
    begins = ends[content] > since
    found = np.bincount(segment[begins], minlength=len(bounds) - 1)
    return np.where(np.diff(bounds) > 0, 1 + found, 0)
