"""How far judges agree, and what a sample says about all documents."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any, NamedTuple

Ratings = Mapping[str, Mapping[str, str]]
"""Judge → document → what the judge says of it."""

_Z = 1.959963984540054
"""Of the normal distribution, 95 % lies within so many standard deviations."""


def agreement(ratings: Ratings) -> dict[str, Any]:
    """Agreement of every two judges (Cohen's kappa), and of all (Fleiss' kappa), on the documents that they share.

    ``agreement`` is the share of documents of which two judges say the same. A kappa is null where
    chance alone would make all agree, since then there is nothing to measure.
    """
    pairs: list[dict[str, Any]] = []
    for one, other in combinations(sorted(ratings), 2):
        shared = sorted(ratings[one].keys() & ratings[other].keys())
        if shared:
            first, second = [ratings[one][d] for d in shared], [ratings[other][d] for d in shared]
            same = sum(a == b for a, b in zip(first, second, strict=True)) / len(shared)
            kappa = cohen(first, second)
            pairs.append({"judges": [one, other], "documents": len(shared), "agreement": _round(same), "kappa": kappa})
    found: dict[str, Any] = {"judges": {judge: len(said) for judge, said in sorted(ratings.items())}, "pairs": pairs}
    if pairs:
        shared_by_pairs = sum(pair["documents"] for pair in pairs)
        found["agreement"] = _round(sum(p["agreement"] * p["documents"] for p in pairs) / shared_by_pairs)
    everyone = sorted(set.intersection(*(set(said) for said in ratings.values()))) if len(ratings) > 1 else []
    if everyone:
        found["documents_of_all_judges"] = len(everyone)
        found["fleiss_kappa"] = fleiss([Counter(said[document] for said in ratings.values()) for document in everyone])
    return found


def cohen(first: Sequence[str], second: Sequence[str]) -> float | None:
    """Kappa of two judges who rated the same things (Cohen 1960, "A coefficient of agreement for nominal scales")."""
    total = len(first)
    same = sum(a == b for a, b in zip(first, second, strict=True)) / total
    ones, others = Counter(first), Counter(second)
    by_chance = sum(ones[word] * others[word] for word in ones) / total**2
    return _kappa(same, by_chance)


def fleiss(counts: Sequence[Mapping[str, int]]) -> float | None:
    """Kappa of n judges who all rated the same things (Fleiss 1971, "Measuring nominal scale agreement").

    ``counts`` holds for each thing how many judges said what; the same number of judges for each.
    """
    judges = sum(counts[0].values())
    same = sum(sum(n * (n - 1) for n in said.values()) for said in counts) / (len(counts) * judges * (judges - 1))
    overall: Counter[str] = Counter()
    for said in counts:
        overall.update(said)
    by_chance = sum((n / (len(counts) * judges)) ** 2 for n in overall.values())
    return _kappa(same, by_chance)


def _kappa(same: float, by_chance: float) -> float | None:
    return None if math.isclose(by_chance, 1) else _round((same - by_chance) / (1 - by_chance))


class Estimate(NamedTuple):
    """A share of all documents, estimated from judged ones."""

    share: float
    low: float
    high: float
    """With 95 % confidence the share is between these."""
    judged: int

    def as_json(self) -> dict[str, float]:
        return {**{name: _round(value) for name, value in self._asdict().items()}, "judged": self.judged}


def estimate(hits: Sequence[bool], weights: Sequence[float]) -> Estimate:
    """The share of hits, each judged document standing for ``weight`` documents.

    The interval is Wilson's (1927, "Probable inference, the law of succession, and statistical
    inference"), for as many documents as the weights leave worth: (Σ w)² ÷ Σ w² (Kish 1965,
    "Survey sampling", section 11.7). With equal weights that is their number.
    """
    share = sum(weight for hit, weight in zip(hits, weights, strict=True) if hit) / sum(weights)
    worth = sum(weights) ** 2 / sum(weight**2 for weight in weights)
    low, high = wilson(share, worth)
    return Estimate(share, low, high, len(hits))


def wilson(share: float, number: float) -> tuple[float, float]:
    """The 95 % interval of a share that was seen in ``number`` draws."""
    middle = (share + _Z**2 / (2 * number)) / (1 + _Z**2 / number)
    reach = _Z / (1 + _Z**2 / number) * math.sqrt(share * (1 - share) / number + _Z**2 / (4 * number**2))
    return max(0.0, middle - reach), min(1.0, middle + reach)


def _round(value: float) -> float:
    return round(value, 6)
