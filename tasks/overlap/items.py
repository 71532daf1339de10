"""The items of evaluation sets, as words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from storage.corpus import Documents, Examples
from tasks.copies.characters import normalised
from tasks.copies.shingles import words_of

_AT_LEAST_FOR_A_TEMPLATE = 2


@dataclass(frozen=True)
class Item:
    """A text that a document may hold a part of."""

    number: int
    """Of the document or the example that it is a text of."""
    text: str
    """As a person reads it."""
    words: list[str]


def items_of(artifact: Documents | Examples, splits: Sequence[str]) -> Iterator[Item]:
    """The items of an evaluation set: documents whole, of examples the prompt, the response, and both in a row.

    Words that all prompts of a set begin or end with are their template (``Question: … Answer:``),
    which stands in no document, and are left out.
    """
    if isinstance(artifact, Documents):
        texts = (text for table in artifact.tables(["text"]) for text in table["text"].to_pylist())
        yield from (Item(number, text, words_of(normalised(text))) for number, text in enumerate(texts))
        return
    pairs = [(row["prompt"], row["response"]) for split in splits for row in artifact.split(split).to_pylist()]
    prompts = [words_of(normalised(prompt)) for prompt, _ in pairs]
    before, after = template_of(prompts)
    for number, ((prompt, response), words) in enumerate(zip(pairs, prompts, strict=True)):
        question, answer = words[before : len(words) - after], words_of(normalised(response))
        yield Item(number, prompt, question)
        yield Item(number, response, answer)
        if question and answer:
            yield Item(number, f"{prompt}{response}", question + answer)


def template_of(prompts: Sequence[Sequence[str]]) -> tuple[int, int]:
    """How many words all prompts begin with, and how many they end with, in common; 0 for a single one."""
    distinct = sorted({tuple(words) for words in prompts})
    if len(distinct) < _AT_LEAST_FOR_A_TEMPLATE:
        return 0, 0
    # In sorted order, what neighbours have in common bounds what all have.
    before = min(_common(first, second) for first, second in pairwise(distinct))
    room = min(len(words) for words in distinct) - before
    turned = sorted(words[::-1] for words in distinct)
    return before, min(room, *(_common(first, second) for first, second in pairwise(turned)))


def _common(first: Sequence[str], second: Sequence[str]) -> int:
    """Length of the common beginning."""
    for length, (a, b) in enumerate(zip(first, second, strict=False)):
        if a != b:
            return length
    return min(len(first), len(second))
