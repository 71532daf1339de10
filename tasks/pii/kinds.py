"""The kinds of personal data and secrets, and what was found of them."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

Kind = Literal[
    "private_key",
    "url_credentials",
    "api_key",
    "email",
    "iban",
    "chinese_identity_number",
    "credit_card",
    "ip_address",
    "mac_address",
    "us_ssn",
    "passport",
    "chinese_mobile",
    "phone",
]
KINDS: tuple[Kind, ...] = get_args(Kind)
"""From the most to the least certain by form: of two that overlap, the earlier in this list is taken."""

PLACEHOLDERS: dict[str, str] = {
    "private_key": "<PRIVATE_KEY>",
    "url_credentials": "<CREDENTIALS>",
    "api_key": "<API_KEY>",
    "email": "<EMAIL>",
    "iban": "<IBAN>",
    "chinese_identity_number": "<ID_NUMBER>",
    "credit_card": "<CREDIT_CARD>",
    "ip_address": "<IP_ADDRESS>",
    "mac_address": "<MAC_ADDRESS>",
    "us_ssn": "<SSN>",
    "passport": "<PASSPORT>",
    "chinese_mobile": "<PHONE>",
    "phone": "<PHONE>",
}
"""What stands for each kind; an entity of the NER engine has its own name: ``<PERSON>``."""


class Found(NamedTuple):
    """Something found between two positions of a text."""

    kind: str
    start: int
    end: int


@dataclass(frozen=True)
class Form:
    """One written form of a kind, over UTF-8 bytes.

    A candidate is a match at any position of the text that passes ``check``. Patterns are bounded
    in length and possessive where a repetition could be given back, so that a try costs at most a
    constant; their classes of bytes hold ASCII only, and none matches 0xFF, which stands between
    texts that are searched together.
    """

    kind: Kind
    pattern: re.Pattern[bytes]
    """Its group ``it``, where there is one, is what is replaced."""
    check: Callable[[re.Match[bytes]], bool] = lambda match: True
    """What a form cannot say: checksums, ranges, words nearby."""

    def at(self, data: bytes, start: int) -> Found | None:
        """The candidate that begins at ``start``, in bytes."""
        match = self.pattern.match(data, start)
        if match is None or not self.check(match):
            return None
        return Found(self.kind, *match.span("it" if "it" in self.pattern.groupindex else 0))


_RANK: dict[str, int] = {kind: rank for rank, kind in enumerate(KINDS)}


def resolve(candidates: list[Found]) -> list[Found]:
    """Candidates that do not overlap, in the order of the text.

    They are taken by their start. One that overlaps the last one taken replaces it if its kind is
    more certain (see ``KINDS``; entities of an engine are the least certain), and is left out if not.
    Time n log n.
    """
    least = len(_RANK)
    taken: list[Found] = []
    for item in sorted(set(candidates), key=lambda found: (found.start, _RANK.get(found.kind, least), -found.end)):
        if not taken or item.start >= taken[-1].end:
            taken.append(item)
        elif _RANK.get(item.kind, least) < _RANK.get(taken[-1].kind, least):
            taken[-1] = item
    return taken
