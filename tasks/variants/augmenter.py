"""Making new texts from a document by all methods, and judging them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from tasks.copies.characters import normalised
from tasks.networks import Device
from tasks.variants.closeness import Encoder
from tasks.variants.lexicon import Lexicon
from tasks.variants.settings import AnyMethod, Closeness, Synonyms
from tasks.variants.translation import Translator

_DIGITS = 4
"""Decimal places of a similarity: what differs behind them differs with the machine."""


@dataclass(frozen=True)
class Work:
    """All that new texts follow from, beside the document."""

    methods: tuple[AnyMethod, ...]
    closeness: Closeness
    seed: int
    device: Device
    lexicons: tuple[str, ...]
    """Files of the methods with a lexicon, in the methods' order."""
    networks: tuple[tuple[str, str], ...]
    """Place in the task's settings, and folder."""


@dataclass(frozen=True)
class Variant:
    """What a method made of a document."""

    method: str
    text: str | None
    similarity: float = 0.0
    rejected: str | None = None
    """Why it is not kept: ``nothing_replaced``, ``empty``, ``same`` (as its source or another), ``not_close``."""


class Augmenter:
    """The methods of a task, with their lexicons and networks opened."""

    def __init__(self, work: Work) -> None:
        import torch

        torch.set_num_threads(1)  # the cores have a worker each, and sums do not depend on how many there are
        self._settings = work.methods
        self._closeness = work.closeness
        self._seed = work.seed
        self._opened: list[Lexicon | tuple[Translator, Translator]] = []
        networks, lexicons = dict(work.networks), iter(work.lexicons)
        for number, method in enumerate(work.methods):
            if isinstance(method, Synonyms):
                self._opened.append(Lexicon.read(Path(next(lexicons))))
                continue
            place = f"methods[{number}]"
            there = Path(networks[f"{place}.forward"]), work.device, method.beams, method.forward_prefix
            back = Path(networks[f"{place}.backward"]), work.device, method.beams, method.backward_prefix
            self._opened.append((Translator.load(*there), Translator.load(*back)))
        self._encoder = Encoder.load(Path(networks["closeness.model"]), work.device)

    def variants(self, document: dict[str, Any]) -> list[Variant]:
        """What the methods make of a document, those that are to be kept and those that are not."""
        text, closeness = document["text"], self._closeness
        source = None
        known = {normalised(text)}
        found = []
        for method, made in self._made(document):
            if made is None or not made.strip():
                found.append(Variant(method, None, rejected="nothing_replaced" if made is None else "empty"))
                continue
            if normalised(made) in known:
                found.append(Variant(method, None, rejected="same"))
                continue
            known.add(normalised(made))
            source = source or self._encoder.embedded(text)
            similarity = self._encoder.closeness(closeness.measure, source, self._encoder.embedded(made))
            similarity = round(similarity, _DIGITS)
            far = similarity < closeness.at_least
            found.append(Variant(method, made, similarity, "not_close" if far else None))
        return found

    def _made(self, document: dict[str, Any]) -> Iterator[tuple[str, str | None]]:
        """Name of the method and new text, None where a lexicon has none of the words."""
        for number, (settings, opened) in enumerate(zip(self._settings, self._opened, strict=True)):
            if settings.languages and document["language"] not in settings.languages:
                continue
            if isinstance(settings, Synonyms):
                assert isinstance(opened, Lexicon)
                for variant in range(settings.variants):
                    chance = random.Random(f"{self._seed}/{document['id']}/{number}/{variant}")  # noqa: S311
                    yield settings.kind, opened.replaced(document["text"], settings.share, chance)
            else:
                assert isinstance(opened, tuple)
                there, back = opened
                yield settings.kind, back.translated(there.translated(document["text"]))


@lru_cache(maxsize=1)
def opened(work: Work) -> Augmenter:
    """The augmenter of this work, opened once per worker."""
    return Augmenter(work)
