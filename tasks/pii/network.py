"""Addresses of people and machines on a network: e-mail, IP, MAC, and the credentials in URLs.

Left alone on purpose: loopback (127.0.0.0/8, ::1), unspecified (0.0.0.0, ::) and broadcast
addresses and netmasks; version and section numbers that look like IPv4; slices and scope operators
that look like IPv6 (``x[::2]``, ``a::b``); hosts without a domain (``user@localhost``); ``git@``
remotes; file names (``icon@2x.png``); addresses with other letters than ASCII's; spelt-out ones
(``jane at example dot org``).
"""

from __future__ import annotations

import ipaddress
import re

from tasks.pii.checks import before, is_mac
from tasks.pii.kinds import Form

MOST_LOCAL = 64
"""Bytes of an address before the at sign (RFC 5321, 4.5.3.1.1)."""
MOST_USERINFO = 256
"""Bytes of ``user:password`` in a URL that are looked at."""

_FILE_SUFFIXES = frozenset(
    b"png jpg jpeg gif svg webp css js ts html htm json py md txt xml zip gz so dll java service socket target".split()
)


_IN_URL = re.compile(rb"://(?:[^\x00-\x20/@:]*:)?\Z")
"""Before what is a user or a password in a URL, not an address."""


def _is_email(match: re.Match[bytes]) -> bool:
    name, _, host = match[0].partition(b"@")
    return (
        name != b"git"
        and not name.endswith(b".")
        and b".." not in name
        and host.rpartition(b".")[2].lower() not in _FILE_SUFFIXES
        and not _IN_URL.search(before(match))
    )


EMAIL_FORM = Form(
    "email",
    re.compile(
        rb"(?<![A-Za-z0-9_])[A-Za-z0-9_][A-Za-z0-9._%+\-]{0,63}+@(?:[A-Za-z0-9\-]{1,63}+\.){1,8}[A-Za-z]{2,24}"
        rb"(?![A-Za-z0-9_@])"
    ),
    _is_email,
)

_SCHEME = rb"(?<![A-Za-z0-9+.\-])[A-Za-z][A-Za-z0-9+.\-]{1,15}+://"
_USERINFO = rb"[^\x00-\x20\x7f-\xff/?#@:\"'<>`\\\[\]]"


def _is_password(match: re.Match[bytes]) -> bool:
    """Not a place for one: ``user:password@``, ``<user>:<pass>``, ``${USER}:${PASS}``."""
    password = match["it"].partition(b":")[2]
    return not re.fullmatch(rb"(?i:pass(?:word|wd)?|pwd|pw|secret|\*+|x+|\.+|[$%{(].*|your.*)", password)


CREDENTIALS_FORM = Form(
    "url_credentials",
    re.compile(_SCHEME + rb"(?P<it>" + _USERINFO + rb"{0,100}+:" + _USERINFO + rb"{1,128}+)@(?=[0-9A-Za-z\[])"),
    _is_password,
)

_TOKEN_NAMES = (
    rb"(?i:(?:access|auth|id|refresh|api|private|session|security|bearer|personal)[_\-]?(?:token|key)|token|apikey|jwt"
    rb"|client[_\-]?secret|secret|x-amz-(?:signature|security-token|credential)|sig|signature|password|passwd|pwd|key|auth)"
)
_OF_PASSWORDS = re.compile(rb"[?&;](?i:password|passwd|pwd)=")


def _is_token(match: re.Match[bytes]) -> bool:
    """Looks drawn by chance: long, with letters and digits. A password may be shorter."""
    value = match["it"]
    if _OF_PASSWORDS.match(match[0]):
        return len(value) >= 6 and not re.fullmatch(rb"(?i:pass(?:word|wd)?|secret|your.*|x+|\*+)", value)
    return (
        len(value) >= 16
        and len(set(value)) >= 8
        and re.search(rb"[0-9]", value) is not None
        and re.search(rb"[A-Za-z]", value) is not None
    )


MOST_TOKEN_NAME = 24
"""Bytes from the question mark of a query to the equals sign after a token's name."""
QUERY_TOKEN_FORM = Form(
    "url_credentials",
    re.compile(rb"[?&;]" + _TOKEN_NAMES + rb"=(?P<it>[A-Za-z0-9%._~+/\-]{6,2048}+)"),
    _is_token,
)

