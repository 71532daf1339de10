"""Checksums, ranges and words nearby: what decides whether a number is what it looks like."""

from __future__ import annotations

import re
from datetime import date

_CONTEXT_BYTES = 48
"""How far before a number a word that says what it is may stand."""


def digits_of(text: bytes) -> str:
    """The ASCII digits of a text."""
    return "".join(chr(byte) for byte in text if 48 <= byte <= 57)


def passes_luhn(digits: str) -> bool:
    """ISO/IEC 7812-1, annex B: the check digit of card numbers."""
    total = 0
    for index, digit in enumerate(reversed(digits)):
        value = int(digit) * (1 + index % 2)
        total += value - 9 * (value > 9)
    return total % 10 == 0


_ISSUED = re.compile(
    r"4(?:\d{12}|\d{15}|\d{18})|5[1-5]\d{14}|2(?:22[1-9]|2[3-9]\d|[3-6]\d\d|7[01]\d|720)\d{12}|3[47]\d{13}"
    r"|3(?:0[0-5]|[689]\d)\d{11}|3(?:0[0-5]|[689]\d)\d{13}|(?:1800|2131)\d{11}|35\d{14}"
    r"|(?:50|5[678]|6[02-57])\d{10,17}"
)
"""Prefixes and lengths: Visa, Mastercard, American Express, Diners Club, JCB, and the Maestro, Discover and UnionPay
ranges (issuer ranges of ISO/IEC 7812 as the issuers publish them)."""
_COMMON = re.compile(r"\d{16}|3[47]\d{13}|3(?:0[0-5]|[68]\d)\d{11}|62\d{17}")
_CARD_WORD = re.compile(
    rb"(?i:card|credit|debit|visa|amex|maestro|payment|\bcc\b)|\xe5\x8d\xa1|\xe4\xbf\xa1\xe7\x94\xa8"
)  # 卡 信用


def is_card(match: re.Match[bytes]) -> bool:
    """An issuer's prefix and length, and the checksum; seldom lengths only where a word says that it is a card."""
    digits = digits_of(match[0])
    if not _ISSUED.fullmatch(digits) or not passes_luhn(digits) or len(set(digits)) == 1:
        return False
    return bool(_COMMON.fullmatch(digits)) or bool(_CARD_WORD.search(before(match)))


def before(match: re.Match[bytes], size: int = _CONTEXT_BYTES) -> bytes:
    """The bytes before a match that belong to the same text."""
    return match.string[max(0, match.start() - size) : match.start()].rpartition(b"\xff")[2]


def is_chinese_identity_number(number: str) -> bool:
    """GB 11643-1999: 17 digits with a date of birth at the 7th to 14th, and a check character mod 11."""
    if not _is_birthday(number[6:10], number[10:12], number[12:14]):
        return False
    total = sum(int(digit) * (1 << (17 - index)) for index, digit in enumerate(number[:17]))
    return "10X98765432"[total % 11] == number[17].upper()


def is_old_chinese_identity_number(number: str) -> bool:
    """The form of 15 digits, issued until 1999: region, date of birth in six digits, serial number; no checksum."""
    return "11" <= number[:2] <= "65" and _is_birthday(f"19{number[6:8]}", number[8:10], number[10:12])


def _is_birthday(year: str, month: str, day: str) -> bool:
    try:
        return 1850 <= date(int(year), int(month), int(day)).year < 2100
    except ValueError:
        return False


IBAN_LENGTHS = {
    **{"AD": 24, "AE": 23, "AL": 28, "AT": 20, "AZ": 28, "BA": 20, "BE": 16, "BG": 22, "BH": 22, "BI": 27, "BR": 29},
    **{"BY": 28, "CH": 21, "CR": 22, "CY": 28, "CZ": 24, "DE": 22, "DJ": 27, "DK": 18, "DO": 28, "EE": 20, "EG": 29},
    **{"ES": 24, "FI": 18, "FK": 18, "FO": 18, "FR": 27, "GB": 22, "GE": 22, "GI": 23, "GL": 18, "GR": 27, "GT": 28},
    **{"HN": 28, "HR": 21, "HU": 28, "IE": 22, "IL": 23, "IQ": 23, "IS": 26, "IT": 27, "JO": 30, "KW": 30, "KZ": 20},
    **{"LB": 28, "LC": 32, "LI": 21, "LT": 20, "LU": 20, "LV": 21, "LY": 25, "MC": 27, "MD": 24, "ME": 22, "MK": 19},
    **{"MN": 20, "MR": 27, "MT": 31, "MU": 30, "NI": 28, "NL": 18, "NO": 15, "OM": 23, "PK": 24, "PL": 28, "PS": 29},
    **{"PT": 25, "QA": 29, "RO": 24, "RS": 22, "RU": 33, "SA": 24, "SC": 31, "SD": 18, "SE": 24, "SI": 19, "SK": 24},
    **{"SM": 27, "SO": 23, "ST": 25, "SV": 28, "TL": 23, "TN": 24, "TR": 26, "UA": 29, "VA": 22, "VG": 24, "XK": 20},
    **{"YE": 30},
}
"""Characters of an IBAN by country: SWIFT's IBAN registry."""


def is_iban(number: str) -> bool:
    """ISO 13616: the country's length, and the characters as a number (A = 10 … Z = 35) leave 1 mod 97."""
    number = number.upper()
    if IBAN_LENGTHS.get(number[:2]) != len(number):
        return False
    return int("".join(str(int(character, 36)) for character in number[4:] + number[:4])) % 97 == 1


def is_mac(text: str) -> bool:
    """Six or eight bytes that are not all the same (none, broadcast)."""
    pairs = re.findall("..", re.sub("[^0-9A-Fa-f]", "", text).lower())
    return len(pairs) in (6, 8) and len(set(pairs)) > 1
