"""Pages and texts that are meant to break things, the same for the same seed."""

from __future__ import annotations

import random
import tarfile
from collections.abc import Callable, Iterator

from tests.helpers import SHARED

_PARAGRAPH = "The furnace keeps an even heat, and is fed once. "
_CHINESE = "炉火要保持均匀的温度，直到炼成为止。"
_TAG_NAMES = (
    "div p span table tr td ul ol li dl dt dd a b i em pre code h1 h2 article section main nav br img math script "
    "style template noscript svg iframe select option textarea title head body html"
)
_TAGS = tuple(_TAG_NAMES.split())

PAGES = [
    f"<!doctype html><html lang=en><head><title>Heat</title></head><body>"
    f"<nav><a href=/>Home</a> <a href=/b>More</a></nav><article><h1>Heat</h1><p>{_PARAGRAPH * 6}</p><ul><li>one</ul>"
    f"<pre>if a &lt; b:\n    c()</pre><table><tr><td>a<td>b</table></article><footer>© 2024</footer></body></html>",
    f'<html xml:lang="zh"><head><title>炉火</title><link rel="license" href='
    f'"//creativecommons.org/licenses/by/4.0/"></head><body><div class="main"><h1>炉火</h1>'
    f"<p>{_CHINESE * 9}</p><p>{_CHINESE * 5}<b>文</b>"
    f'</p></div><div class="sidebar"><a href="1">一</a><a href="2">二</a></div></body></html>',
    f'<html><head><script type="application/ld+json">{{"@type":"Article","datePublished":"2024-05-31","license":"x"}}'
    f'</script><meta property="og:title" content="t"></head><body><p>{_PARAGRAPH}'
    f"<math><mi>x</mi><mo>=</mo></math> <a rel=license href=/l>l</a><p dir=rtl>{'שלום عالم ' * 20}</p></body>",
    f"<TABLE><TR><TD><FONT SIZE=2>{_PARAGRAPH * 4}<BR><BR>{_PARAGRAPH * 4}<TR><TD>{_CHINESE * 3}</TABLE>",
    f"<body>{'<p>word word, word.</p>' * 40}<blockquote>{_PARAGRAPH}</blockquote><dl><dt>a<dd>b</dl>",
]
TYPES = ["text/html", "text/html; charset=utf-8", "text/html; charset=gb2312", "text/plain", "", "application/xml"]
ENCODINGS = ["utf-8"] * 8 + ["gb18030", "big5", "shift_jis", "utf-16", "utf-16-be", "cp1251", "euc-kr", "utf-8-sig"]

PIECES: list[bytes | str] = [
    *(
        b"\x00",
        b"\x00" * 50,
        b"\xed\xa0\x80",
        b"\xed\xb0\x80",
        b"\xff\xfe",
        b"\xef\xbb\xbf",
        b"\xc0\x80",
        b"\xf5\x80\x80",
    ),
    *(
        "\u202e",
        "\u200f\u202b",
        "\u2028",
        "\ufffe",
        "\U0010ffff",
        "e" + "\u0301" * 90,
        "\u0085",
        "\x1b$B",
        "\u200b" * 30,
    ),
    *(
        "<!--",
        "-->",
        "<![CDATA[",
        "]]>",
        "<script>",
        "</script",
        "<style>",
        "<textarea>",
        "<title>",
        "<plaintext>",
        "<?x ",
    ),
    *("<", ">", '"', "'", "=", "&", ";", "&amp;" * 40, "&lt;" * 40, "&#0;", "&#xd800;", "&#x110000;", "&#99999999999;"),
    *('<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;&a;">]>', "&b;&b;&b;", "&" * 60, "&#" * 60, "<a href='"),
    *(
        "<div " + "a=b " * 90,
        "<p style='" + "x" * 900,
        "<table><table><table>",
        "</p></p></p>",
        "<svg><p>",
        "<math><a><math>",
    ),
    *("<select><option>", "<frameset>", "<meta charset=utf-7>", "<base href='http://['>", "<noscript><noscript>"),
]


