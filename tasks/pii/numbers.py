"""Numbers of people: telephones, cards, accounts, identity papers.

Boundaries are those of ASCII words: Chinese text writes numbers between its characters without
spaces. Left alone on purpose: dates, versions, ISBNs and other numbers without the issuer, length
and checksum of a card; short numbers (110, 95588); digits in full width; telephone numbers of one
block of digits that no word calls one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from tasks.pii.checks import (
    IBAN_LENGTHS,
    before,
    is_card,
    is_chinese_identity_number,
    is_iban,
    is_old_chinese_identity_number,
)
from tasks.pii.kinds import Form, Kind

SEPARATORS = " .-()/\u00a0\u2010\u2011\u2012\u2013\u2014－（）"
"""What may stand between the digits of one number, in some form."""
MOST_BETWEEN = 7
"""The most bytes between two digits of one number, plus one: two separators of three bytes each."""
LEAST_DIGITS = 7
"""The fewest digits of a telephone number, and of all else here but a passport's."""
PASSPORT_DIGITS = (6, 9)
"""How many consecutive digits a passport's number has."""

STARTS = rb"(?<![0-9A-Za-z_])(?<![0-9A-Za-z][-.:])(?<![0-9]/)"
ENDS = rb"(?![0-9A-Za-z_])(?![-.:/][0-9])"

_DASH = rb"(?:-|\xe2\x80[\x90-\x94]|\xef\xbc\x8d)"
_BLANK = rb"(?: |\xc2\xa0)"
_GAP = rb"(?:" + _BLANK + rb"|" + _DASH + rb")"
_BETWEEN = rb"(?:[ .()\-]|\xc2\xa0|\xe2\x80[\x90-\x94]|\xef\xbc\x8d){0,2}+"
_EXTENSION = rb"(?: ?(?:x|ext\.?) ?[0-9]{1,6})?"

# ITU-T E.164, list of assigned country codes (Operational Bulletin annex).
_COUNTRY = (
    rb"(?:1|7|2(?:0|1[1-3689]|[2346][0-9]|5[0-8]|7|9[01789])|3(?:[0123469]|5[0-9]|7[0-8]|8[0-35-79])"
    rb"|4(?:[013-9]|2[013])|5(?:[1-8]|0[0-9]|9[0-9])|6(?:[0-6]|7[02-9]|8[0-35-9]|9[0-2])"
    rb"|8(?:[12469]|0[08]|5[02356]|7[0-9]|8[0-36])|9(?:[0-58]|6[0-8]|7[0-79]|9[2-8]))"
)


def _bytes_of(words: str) -> bytes:
    return "|".join(words.split()).encode()


_PHONE_WORD = re.compile(
    rb"(?:(?<![A-Za-z])(?i:telephone|phones?|mobile|cell|cellular|tel|fax|whatsapp|wechat|hotline|desk|office|handy|"
    rb"(?:call|reach|contact|ring|text|phone|dial)(?: (?:me|us|him|her|them))?(?: (?:on|at))|dial"
    rb"|answering at|messages? to|registered(?: (?:number|phone))?|call(?:ing)? from)|"
    + _bytes_of(
        "电话 電話 手机 手機 联系方式 聯絡 传真 傳真 热线 熱線 座机 座機 固话 總機 总机 办公室 辦公室 致电 拨打 "
        "微信 联系"
    )
    + rb")(?i:[ ]?(?:numbers?|no|nr|\#)(?![a-z])|\xe5\x8f\xb7\xe7\xa0\x81|\xe5\x8f\xb7|\xe8\x99\x9f\xe7\xa2\xbc)?"
    rb"(?:[ .:\n\r\t*=]|(?i:is(?![a-z]))|\xef\xbc\x9a|\xe6\x98\xaf|\xe4\xb8\xba|\xef\xbc\x88|\(){0,4}\Z"
)  # 号码, 号, 號碼; full-width colon, 是, 为, full-width bracket
_PHONE_WORD_AFTER = re.compile(rb"[ ]?[-(]?[ ]?(?i:office|mobile|home|fax|cell|desk|work|direct)(?![A-Za-z0-9_])")


def _is_phone(match: re.Match[bytes]) -> bool:
    """Digits in few groups, and neither a date nor a number of another form nor a run of short numbers."""
    groups = re.findall(rb"[0-9]+", match[0])
    sizes = [len(group) for group in groups]
    is_date = sizes == [2, 2, 4] or (sizes[:3] == [4, 2, 2] and groups[0][:2] in (b"19", b"20"))
    is_social_security = sizes == [3, 2, 4]
    enough = 9 if match[0][:1] == b"0" and len(groups) > 1 else 7
    return (
        enough <= sum(sizes) <= 21
        and len(groups) <= 7
        and not is_date
        and not is_social_security
        and len(set(b"".join(groups))) > 1
    )


def _is_spoken_phone(match: re.Match[bytes]) -> bool:
    """A number that a word before or after it calls a telephone number."""
    if not _is_phone(match):
        return False
    return bool(_PHONE_WORD.search(before(match))) or bool(_PHONE_WORD_AFTER.match(match.string, match.end()))


