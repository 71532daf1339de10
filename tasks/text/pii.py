"""Personal data in text: what it looks like, and what only looks like it.

One pass over the text finds candidates by their form; each kind then checks what a form cannot say
(checksums, ranges, dates). Every pattern starts at a token's boundary and is bounded in length, with
possessive repetition, so the pass is linear on any input. Boundaries are those of ASCII words:
Chinese text writes numbers between its characters without spaces.

Left alone on purpose: loopback (127.0.0.0/8, ::1), unspecified (0.0.0.0, ::), broadcast addresses and
netmasks; version and section numbers that look like IPv4 addresses; slices and scope operators that
look like IPv6 (``x[::2]``, ``a::b``); card-like numbers without a card's prefix, length and checksum
(ISBNs among them); dates; hosts without a domain (``user@localhost``) and ``git@`` remotes.
"""

from __future__ import annotations

import ipaddress
import re
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import date
from typing import Literal, NamedTuple, get_args

Kind = Literal["email", "phone", "chinese_mobile", "ip_address", "credit_card", "chinese_identity_number"]
KINDS: tuple[Kind, ...] = get_args(Kind)

PLACEHOLDERS: dict[Kind, str] = {
    "email": "<EMAIL>",
    "phone": "<PHONE>",
    "chinese_mobile": "<PHONE>",
    "ip_address": "<IP_ADDRESS>",
    "credit_card": "<CREDIT_CARD>",
    "chinese_identity_number": "<ID_NUMBER>",
}


class Found(NamedTuple):
    """Personal data between two character positions of a text."""

    kind: Kind
    start: int
    end: int


_NUMBER_STARTS = r"(?<![0-9A-Za-z_])(?<![0-9A-Za-z][-.:])(?<![0-9]/)"
_NUMBER_ENDS = r"(?![0-9A-Za-z_])(?![-.:/][0-9])"
_EXTENSION = r"(?:[ ]?(?:x|ext\.?)[ ]?[0-9]{1,6})?"
_SPOKEN = (
    r"(?i:telephone|phone|mobile|cell|tel|fax|whatsapp|电话|電話|手机|手機|联系方式|传真|热线|座机)"
    r"(?i:\ number|\ no\.?|号码|号)?[.:：\ ]{0,3}"
)

# Per kind, forms in the order in which they are tried; the group "it", where there is one, is what is replaced.
_FORMS: tuple[tuple[Kind, str], ...] = (
    (
        "email",
        r"(?<![A-Za-z0-9._%+\-])[A-Za-z0-9_][A-Za-z0-9._%+\-]{0,63}+@(?:[A-Za-z0-9\-]{1,63}+\.){1,8}[A-Za-z]{2,24}"
        r"(?![A-Za-z0-9_@])",
    ),
    ("chinese_identity_number", rf"{_NUMBER_STARTS}[1-8][0-9]{{16}}[0-9Xx]{_NUMBER_ENDS}"),
    (
        "credit_card",
        rf"{_NUMBER_STARTS}[1-6](?:[0-9]{{12,18}}|[0-9]{{3}}[ \-](?:[0-9]{{6}}[ \-][0-9]{{4,5}}"
        rf"|[0-9]{{4}}[ \-][0-9]{{4}}[ \-][0-9]{{4}}(?:[ \-][0-9]{{3}}(?![0-9]))?)){_NUMBER_ENDS}",
    ),
    ("ip_address", rf"{_NUMBER_STARTS}[0-9]{{1,3}}(?:\.[0-9]{{1,3}}){{3}}(?![0-9A-Za-z_])(?![-.][0-9])"),
    ("ip_address", r"(?<![0-9A-Za-z_:.])(?=[0-9A-Fa-f]{0,4}:)[0-9A-Fa-f:]{6,39}+(?![0-9A-Za-z_:])"),
    (
        "chinese_mobile",
        rf"(?:(?<![0-9A-Za-z_+])(?:\+|00)86[ \-]?|{_NUMBER_STARTS}(?:86[ \-])?)"
        rf"1[3-9][0-9](?:[0-9]{{8}}|[ \-][0-9]{{4}}[ \-][0-9]{{4}}){_NUMBER_ENDS}",
    ),
    ("phone", rf"(?<![0-9A-Za-z_+])\+[1-9](?:[ .()\-]{{0,2}}+[0-9]){{7,14}}+{_EXTENSION}{_NUMBER_ENDS}"),
    (
        "phone",  # North America: 415-555-0132, (415) 555-0132 x12, 001-415-555-0132
        rf"{_NUMBER_STARTS}(?:(?:001|1)[ .\-])?(?:\([2-9][0-9]{{2}}\)[ \-]?|[2-9][0-9]{{2}}(?P<s>[.\-]))[2-9][0-9]{{2}}"
        rf"[.\-][0-9]{{4}}{_EXTENSION}{_NUMBER_ENDS}",
    ),
    (
        "phone",  # China: 010-62345678, (0571)87654321-801, 400-810-1234
        rf"{_NUMBER_STARTS}(?:(?:[(（]0(?:10|2[0-9]|[3-9][0-9]{{2}})[)）][ \-]?|0(?:10|2[0-9]|[3-9][0-9]{{2}})[\-\ —])"
        rf"[2-9][0-9]{{6,7}}(?:-[0-9]{{1,5}})?|[48]00-(?:[0-9]{{3}}-[0-9]{{4}}|[0-9]{{4}}-[0-9]{{3}})){_NUMBER_ENDS}",
    ),
    (
        "phone",  # others, with the trunk prefix: 020 7946 0958, (01) 42 68 53 00, 01.42.68.53.00
        rf"{_NUMBER_STARTS}(?:\(0[0-9]{{1,4}}\)|0[0-9]{{1,4}})"
        rf"(?:[ \-][0-9]{{6,8}}|[ \-][0-9]{{2,4}}(?:[ \-][0-9]{{2,4}}){{1,3}}+|(?:\.[0-9]{{2}}){{4}}){_NUMBER_ENDS}",
    ),
    ("phone", rf"(?<![A-Za-z0-9_]){_SPOKEN}(?P<it>[+(]{{0,2}}[0-9](?:[ .()\-]{{0,2}}+[0-9]){{6,14}}+){_NUMBER_ENDS}"),
)