def base_pages() -> list[bytes]:
    """Made pages, and small real ones where the data beside the project are."""
    pages = [page.encode() for page in PAGES]
    archive = SHARED / "extraction" / "trafilatura_eval.tar.xz"
    if archive.exists():
        with tarfile.open(archive) as tar:
            for member in tar:
                if member.name.endswith(".html") and member.size < 6_000 and len(pages) < 40:
                    file = tar.extractfile(member)
                    assert file is not None
                    pages.append(file.read())
    return pages


def mutated_pages(count: int, seed: int) -> Iterator[tuple[bytes, str]]:
    """``count`` pages with their content types."""
    rng = random.Random(seed)
    bases = base_pages()
    for _ in range(count):
        page = rng.choice(bases)
        for _ in range(rng.choice((1, 1, 2, 3, 6))):
            page = rng.choice(MUTATIONS)(page[:20_000], rng)
        yield page, rng.choice(TYPES)


def _cut(page: bytes, rng: random.Random) -> bytes:
    return page[: rng.randrange(len(page) + 1)]


def _without_a_part(page: bytes, rng: random.Random) -> bytes:
    start = rng.randrange(len(page) + 1)
    return page[:start] + page[start + rng.randrange(200) :]


def _part_twice(page: bytes, rng: random.Random) -> bytes:
    start, end = sorted(rng.randrange(len(page) + 1) for _ in range(2))
    return page[:end] + page[start:end][:5_000] * rng.randrange(1, 4) + page[end:]


def _flipped(page: bytes, rng: random.Random) -> bytes:
    changed = bytearray(page)
    for _ in range(rng.randrange(1, 30)):
        if changed:
            changed[rng.randrange(len(changed))] = rng.randrange(256)
    return bytes(changed)


def _with_pieces(page: bytes, rng: random.Random) -> bytes:
    for _ in range(rng.randrange(1, 8)):
        piece = rng.choice(PIECES)
        at = rng.randrange(len(page) + 1)
        page = page[:at] + (piece if isinstance(piece, bytes) else piece.encode("utf-8", "surrogatepass")) + page[at:]
    return page


def _with_soup(page: bytes, rng: random.Random) -> bytes:
    soup = "".join(f"<{rng.choice(('', '/'))}{rng.choice(_TAGS)}{rng.choice(('', ' x', '/'))}>" for _ in range(60))
    at = rng.randrange(len(page) + 1)
    return page[:at] + soup.encode() + page[at:]


def _nested(page: bytes, rng: random.Random) -> bytes:
    levels, tag = rng.choice((30, 300, 1_000)), rng.choice(_TAGS).encode()
    at = rng.randrange(len(page) + 1)
    return page[:at] + b"<%s>" % tag * levels + page[at:] + b"</%s>" % tag * rng.choice((0, levels))


def _with_huge_attribute(page: bytes, rng: random.Random) -> bytes:
    at = page.find(b">", rng.randrange(len(page) + 1))
    value = rng.choice((b"x", b"a=", b"&amp;", b"\\'", "文".encode())) * rng.choice((100, 3_000))
    return (
        page[:at]
        + b" %s=%s%s" % (rng.choice((b"class", b"style", b"href")), rng.choice((b'"', b"", b"'")), value)
        + page[at:]
    )


def _reencoded(page: bytes, rng: random.Random) -> bytes:
    return page.decode("utf-8", "ignore").encode(rng.choice(ENCODINGS), "ignore")


def _shouting(page: bytes, rng: random.Random) -> bytes:
    return page.upper() if rng.random() < 0.5 else page.replace(b">", b"", rng.randrange(1, 50))


MUTATIONS: list[Callable[[bytes, random.Random], bytes]] = [
    *(_cut, _without_a_part, _part_twice, _flipped, _with_pieces, _with_pieces, _with_soup, _nested),
    *(_with_huge_attribute, _reencoded, _shouting),
]

