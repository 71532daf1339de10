"""Bytes of a page to Unicode text, as browsers decode it."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

from tasks.text.labels import python_codec

META_BYTES = 4096
"""How far into a page a ``<meta charset>`` is looked for (the HTML standard asks for at least 1,024 bytes)."""

DETECTION_BYTES = 100_000
"""How much of a page (tags taken out) the statistical detection looks at."""

MENDED_BYTES = 20_000
"""How much of that is looked at for text in an East Asian encoding with malformed bytes."""

MOST_MALFORMED = 0.05
"""Malformed characters among a page's non-ASCII ones up to which its encoding is still taken for the stated one, or
for UTF-8: pages are cut in the middle of characters, and glued together from parts in several encodings."""

_UTF16_BYTES = 4096

_BOMS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))

_CHARSET = re.compile(rb"""charset\s{0,20}=\s{0,20}["']?\s{0,20}([A-Za-z0-9][A-Za-z0-9_.:-]{1,40})""", re.IGNORECASE)
_PRESCAN = re.compile(rb"<(?:!--|(meta)(?=[\s/]))", re.IGNORECASE)
_ATTRIBUTE = re.compile(
    rb"""([^\s"'<>/=]{1,60}+)(?:\s{0,9}+=\s{0,9}+(?:"([^"]{0,999}+)"|'([^']{0,999}+)'|([^\s"'<>]{1,999}+)))?|(>)"""
)
_XML_DECLARATION = re.compile(rb"""^\s{0,20}<\?xml[^>]{0,200}encoding\s{0,9}=\s{0,9}["']([A-Za-z0-9_.:-]{2,40})["']""")
_TAGS = re.compile(rb"<[^<>]*+>")
_HIGH = bytes(range(128, 256))
_NOT_ASCII = re.compile(r"[^\x00-\x7f]+")
_TWO_HIGH = re.compile(rb"[\x80-\xff][\x80-\xff]")
_SURELY_UTF8 = 12
"""Well-formed UTF-8 with so many non-ASCII bytes is hardly so by chance, whatever is stated."""
_RUNS_FROM = 20
_SHARE_IN_RUNS = 0.4
"""From so many non-ASCII bytes, and with this share of them in runs, text is in no Western European language."""
_WIDE_CODECS = ("gb18030", "big5hkscs", "cp932", "euc_jp", "cp949")
_ISO_2022_JP = re.compile(rb"\x1b(?:\$[@B]|\([JI])")

_SIGNATURES = tuple(
    bytes.fromhex(start)
    for start in (
        "89504e47",  # PNG
        "47494638",  # GIF
        "ffd8ff",  # JPEG
        "25504446",  # PDF
        "504b0304",  # ZIP, and what is built on it
        "1f8b08",  # gzip
        "425a68",  # bzip2
        "fd377a58",  # xz
        "28b52ffd",  # Zstandard
        "377abcaf",  # 7-Zip
        "52617221",  # RAR
        "7f454c46",  # ELF
        "4f676753",  # Ogg
        "774f4646",  # WOFF
        "774f4632",  # WOFF2
        "0061736d",  # WebAssembly
    )
)
_CONTROL_BYTES = bytes([*range(0x00, 0x09), 0x0B, *range(0x0E, 0x1B), *range(0x1C, 0x20), 0x7F])


@dataclass(frozen=True)
class Decoded:
    """Text, and the Python codec that gave it."""

    text: str
    encoding: str


def looks_binary(content: bytes, content_type: str = "") -> bool:
    """Whether bytes are no text in any encoding: a known signature, or over 2 % control bytes (NUL included).

    UTF-16 is text: with a byte order mark, declared by the transport, or plain from its zeros.
    """
    if content.startswith(_SIGNATURES):
        return True
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or "utf-16" in content_type.lower():
        return False
    if b"\x00" in content[:_UTF16_BYTES] and _utf16_by_zeros(content):
        return False
    head = content[:65_536]
    controls = len(head) - len(head.translate(None, _CONTROL_BYTES))
    return controls > 0.02 * len(head)


def decode(content: bytes, content_type: str = "", is_html: bool = True) -> Decoded:
    """Decode a page as browsers do: byte order mark, then transport charset, then ``<meta>``, then detection.

    One step beyond them: a stated encoding that the bytes contradict (well-formed UTF-8 under
    another name, many malformed sequences, long runs of accented letters under a Western European
    name) gives way to the next one stated, then to detection, since a model would learn the
    mojibake that a reader shrugs at. Never raises; what cannot be decoded becomes U+FFFD.
    """
    for bom, codec in _BOMS:
        if content.startswith(bom):
            return Decoded(content[len(bom) :].decode(codec, "replace"), codec)
    if b"\x00" in content[:_UTF16_BYTES] and (wide := _utf16_by_zeros(content)):
        return Decoded(content.decode(wide, "replace"), wide)
    stated = _stated(content, content_type, is_html)
    if content.isascii():
        codec = _seven_bit_codec(content, stated)
        return Decoded(content.decode(codec, "replace"), codec)
    if not stated or stated[0] == "utf-8" or _count_high(content) >= _SURELY_UTF8:
        text = _strictly(content, "utf-8")
        if text is not None:
            return Decoded(text, "utf-8")
    for codec in chain(stated, _detected(content)):
        decoded = _plausibly(content, codec)
        if decoded is not None:
            return decoded
    return Decoded(content.decode("cp1252", "replace"), "cp1252")


