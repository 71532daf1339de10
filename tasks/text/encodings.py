"""Bytes of a page to clean Unicode text."""

from __future__ import annotations

import codecs
import re
import unicodedata
from dataclasses import dataclass

META_BYTES = 4096
"""How far into a page a ``<meta charset>`` is looked for (the HTML standard asks for at least 1,024 bytes)."""

DETECTION_BYTES = 100_000
"""How much of a page (tags taken out) the statistical detection looks at."""

_BOMS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))

# The WHATWG Encoding Standard decodes these labels as a superset, since that is what pages hold.
_SUPERSETS = {
    "ascii": "cp1252",
    "iso8859-1": "cp1252",
    "iso8859-9": "cp1254",
    "iso8859-11": "cp874",
    "tis-620": "cp874",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "big5": "big5hkscs",
    "cp950": "big5hkscs",
    "shift_jis": "cp932",
    "shift_jis_2004": "cp932",
    "euc_kr": "cp949",
}
_LABELS = {
    "x-sjis": "cp932",
    "x-gbk": "gb18030",
    "x-x-big5": "big5hkscs",
    "ks_c_5601-1987": "cp949",
    "unicode": "utf-8",
}

_CHARSET = re.compile(rb"""charset\s{0,20}=\s{0,20}["']?\s{0,20}([A-Za-z0-9][A-Za-z0-9_.:-]{1,40})""", re.IGNORECASE)
_META = re.compile(rb"<meta\b[^>]{0,1000}>", re.IGNORECASE)
_XML_DECLARATION = re.compile(rb"""^\s{0,20}<\?xml[^>]{0,200}encoding\s{0,9}=\s{0,9}["']([A-Za-z0-9_.:-]{2,40})["']""")
_TAGS = re.compile(rb"<[^<>]*+>")

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

_CONTROLS = re.compile("[\x00-\x08\x0b\x0e-\x1f\x7f-\x84\x86-\x9f\ufeff\ufff9-\ufffb\ufffe\uffff]")
_LINE_BREAKS = re.compile("\r\n|[\r\x0c\x85\u2028\u2029]")
_SURROGATES = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class Decoded:
    """Text, and the Python codec that gave it."""

    text: str
    encoding: str


def looks_binary(content: bytes, content_type: str = "") -> bool:
    """Whether bytes are no text in any encoding: a known signature, or over 2 % control bytes (NUL included).

    UTF-16 with a byte order mark, or declared by the transport, is text.
    """
    if content.startswith(_SIGNATURES):
        return True
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or "utf-16" in content_type.lower():
        return False
    head = content[:65_536]
    controls = len(head) - len(head.translate(None, _CONTROL_BYTES))
    return controls > 0.02 * len(head)


def python_codec(label: str) -> str | None:
    """The Python codec for an encoding label as browsers read it; None if there is none.

    ``gb2312`` → ``gb18030``, ``iso-8859-1`` → ``cp1252`` and so on.
    """
    label = label.strip().lower()
    try:
        name = codecs.lookup(_LABELS.get(label, label)).name
    except (LookupError, ValueError):
        return None
    name = _SUPERSETS.get(name, name)
    try:  # codecs such as base64 are registered too
        b"  ".decode(name, "replace")
    except LookupError:
        return None
    return name


def decode(content: bytes, content_type: str = "", is_html: bool = True) -> Decoded:
    """Decode a page as browsers do: byte order mark, then transport charset, then ``<meta>``, then detection.

    One step beyond them: a declared encoding that the bytes contradict (malformed sequences, or
    well-formed UTF-8 under another name) gives way to detection, since a model would learn the
    mojibake that a reader shrugs at. Never raises; what cannot be decoded becomes U+FFFD.
    """
    for bom, codec in _BOMS:
        if content.startswith(bom):
            return Decoded(content[len(bom) :].decode(codec, "replace"), codec)
    declared = _declared(content, content_type, is_html)
    if declared and declared[0] != "utf-8" and _surely_utf8(content):
        declared.insert(0, "utf-8")
    for codec in declared:
        text = _strictly(content, codec)
        if text is not None:
            return Decoded(text, codec)
    guessed = [*declared, *_detected(content)]
    best = min(dict.fromkeys(guessed), key=lambda codec: content.decode(codec, "replace").count("\ufffd"))
    return Decoded(content.decode(best, "replace"), best)


