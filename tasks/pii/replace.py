"""What is put in the place of personal data: a placeholder, a mask, or a pseudonym."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from tasks.pii.kinds import PLACEHOLDERS, Found

Style = Literal["placeholder", "mask", "pseudonym", "drop"]

_PSEUDONYM_BYTES = 8
"""64 bits: among a hundred million different items one pair in 3,700 corpora gets the same pseudonym."""
_SHOWN_HIDDEN = 60
"""Characters of a hidden item that a sample shows, as asterisks."""


@dataclass(frozen=True)
class Replacer:
    """How each kind is replaced."""

    styles: Mapping[str, Style]
    """By kind; a kind that is not named gets its placeholder."""
    placeholders: Mapping[str, str]
    """By kind, where it is not to be the usual one."""
    key: bytes = field(repr=False)
    """Key of the pseudonyms; never part of what is stored."""

    def style(self, kind: str) -> Style:
        """What happens to this kind."""
        return self.styles.get(kind, "placeholder")

    def __call__(self, item: Found, text: str) -> str:
        """What stands for ``text``, which is ``item``."""
        match self.style(item.kind):
            case "mask":
                return mask(item.kind, text)
            case "pseudonym":
                return pseudonym(self._placeholder(item.kind), item.kind, text, self.key)
            case _:
                return self._placeholder(item.kind)

    def _placeholder(self, kind: str) -> str:
        return self.placeholders.get(kind) or PLACEHOLDERS.get(kind, f"<{kind}>")


def spliced(data: bytes, found: Sequence[Found], replacements: Sequence[str]) -> bytes:
    """The text with each found item, in order, replaced."""
    pieces, position = [], 0
    for item, replacement in zip(found, replacements, strict=True):
        pieces += [data[position : item.start], replacement.encode("utf-8", "surrogatepass")]
        position = item.end
    return b"".join([*pieces, data[position:]])


def pseudonym(placeholder: str, kind: str, text: str, key: bytes) -> str:
    """The placeholder with a number that is the same for the same item and cannot be told without the key.

    BLAKE2b keyed (RFC 7693) over the kind and the item in one spelling, 64 bits: ``<EMAIL_5f3a…>``.
    """
    content = f"{kind}\n{_one_spelling(kind, text)}".encode("utf-8", "surrogatepass")
    digest = hashlib.blake2b(content, key=hashlib.sha512(key).digest(), digest_size=_PSEUDONYM_BYTES).hexdigest()
    return f"{placeholder[:-1]}_{digest}>" if placeholder.endswith(">") else f"{placeholder}_{digest}"


def _one_spelling(kind: str, text: str) -> str:
    if kind in ("api_key", "private_key", "url_credentials"):
        return text
    if kind in ("phone", "chinese_mobile", "credit_card", "us_ssn"):
        return re.sub("[^0-9]", "", text)
    return re.sub("[ -]", "" if kind in ("iban", "mac_address") else " ", text).casefold()


def mask(kind: str, text: str) -> str:
    """The item with asterisks for most of its letters and digits, so that its form can still be read.

    Numbers keep their last four digits, e-mail addresses and names the first letter of each part
    and the top-level domain, network addresses their first part, keys their first four characters,
    PEM blocks their first line. Passwords keep nothing.
    """
    if kind == "email":
        name, _, host = text.partition("@")
        domain, dot, top = host.rpartition(".")
        return f"{_first_of_parts(name)}@{_first_of_parts(domain)}{dot}{top}"
    if kind == "url_credentials":
        return hidden(text)
    if kind == "private_key":
        return f"{text[: text.index('-----', 5) + 5]}\n****"
    if kind == "api_key":
        return text[:4] + hidden(text[4:])
    if kind in ("ip_address", "mac_address"):
        first = re.match("[0-9A-Fa-f]*", text)
        kept = first.end() if first else 0
        return text[:kept] + hidden(text[kept:])
    if kind in PLACEHOLDERS:
        digits = [match.start() for match in re.finditer("[0-9A-Za-z]", text)]
        kept = digits[-4] if len(digits) > 6 else len(text)
        return hidden(text[:kept]) + text[kept:]
    return _first_of_parts(text)


def _first_of_parts(text: str) -> str:
    """The first letter of each word; one word of Chinese keeps its first character, the family name."""
    return re.sub(r"(\w)(\w*)", lambda match: match[1] + "*" * len(match[2]), text)


def hidden(text: str) -> str:
    """Asterisks for letters and digits of every script."""
    return re.sub(r"[^\W_]", "*", text)


def hidden_in_sample(kind: str, text: str) -> str:
    """What a sample shows of an item that must not be shown."""
    shown = hidden(text)
    return f"[{kind}: {shown if len(shown) <= _SHOWN_HIDDEN else shown[:_SHOWN_HIDDEN] + '…'}]"