MEGABYTE = 1_000_000
LARGE_PAGES = {
    "a word of a million letters": b"<p>" + b"x" * MEGABYTE,
    "a Chinese word of a million characters": b"<p>" + "文".encode() * MEGABYTE,
    "a line of ten megabytes": b"<p>" + b"word and word, " * 660_000,
    "unclosed comments": b"<p>text</p><!-- " * 60_000,
    "unclosed tags": b"<div" * 250_000,
    "unclosed attributes": b"<a href='" * 100_000,
    "deep": b"<div>" * 100_000 + b"text " * 50,
    "deep in many ways": b"<b><i><p><table><td>" * 30_000,
    "entities": b"&amp;&lt;&#x41;&notanentity" * 40_000,
    "ampersands": b"<p>" + b"&" * MEGABYTE,
    "a huge attribute": b"<p class='" + b"nav " * 250_000 + b"'>text",
    # Parsers compare every attribute of a tag with all others, so that more of them end in a time-out.
    "many attributes": b"<p " + b"".join(b"a%d=b " % n for n in range(15_000)) + b">text",
    "many tags": b"<br>" * 250_000,
    "many small blocks": b"<p>a b</p>" * 60_000,
    "many metas": b"<head>" + b"<meta name='robots' content='all'>" * 30_000,
    "an unclosed title": b"<title>" * 140_000,
    "an unclosed script": b"<script>" + b"var x = '<p>';" * 70_000,
    "scripts of JSON": b'<script type="application/ld+json">{"datePublished":' * 20_000,
    "links to licences": b'<a rel="license" href="http://e.org/">x</a>' * 20_000,
    "moments": b"<time datetime='2024-05-31x'>" * 30_000,
    "nothing but spaces": b" " * MEGABYTE,
    "line breaks": b"<pre>" + b"\r\n" * 500_000,
    "wide line breaks": "文\n".encode() * 250_000,
    "right to left": "<p>\u202e\u200f\u202bשלום ".encode() * 40_000,
    "combining marks": b"<p>e" + "\u0301".encode() * 400_000,
    "zeros": b"<p>text</p>" * 1_000 + b"\x00" * 200,
    "mojibake": b"<p>" + "炉火要保持均匀".encode().decode("latin-1").encode() * 10_000,
    "columns of tables": b"<table>" + b"<tr><td>a<td>b" * 40_000,
    "brackets": b"[[[[{{{{((((" * 80_000,
}


HOSTILE_TEXTS = {
    "nothing": "",
    "spaces": " \n\t " * 1_000,
    "nul": "before\x00after " * 50,
    "right to left": "\u202eזהו טקסט מימין לשמאל\u202c and on. " * 40,
    "byte order marks": "\ufeffword " * 100,
    "combining": "e" + "\u0301" * 20_000,
    "no letters": "!?…—★" * 5_000,
    "a long word": "x" * MEGABYTE,
    "a long Chinese line": "炉火要保持均匀的温度，直到炼成为止。" * 30_000,
    "a long number": "1234567890" * 100_000,
    "a long e-mail": "a." * 200_000 + "@example.org",
    "at signs": "a@" * 300_000,
    "dots and dashes": "1.-" * 300_000,
    "colons": ":" * 300_000 + "a:b::c:" * 50_000,
    "slashes": "http://" * 100_000,
    "keys": "-----BEGIN PRIVATE KEY-----" * 20_000,
    "a line of ten megabytes": "word and word, " * 660_000,
    "lines": "\n" * 300_000,
    "emoji": "🔥" * 100_000,
    "private use": "\ue000\uf8ff\U000f0000" * 1_000,
    "not characters": "\ufffe\uffff\U0010ffff" * 1_000,
    "replacement": "\ufffd" * 10_000,
}
"""Texts as they could stand in Parquet, which takes no lone surrogates."""