def _named(index: int, form: str) -> str:
    """The form as a group of the combined pattern; its own group names made unique."""
    return f"(?P<form{index}>{form.replace('(?P<it>', f'(?P<it{index}>').replace('(?P<s>', f'(?P<s{index}>')})"


_SINGLE = [re.compile(form) for _, form in _FORMS]
_MAY_START = r"(?=[0-9A-Za-z_+(（:])(?<![A-Za-z0-9_](?=[A-Za-z_]))"
"""Rules out most positions (within a word, at a space or Chinese character) before any form is tried."""
_ANY = re.compile(f"{_MAY_START}(?:{'|'.join(_named(index, form) for index, (_, form) in enumerate(_FORMS))})")

_FILE_SUFFIXES = frozenset({"png", "jpg", "jpeg", "gif", "svg", "webp", "css", "js", "ts", "html", "json", "py", "md"})
_NUMBERED = re.compile(
    r"(?:versions?|ver\.?|v\.?|releases?|sections?|sec\.?|chapters?|rfc|oid|build|firmware"
    r"|§|版本号?|第|节)[ :：=]{0,2}$",
    re.IGNORECASE,
)


def find(text: str, kinds: tuple[Kind, ...] = KINDS) -> list[Found]:
    """Personal data of these kinds in the order of the text; none overlaps another."""
    found: list[Found] = []
    position = 0
    while match := _ANY.search(text, position):
        start = match.start()
        position = start + 1
        first = int((match.lastgroup or "").removeprefix("form"))
        for index in range(first, len(_FORMS)):
            kind = _FORMS[index][0]
            candidate = _SINGLE[index].match(text, start)
            if candidate is None or not _CHECKS[kind](candidate):
                continue
            span = candidate.span("it" if "it" in candidate.re.groupindex else 0)
            if kind in kinds:
                found.append(Found(kind, *span))
            position = span[1]
            break
    return found


def scrub(
    text: str, kinds: tuple[Kind, ...] = KINDS, placeholders: Mapping[Kind, str] = PLACEHOLDERS
) -> tuple[str, Counter[str]]:
    """The text with placeholders for personal data of these kinds, and how many of each kind there were."""
    found = find(text, kinds)
    if not found:
        return text, Counter()
    pieces, position = [], 0
    for kind, start, end in found:
        pieces += [text[position:start], placeholders[kind]]
        position = end
    pieces.append(text[position:])
    return "".join(pieces), Counter(item.kind for item in found)


