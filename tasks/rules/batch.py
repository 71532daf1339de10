"""What rules look at: many documents' texts as columns, each worked out once and only when asked for.

*Lines* and *chunks* (what stands between white space) are places in the texts' bytes (see
:mod:`~tasks.rules.content`). What has to be known of a chunk (its words, their lengths and classes) is in
the :mod:`~tasks.rules.vocabulary`, so a text becomes arrays of numbers without a Python object per
word.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from tasks.rules.content import Content
from tasks.rules.lines import Lines
from tasks.rules.segments import running, shares, sums
from tasks.rules.unspaced import isolated, may_be_unspaced
from tasks.rules.vocabulary import LETTER, PUNCTUATION, SENTENCE_END, SYMBOL, WIDE_SIGN, Vocabulary, vocabulary


class Batch:
    """Documents' texts, and their languages (ISO codes) where rules depend on them."""

    def __init__(
        self, texts: Sequence[str], languages: Sequence[str] | None = None, *, one_fault_settles: bool = False
    ) -> None:
        self.texts = list(texts)
        self.asked = np.ones(len(texts), dtype=bool)
        """Documents on which a verdict is asked; what a rule says of the others does not matter."""
        self._one_fault_settles = one_fault_settles
        self.languages = np.array(languages if languages is not None else ["und"] * len(texts), dtype=object)
        self._shared = vocabulary()

    def __len__(self) -> int:
        return len(self.texts)

    def settle(self, faulty: np.ndarray) -> None:
        """Ask no more about documents with a fault, if one is enough."""
        if self._one_fault_settles:
            self.asked &= ~faulty

    @cached_property
    def content(self) -> Content:
        """The bytes of the texts."""
        return Content(self.texts)

    @cached_property
    def characters(self) -> np.ndarray:
        """Characters of each text."""
        return np.fromiter(map(len, self.texts), dtype=np.int64, count=len(self))

    def count(self, *signs: str) -> np.ndarray:
        """How often one of the strings occurs in each text."""
        counts = np.zeros(len(self), dtype=np.int64)
        for sign in signs:
            places, bounds = self.content.all_of(sign), self.content.bounds
            texts = np.searchsorted(bounds, places, side="right") - 1
            within = np.bincount(texts[places + len(sign.encode()) <= bounds[texts + 1]], minlength=len(self))
            if len(set(sign)) < len(sign):  # occurrences may overlap, and only some of them count
                for text in within.nonzero()[0].tolist():
                    within[text] = self.texts[text].count(sign)
            counts += within
        return counts

    def contain(self, phrases: Sequence[str]) -> np.ndarray:
        """Which texts contain one of the phrases, in any case."""
        made = np.zeros(len(self), dtype=bool)
        for phrase in phrases:
            if phrase.isascii():
                made[list(self.content.texts_with(phrase))] = True
            else:
                made |= [phrase.lower() in text.lower() for text in self.texts]
        return made

    @property
    def lines(self) -> Lines:
        """What newlines separate, blank lines too."""
        return self.content.lines

    @cached_property
    def printed_lines(self) -> Lines:
        """Lines that are not blank."""
        return self.lines.where(self.lines.printed)

    # Chunks: what stands between white space

    @cached_property
    def _spaced(self) -> Content:
        """The content with spaces around the letters of scripts without them."""
        content = self.content
        unspaced = may_be_unspaced(content.bytes, content.bounds)
        if unspaced.any():
            spaced = [isolated(text) if may_be else text for text, may_be in zip(self.texts, unspaced, strict=True)]
            if any(new is not text for new, text in zip(spaced, self.texts, strict=True)):
                content = Content(spaced)
        return content

    @cached_property
    def chunks(self) -> np.ndarray:
        """The number of every chunk in the vocabulary."""
        return self._shared.numbers_of(self._spaced, *self._spaced.chunks)

    @property
    def _chunk_bounds_of_lines(self) -> np.ndarray:
        return self._spaced.lines.chunk_bounds

    @cached_property
    def _vocabulary(self) -> Vocabulary:
        """The vocabulary, which knows all chunks of this batch."""
        assert len(self.chunks) == len(self._spaced.chunks[0])
        return self._shared

    @cached_property
    def chunk_bounds(self) -> np.ndarray:
        """Where each document's chunks begin, and the end."""
        return self._chunk_bounds_of_lines[self.lines.bounds]

    @cached_property
    def chunks_of_lines(self) -> np.ndarray:
        """Chunks of each line."""
        return np.diff(self._chunk_bounds_of_lines)

    def per_line(self, of_chunks: np.ndarray) -> np.ndarray:
        """Sums over the chunks of each line."""
        return sums(of_chunks, self._chunk_bounds_of_lines)

    @cached_property
    def chunk_lengths(self) -> np.ndarray:
        """Characters of every chunk."""
        return self._spaced.characters(*self._spaced.chunks)

    def has_chunks_longer_than(self, most: int) -> bool:
        """Whether there may be chunks of more characters; bytes are counted, which is quicker."""
        starts, ends = self._spaced.chunks
        return bool(((ends - starts) > most).any())

    @cached_property
    def printed(self) -> np.ndarray:
        """Characters of each text that are not white space."""
        return sums(self.chunk_lengths, self.chunk_bounds)

    @cached_property
    def letters(self) -> np.ndarray:
        """Letters of each text."""
        return sums(self._spaced.are_letters, self._spaced.bounds)

    # Words: chunks with their punctuation split off

    @cached_property
    def _words(self) -> tuple[np.ndarray, np.ndarray]:
        """Numbers of the words, and the bounds of each line's."""
        known = self._vocabulary
        counts = known.count.take(self.chunks)
        ends = running(counts)
        places = np.repeat(known.first.take(self.chunks) - ends[:-1], counts)
        places += np.arange(len(places))
        words = known.parts.take(places)
        bounds = ends.take(self._chunk_bounds_of_lines)
        flags = known.flags.take(words)
        if (flags & WIDE_SIGN).any():
            words, bounds = self._without_wide_signs(words, bounds, flags)
        return words, bounds

    def _without_wide_signs(
        self, words: np.ndarray, bounds: np.ndarray, flags: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """In texts without spaces punctuation is no word."""
        document_bounds = bounds[self.lines.bounds]
        unspaced = sums((flags & LETTER) > 0, document_bounds) > 0.5 * np.diff(document_bounds)
        if not unspaced.any():
            return words, bounds
        of_unspaced = np.repeat(unspaced, np.diff(document_bounds))
        kept = ~(((flags & WIDE_SIGN) > 0) & of_unspaced)
        return words[kept], running(kept)[bounds]

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
        return self._vocabulary.flags.take(self.words)

    @cached_property
    def word_lengths(self) -> np.ndarray:
        """Characters of every word."""
        return self._vocabulary.word_length.take(self.words)

    @cached_property
    def spellings(self) -> np.ndarray:
        """A hash of every word's characters (see :mod:`tasks.rules.runs`); uint64."""
        return self._vocabulary.spelling.take(self.words)

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
        weights = np.where(counted, self._vocabulary.weight.take(self.words), 0.0)
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

    def words_outside(self, least: int, most: int) -> np.ndarray:
        """Which documents have fewer or more words (that are not mere symbols).

        Words are told apart only where a document is so short, or so long, that their number is in question.
        """
        if "_words" in self.__dict__:
            return (self.word_counts < least) | (self.word_counts > most)
        # A chunk with a letter or digit holds a word; a word has a character at least, and counts for one at most.
        sure = sums(self._spaced.have_words, self.chunk_bounds)
        open_ = np.flatnonzero((sure < least) | (self.printed > most))
        made = np.zeros(len(self), dtype=bool)
        if len(open_):
            few = Batch([self.texts[index] for index in open_.tolist()])
            made[open_] = (few.word_counts < least) | (few.word_counts > most)
        return made

    @cached_property
    def words_of_lines(self) -> np.ndarray:
        """Words of each line: what spaces separate, estimated in scripts without spaces."""
        counts = self.chunks_of_lines
        if not self.is_unspaced.any():
            return counts
        unspaced = self.is_unspaced[self.lines.documents]
        weights = np.where((self.flags & SYMBOL) == 0, self._vocabulary.weight.take(self.words), 0.0)
        return np.where(unspaced, np.rint(sums(weights, self.word_bounds_of_lines)), counts)

    def has_words(self, words: Sequence[str]) -> np.ndarray:
        """Which documents (rows) have which words (columns); bool."""
        made = np.zeros((len(self), len(words)), dtype=bool)
        table = np.full(int(self.words.max(initial=0)) + 1, -1)
        for column, word in enumerate(words):
            if 0 <= (number := self._vocabulary.number_of_word(word)) < len(table):
                table[number] = column
        found = table.take(self.words)
        places = (found >= 0).nonzero()[0]
        made[np.repeat(np.arange(len(self)), self.pieces).take(places), found.take(places)] = True
        return made

    @cached_property
    def sentences_of_lines(self) -> np.ndarray:
        """Sentences of each line; a blank one has none."""
        return count_sentences(self.flags, self.word_bounds_of_lines)


def count_sentences(flags: np.ndarray, bounds: np.ndarray) -> np.ndarray:
    """Sentences in each segment of words: a new one begins with the first word after a mark that ends one."""
    is_end = (flags & SENTENCE_END) > 0
    content = ((flags & (PUNCTUATION | SENTENCE_END)) == 0).nonzero()[0]
    marks = is_end.nonzero()[0]
    # The first content word behind each mark, if it stands in the same segment, begins a sentence; several marks may
    # precede one word.
    segment = np.repeat(np.arange(len(bounds) - 1), np.diff(bounds))
    after = np.searchsorted(content, marks)
    marks, after = marks[after < len(content)], content[after[after < len(content)]]
    begins = np.unique(after[segment[marks] == segment[after]])
    found = np.bincount(segment[begins], minlength=len(bounds) - 1)
    return np.where(np.diff(bounds) > 0, 1 + found, 0)