_SSN_WORD = re.compile(rb"(?i:\bssn\b|social security)|" + _bytes_of("社会安全 社會安全 社安号"))
_PASSPORT_WORD = re.compile(
    rb"(?:(?i:passports?)|"
    + _bytes_of("护照 護照")
    + rb")(?:[ \t.:#(=]|(?i:number|no|nr|is|id)(?![a-z])|"
    + _bytes_of("： （ 号 號 码 碼 是 为 為")
    + rb"){0,8}\Z"
)
_IDENTITY_WORD = re.compile(rb"(?i:identity|\bid\b)|" + _bytes_of("身份证 身份證 身份号"))


def _iban_pattern() -> bytes:
    """By country, written in one block in any case, or in blocks of four capitals."""
    by_length: dict[int, list[str]] = {}
    for country, length in IBAN_LENGTHS.items():
        by_length.setdefault(length - 4, []).append(country)
    forms = []
    for rest, countries in sorted(by_length.items()):
        names = "|".join(countries)
        last = f" [0-9A-Z]{{{rest % 4}}}" if rest % 4 else ""
        forms.append(rf"(?i:(?:{names})[0-9]{{2}}[0-9A-Z]{{{rest}}})")
        forms.append(rf"(?:{names})[0-9]{{2}}(?: [0-9A-Z]{{4}}){{{rest // 4}}}{last}")
    return rf"(?<![0-9A-Za-z_])(?:{'|'.join(forms)})(?![0-9A-Za-z_])".encode()


def _form(kind: Kind, pattern: bytes, *check: object) -> Form:
    return Form(kind, re.compile(pattern), *check)  # type: ignore[arg-type]


_AREA = rb"0(?:10|2[0-9]|[3-9][0-9]{2})"
"""Chinese area codes with their trunk prefix: two digits for the largest cities, three for others."""

IBAN_FORM = _form("iban", _iban_pattern(), lambda match: is_iban(match[0].replace(b" ", b"").decode()))

PASSPORT_FORM = _form(
    "passport",
    rb"(?<![0-9A-Za-z_])(?:[A-Za-z]{1,2}[0-9]{6,8}|[0-9]{9})(?![0-9A-Za-z_])",
    lambda match: bool(_PASSPORT_WORD.search(before(match))),
)


def _is_trunk_phone(match: re.Match[bytes]) -> bool:
    """Not counted from nought: 00 01 10 11, 012 021 102."""
    groups = re.findall(rb"[0-9]+", match[0])
    return _is_phone(match) and sum(group.startswith(b"0") for group in groups) * 2 <= len(groups)


def _is_mobile(match: re.Match[bytes]) -> bool:
    """Any but 2**34, which documentation of memory sizes is full of."""
    return match[0] != b"17179869184"


_DIGITS = b"0123456789"
_NOT_SINGLE = rb"(?![0-9](?:[ .\-][0-9]){3}(?![0-9]))"
"""No form begins with four single digits: tables and lists do."""
_NOT_IN_LIST = rb"(?<![0-9] )(?<![0-9]\xc2\xa0)", rb"(?! [0-9])"
"""Before and after a number of several short groups: no further group."""