def _stated(content: bytes, content_type: str, is_html: bool) -> list[str]:
    """Codecs that the transport and the page name, in the order in which they count."""
    labels = []
    if match := _CHARSET.search(content_type.encode("utf-8", "replace")):
        labels.append(match[1])
    if is_html:
        head = content[:META_BYTES]
        if match := _XML_DECLARATION.match(head):
            labels.append(match[1])
        labels.extend(_prescan(head))
    codecs_found = (python_codec(label.decode("ascii", "replace")) for label in labels)
    # A page whose ASCII letters could be read here is not in UTF-16, whatever it says.
    return list(dict.fromkeys("utf-8" if c.startswith("utf-16") else c for c in codecs_found if c is not None))


def _prescan(head: bytes) -> list[bytes]:
    """Labels in ``meta`` elements outside comments (HTML standard, "prescan a byte stream")."""
    labels, position = [], 0
    while opening := _PRESCAN.search(head, position):
        position = opening.end()
        if opening[1] is None:
            position = head.find(b"-->", position - 2)
            if position < 0:
                break
            continue
        found: dict[bytes, bytes] = {}
        for match in _ATTRIBUTE.finditer(head, position):
            if match[5]:
                break
            found.setdefault(match[1].lower(), match[2] or match[3] or match[4] or b"")
        if b"charset" in found:
            labels.append(found[b"charset"])
        elif found.get(b"http-equiv", b"").lower() == b"content-type":
            labels += [match[1] for match in [_CHARSET.search(found.get(b"content", b""))] if match]
    return labels


def _plausibly(content: bytes, codec: str) -> Decoded | None:
    """The decoded page, unless the bytes speak against the codec."""
    if codec == "cp1252" and _count_high(content) >= _RUNS_FROM and _share_in_runs(content) > _SHARE_IN_RUNS:
        return None
    text = _strictly(content, codec)
    if text is None and codec == "euc_jp":  # browsers take NEC's and IBM's extensions too
        codec = "euc_jis_2004"
        text = _strictly(content, codec)
    if text is None:
        text = content.decode(codec, "replace")
        malformed = text.count("\ufffd")
        if malformed > MOST_MALFORMED * sum(map(len, _NOT_ASCII.findall(text))):
            return None
    return Decoded(text, codec)


def _strictly(content: bytes, codec: str) -> str | None:
    """The decoded text; None if the bytes are malformed in ``codec`` (an incomplete last character aside)."""
    try:
        return codecs.getincrementaldecoder(codec)("strict").decode(content, False)
    except UnicodeDecodeError:
        return None


def _count_high(content: bytes) -> int:
    """Number of bytes that are not ASCII."""
    return len(content) - len(content.translate(None, _HIGH))


def _share_in_runs(content: bytes) -> float:
    """The share of non-ASCII bytes that stand beside another one. Accented letters of Western
    Europe stand alone; letters of other scripts, misread as such, do not."""
    return 2 * len(_TWO_HIGH.findall(content)) / _count_high(content)


def _utf16_by_zeros(content: bytes) -> str | None:
    """The codec of UTF-16 without a byte order mark: zeros in every other byte of what is ASCII."""
    head = content[: min(_UTF16_BYTES, len(content) // 2 * 2)]
    even, odd = head[::2].count(0), head[1::2].count(0)
    least = max(4, len(head) // 10)
    if odd >= least and odd > 10 * even:  # the low byte of a Chinese character may be zero too
        return "utf-16-le"
    return "utf-16-be" if even >= least and even > 10 * odd else None


def _seven_bit_codec(content: bytes, stated: list[str]) -> str:
    """The codec of a page without a byte above 127: ASCII, unless escapes switch to other scripts."""
    if _ISO_2022_JP.search(content):
        return "iso2022_jp"
    return next((codec for codec in stated if codec in ("hz", "iso2022_kr")), "utf-8")


def _detected(content: bytes) -> Iterator[str]:
    """Encodings that the bytes may be in, likeliest first."""
    yield "utf-8"
    sample = _TAGS.sub(b" ", content[: 4 * DETECTION_BYTES])[:DETECTION_BYTES]
    codec = _guessed(sample) or "cp1252"
    if codec not in _WIDE_CODECS and (wide := _wide_but_malformed(sample[:MENDED_BYTES])):
        yield wide
    # ISO-8859-15 differs from windows-1252 in little but the euro sign.
    yield "cp1252" if codec == "iso8859-15" and b"\xa4" not in content else codec


def _guessed(sample: bytes) -> str | None:
    """The codec that the statistics of the bytes speak for."""
    import chardet

    return python_codec(chardet.detect(sample)["encoding"] or "")


def _wide_but_malformed(sample: bytes) -> str | None:
    """The codec of Chinese, Japanese or Korean text that a few malformed bytes hide from the detection.

    That takes them for proof against all such codecs. One is taken that decodes most of the bytes, and that
    the detection finds once the others are left out.
    """
    if _count_high(sample) < _RUNS_FROM or _share_in_runs(sample) <= _SHARE_IN_RUNS:
        return None
    for codec in _WIDE_CODECS:
        text = sample.decode(codec, "replace")
        malformed = text.count("\ufffd")
        if 0 < malformed <= MOST_MALFORMED * sum(map(len, _NOT_ASCII.findall(text))):
            mended = text.replace("\ufffd", "").encode(codec)
            if _guessed(mended) == codec:
                return codec
    return None