_NUMBER_STARTS = rb"(?<![0-9A-Za-z_])(?<![0-9A-Za-z][-.:])(?<![0-9]/)"
_NUMBERED = re.compile(
    rb"(?:(?<![A-Za-z])(?i:versions?|ver\.?|v\.?|releases?|sections?|sec\.?|chapters?|rfc|oid|build|firmware|since"
    rb"|changes in|updated? to|upgraded? to)|\xc2\xa7|"
    + "版本号?|第|节|節|版|章".replace("号?", "(?:号)?").encode()
    + rb")(?:[ :=]|\xc2\xa0|\xef\xbc\x9a){0,2}\Z"
)
_IDENTIFIER_BEFORE = re.compile(rb"[A-Za-z]/\Z")
_HEADING = re.compile(rb"(?:^|[\r\n])[ \t]*\Z"), re.compile(rb"\.(?:[ ]|\xc2\xa0)")
_ADDRESS_WORD = re.compile(
    rb"(?i:\bip|addr|host|server|dns|ping|router|gateway|resolver|proxy|client|\bnode|\blan\b|subnet|network|via\b|curl|ssh)|"
    + "地址|服务器|伺服器|主机|主機|网关|閘道|域名|路由".encode()
)
_RESOLVERS = frozenset((b"1.1.1.1", b"1.0.0.1", b"8.8.8.8", b"8.8.4.4", b"9.9.9.9", b"4.4.4.4", b"1.2.4.8"))
"""Public name servers with addresses as low as versions'."""


def _is_ipv4(match: re.Match[bytes]) -> bool:
    octets = match[0].split(b".")
    if any(int(octet) > 255 or (len(octet) > 1 and octet[:1] == b"0") for octet in octets):
        return False
    if octets[0] in (b"0", b"127", b"255"):
        return False
    # 98.0.4758.102 of a browser has too large a part; 1.2.0.0 of other products is a version of this form
    context = before(match, 32)
    if _NUMBERED.search(context) or _IDENTIFIER_BEFORE.search(context):
        return False
    if _HEADING[0].search(context) and _HEADING[1].match(match.string, match.end()):
        return False
    return not _is_low(octets) or _is_called_address(match, context)


def _is_low(octets: list[bytes]) -> bool:
    """Parts as versions and sections have them, and addresses seldom (1 in 1,000 of random ones)."""
    most = 64 if len(octets[0]) == 1 else 20
    return all(int(octet) < most for octet in octets) and octets[0] != b"10"


def _is_called_address(match: re.Match[bytes], context: bytes) -> bool:
    return (
        match[0] in _RESOLVERS
        or _ADDRESS_WORD.search(context) is not None
        or re.match(rb":[0-9]|/[0-9]", match.string[match.end() : match.end() + 2]) is not None
    )


IPV4_FORM = Form(
    "ip_address",
    re.compile(_NUMBER_STARTS + rb"[0-9]{1,3}(?:\.[0-9]{1,3}){3}(?![0-9A-Za-z_])(?![-.][0-9])"),
    _is_ipv4,
)


def _is_ipv6(match: re.Match[bytes]) -> bool:
    text = match[0].decode()
    try:
        address = ipaddress.IPv6Address(text)
    except ValueError:
        return False
    if address.is_loopback or address.is_unspecified or not any(character.isdigit() for character in text):
        return False
    groups = [group for group in text.split(":") if group]
    if text.lower().startswith("ffff:") or (len(groups) == 8 and all(len(group) == 2 for group in groups)):
        return False  # a mask; a hardware address of eight bytes
    return len(groups) >= 3 or (len(groups) == 2 and len(groups[0]) == 4 and groups[0][0] in "23fF")


MOST_IPV6 = 45
"""Characters of an IPv6 address with an IPv4 address in its end."""
IPV6_FORM = Form(
    "ip_address",
    re.compile(
        rb"(?<![0-9A-Za-z_:.])(?=[0-9A-Fa-f]{0,4}:)[0-9A-Fa-f:]{4,39}+(?:(?:\.[0-9]{1,3}){3})?(?![0-9A-Za-z_:]|\.[0-9])"
    ),
    _is_ipv6,
)

_PAIR = rb"[0-9A-Fa-f]{2}"
MAC_FORM = Form(
    "mac_address",
    re.compile(
        rb"(?<![0-9A-Za-z_])(?<![0-9A-Za-z][:\-.])(?:"
        + rb":".join([_PAIR] * 6)
        + rb"(?::%b:%b)?|" % (_PAIR, _PAIR)
        + rb"-".join([_PAIR] * 6)
        + rb"|[0-9A-Fa-f]{4}\.[0-9A-Fa-f]{4}\.[0-9A-Fa-f]{4})(?![0-9A-Za-z_])(?![:\-.][0-9A-Za-z])"
    ),
    lambda match: is_mac(match[0].decode()) and re.search(rb"[:\-]|[A-Fa-f]", match[0]) is not None,
)
"""Six bytes with colons or dashes, eight with colons (EUI-64), or three groups with dots (Cisco's form)."""