_FORMS: tuple[tuple[bytes, Form], ...] = (
    (
        b"12345678",
        _form(
            "chinese_identity_number",
            STARTS + rb"[1-8][0-9]{5}(?P<s> ?)[0-9]{4}(?: (?=[0-9]{4} ))?[0-9]{4}(?P=s)[0-9]{3}[0-9Xx]" + ENDS,
            lambda match: is_chinese_identity_number(match[0].decode().replace(" ", "")),
        ),
    ),
    (
        b"123456",
        _form(
            "chinese_identity_number",
            STARTS + rb"[1-6][0-9]{14}" + ENDS,
            lambda match: (
                is_old_chinese_identity_number(match[0].decode()) and bool(_IDENTITY_WORD.search(before(match)))
            ),
        ),
    ),
    (
        b"123456",
        _form(
            "credit_card",
            STARTS + rb"[1-6](?:[0-9]{11,18}|[0-9]{3}[ \-](?:[0-9]{6}[ \-][0-9]{4,5}"
            rb"|[0-9]{4}[ \-][0-9]{4}[ \-][0-9]{4}(?:[ \-][0-9]{3}(?![0-9]))?))" + ENDS,
            is_card,
        ),
    ),
    # Ranges that are issued: Social Security Administration, "Social Security Number Randomization".
    (
        b"012345678",
        _form("us_ssn", STARTS + rb"(?!000|666|9)[0-9]{3}-(?!00)[0-9]{2}-(?!0000)[0-9]{4}" + ENDS),
    ),
    (
        b"012345678",
        _form(
            "us_ssn",
            STARTS + rb"(?!000|666|9)[0-9]{3} ?(?!00)[0-9]{2} ?(?!0000)[0-9]{4}" + ENDS,
            lambda match: bool(_SSN_WORD.search(before(match))),
        ),
    ),
    (
        b"+018",
        _form(
            "chinese_mobile",
            rb"(?:(?<![0-9A-Za-z_+])(?:\+|00)86[ \-]?|" + STARTS + rb"(?:86[ \-])?)"
            rb"1[3-9][0-9](?:[0-9]{8}|(?P<s>[ .\-]|\xe2\x80[\x90-\x94]|\xef\xbc\x8d)[0-9]{4}(?P=s)[0-9]{4})" + ENDS,
            _is_mobile,
        ),
    ),
    # International: E.164 with its plus sign, or 00 and a separator after the country code
    (
        b"+",
        _form(
            "phone",
            rb"(?<![0-9A-Za-z_+])\+(?=" + _COUNTRY + rb")[1-9](?:" + _BETWEEN + rb"[0-9]){7,14}+" + _EXTENSION + ENDS,
            _is_phone,
        ),
    ),
    (
        b"0",
        _form(
            "phone",
            STARTS + rb"00" + _GAP + rb"?" + _COUNTRY + _GAP + rb"[0-9](?:" + _BETWEEN + rb"[0-9]){6,12}+" + ENDS,
            _is_trunk_phone,
        ),
    ),
    # North America: 415-555-0132, (415) 555-0132 x12, 001-415-555-0132
    (
        b"(" + _DIGITS,
        _form(
            "phone",
            STARTS + rb"(?:(?:001|1)[ .\-])?(?:\([2-9][0-9]{2}\)" + _GAP + rb"?|[2-9][0-9]{2}(?P<s>[.\-]))"
            rb"[2-9][0-9]{2}[ .\-][0-9]{4}" + _EXTENSION + ENDS,
            _is_phone,
        ),
    ),
    # China: 010-62345678, (0571)87654321-801, 400-810-1234
    (
        b"(\xef0",
        _form(
            "phone",
            STARTS
            + rb"(?:(?:\(|\xef\xbc\x88)"
            + _AREA
            + rb"(?:\)|\xef\xbc\x89)[ \-]?|"
            + _AREA
            + rb"(?:[ ]|"
            + _DASH
            + rb"))[2-9][0-9]{2,3}"
            + _GAP
            + rb"?[0-9]{4}(?:-[0-9]{1,5})?"
            + ENDS,
            _is_phone,
        ),
    ),
    (b"48", _form("phone", STARTS + rb"[48]00-(?:[0-9]{3}-[0-9]{4}|[0-9]{4}-[0-9]{3})" + ENDS, _is_phone)),
    # Others with the trunk prefix: 020 7946 0958, (01) 42 68 53 00, 01.42.68.53.00
    (
        b"(0",
        _form(
            "phone",
            STARTS
            + _NOT_IN_LIST[0]
            + rb"(?:\(0[0-9]{1,4}\)|0[0-9]{1,4})(?:"
            + _GAP
            + rb"[0-9]{6,8}|"
            + _GAP
            + rb"[0-9]{2,4}(?:"
            + _GAP
            + rb"[0-9]{2,4}){1,3}+|(?:\.[0-9]{2}){4})"
            + ENDS
            + _NOT_IN_LIST[1],
            _is_trunk_phone,
        ),
    ),
    # An area code in brackets: (71) 4233-6306
    (b"(", _form("phone", STARTS + rb"\([1-9][0-9]{1,2}\)" + _BLANK + rb"?[0-9]{3,4}-[0-9]{3,4}" + ENDS, _is_phone)),
    # Any, where a word says so
    (
        b"+(" + _DIGITS,
        _form(
            "phone",
            STARTS
            + _NOT_SINGLE
            + rb"[+(]{0,2}[0-9](?:(?:[ .()/\-]|\xc2\xa0|\xe2\x80[\x90-\x94]|\xef\xbc\x8d){0,2}+[0-9]){6,14}+"
            + ENDS,
            _is_spoken_phone,
        ),
    ),
)
"""Numbers of at least LEAST_DIGITS digits with at most SEPARATORS between them, and the bytes that each may begin
with: the first of consecutive digits, or a plus sign or bracket before it."""

NUMBER_FORMS = tuple(form for _, form in _FORMS)
_BY_LEAD = tuple(tuple(i for i, (leads, _) in enumerate(_FORMS) if lead in leads) for lead in range(256))
_MAY_BE_NUMBER = re.compile(
    rb"(?<![0-9A-Za-z_])"
    + _NOT_SINGLE
    + rb"(?!(?:19|20)[0-9][0-9]-[0-9][0-9]-[0-9][0-9](?![0-9]))(?:[+(]|\xef\xbc\x88){0,2}"
    rb"[0-9](?:(?:[ .()/\-]|\xc2\xa0|\xe2\x80[\x90-\x94]|\xef\xbc[\x89\x8d]){0,2}+[0-9]){6}"
)
"""What every form begins with: seven digits close together that do not begin with a date."""


def number_tries(data: bytes, starts: list[int]) -> Iterator[tuple[Form, list[int]]]:
    """Each form with those of the starts of numbers at which it may match."""
    by_form: list[list[int]] = [[] for _ in NUMBER_FORMS]
    for start in starts:
        if _MAY_BE_NUMBER.match(data, start):
            for index in _BY_LEAD[data[start]]:
                by_form[index].append(start)
    return zip(NUMBER_FORMS, by_form, strict=True)
