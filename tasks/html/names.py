"""Lists of element names and words, written as one string."""

from __future__ import annotations


def names(words: str) -> tuple[str, ...]:
    """``"p li"`` as ``("p", "li")``."""
    return tuple(words.split())