def _declared(content: bytes, content_type: str, is_html: bool) -> list[str]:
    labels = []
    if match := _CHARSET.search(content_type.encode("utf-8", "replace")):
        labels.append(match[1])
    if is_html:
        head = content[:META_BYTES]
        if match := _XML_DECLARATION.match(head):
            labels.append(match[1])
        labels.extend(found[1] for meta in _META.findall(head) if (found := _CHARSET.search(meta)))
    codecs_found = (python_codec(label.decode("ascii", "replace")) for label in labels)
    # A page whose ASCII letters could be read here is not in UTF-16, whatever it says.
    ascii_like = b"<" in content[:META_BYTES] and b"\x00" not in content[:META_BYTES]
    return [("utf-8" if ascii_like and c.startswith("utf-16") else c) for c in codecs_found if c is not None]


def _strictly(content: bytes, codec: str) -> str | None:
    """The decoded text; None if the bytes are malformed in ``codec`` (an incomplete last character aside)."""
    try:
        return codecs.getincrementaldecoder(codec)("strict").decode(content, False)
    except UnicodeDecodeError:
        return None


def _surely_utf8(content: bytes) -> bool:
    """Well-formed UTF-8 with so many non-ASCII bytes that it can hardly be by chance."""
    if content.isascii() or _strictly(content, "utf-8") is None:
        return False
    return len(content) - len(content.translate(None, bytes(range(128, 256)))) >= 12


def _detected(content: bytes) -> list[str]:
    """Encodings that the bytes may be in, likeliest first; never empty."""
    if _strictly(content, "utf-8") is not None:
        return ["utf-8"]
    import chardet

    sample = _TAGS.sub(b" ", content[: 4 * DETECTION_BYTES])[:DETECTION_BYTES]
    codec = python_codec(chardet.detect(sample)["encoding"] or "")
    return [*([codec] if codec is not None else []), "cp1252", "utf-8"]


def without_controls(text: str) -> str:
    """Newlines as ``\\n``, no other control characters than tab, no lone surrogates (U+FFFD instead)."""
    text = _LINE_BREAKS.sub("\n", text)
    if not text.isascii():
        text = _SURROGATES.sub("\ufffd", text)
    return _CONTROLS.sub("", text)


def normalise(text: str) -> str:
    """:func:`without_controls`, and composed Unicode (NFC).

    Full-width forms, ligatures and quotation marks stay as they are: NFC, not NFKC. Not for markup,
    where ``>`` and a combining stroke would become one character.
    """
    return unicodedata.normalize("NFC", without_controls(text))


def repair(text: str) -> str:
    """Undo mojibake (text decoded with the wrong encoding somewhere upstream), then :func:`normalise`.

    ftfy's encoding repair alone, line by line; its rewriting of widths, ligatures, quotation marks
    and HTML entities is off, since these are what the author wrote.
    """
    if text.isascii():
        return normalise(text)
    from ftfy import TextFixerConfig, fix_encoding
    from ftfy.badness import is_bad

    # The inconsistent repair rewrites parts of lines, hence also the examples in texts about encodings.
    config = TextFixerConfig(decode_inconsistent_utf8=False, replace_lossy_sequences=False)
    text = _LINE_BREAKS.sub("\n", _SURROGATES.sub("\ufffd", text))
    lines = text.split("\n")
    return normalise(
        "\n".join(line if line.isascii() or not is_bad(line) else fix_encoding(line, config) for line in lines)
    )