def passes_luhn(digits: str) -> bool:
    """ISO/IEC 7812-1, annex B: the check digit of card numbers."""
    total = 0
    for index, digit in enumerate(reversed(digits)):
        value = int(digit) * (1 + index % 2)
        total += value - 9 * (value > 9)
    return total % 10 == 0


def is_chinese_identity_number(number: str) -> bool:
    """GB 11643-1999: 17 digits with a date of birth at the 7th to 14th, and a check character mod 11."""
    try:
        born = date(int(number[6:10]), int(number[10:12]), int(number[12:14]))
    except ValueError:
        return False
    if not 1850 <= born.year < 2100:
        return False
    total = sum(int(digit) * (1 << (17 - index)) for index, digit in enumerate(number[:17]))
    return "10X98765432"[total % 11] == number[17].upper()


def _is_card(match: re.Match[str]) -> bool:
    """Prefix and length of an issuer, checksum."""
    digits = re.sub("[ -]", "", match[0])
    issued = (
        (digits[0] == "4" and len(digits) in (13, 16, 19))
        or (digits[:2] in ("51", "52", "53", "54", "55") and len(digits) == 16)
        or ("2221" <= digits[:4] <= "2720" and len(digits) == 16)
        or (digits[:2] in ("34", "37") and len(digits) == 15)
        or (digits[:2] in ("30", "36", "38", "39") and len(digits) in (14, 16))
        or (digits[:4] in ("1800", "2131") and len(digits) == 15)
        or (digits[:2] == "35" and len(digits) == 16)
        or (digits[:2] in ("50", "56", "57", "58", "60", "62", "63", "64", "65", "67") and len(digits) in range(13, 20))
    )
    return issued and passes_luhn(digits)


def _is_address(match: re.Match[str]) -> bool:
    return _is_ipv6(match[0]) if ":" in match[0] else _is_ipv4(match)


def _is_ipv4(match: re.Match[str]) -> bool:
    octets = match[0].split(".")
    if any(int(octet) > 255 or (len(octet) > 1 and octet[0] == "0") for octet in octets):
        return False
    if octets[0] in ("0", "127", "255") or _NUMBERED.search(match.string[max(0, match.start() - 12) : match.start()]):
        return False
    # 98.0.4758.102 of a browser has too large a part; 1.2.0.0 of other products is a version of this form
    before = match.string[max(0, match.start() - 2) : match.start()]
    return not (len(before) == 2 and before[1] == "/" and before[0].isalpha())


def _is_ipv6(text: str) -> bool:
    try:
        address = ipaddress.IPv6Address(text)
    except ValueError:
        return False
    if address.is_loopback or address.is_unspecified:
        return False
    groups = [group for group in text.split(":") if group]
    if not any(character.isdigit() for character in text):
        return False
    return len(groups) >= 3 or (len(groups) == 2 and len(groups[0]) == 4 and groups[0][0] in "23fF")


def _is_email(match: re.Match[str]) -> bool:
    name, _, host = match[0].partition("@")
    return (
        name != "git" and not name.endswith(".") and ".." not in name and host.rpartition(".")[2] not in _FILE_SUFFIXES
    )


def _is_phone(match: re.Match[str]) -> bool:
    """Digits in few groups, and neither a date nor a run of short numbers."""
    groups = re.findall("[0-9]+", match[0])
    digits = sum(map(len, groups))
    sizes = [len(group) for group in groups]
    is_date = sizes == [2, 2, 4] or (sizes[:3] == [4, 2, 2] and groups[0][:2] in ("19", "20"))
    is_social_security = sizes == [3, 2, 4]
    enough = 9 if match[0][0] == "0" and len(groups) > 1 else 7
    return (
        enough <= digits <= 21
        and len(groups) <= 7
        and not is_date
        and not is_social_security
        and len(set("".join(groups))) > 1
    )


_CHECKS: dict[Kind, Callable[[re.Match[str]], bool]] = {
    "email": _is_email,
    "phone": _is_phone,
    "chinese_mobile": lambda match: True,
    "ip_address": _is_address,
    "credit_card": _is_card,
    "chinese_identity_number": lambda match: is_chinese_identity_number(match[0]),
}
