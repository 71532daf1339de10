"""HTML to plain text, three ways: one function per extractor, each ``(html, title) -> text``.

All of them get HTML prepared by :func:`prepare`: at most :data:`MAX_DEPTH` levels deep, and without
the line breaks that only wrap the source of Chinese and Japanese text.
"""

from __future__ import annotations

import re
from collections.abc import Callable

MAX_DEPTH = 200
"""Deeper elements are taken as siblings, as Chromium does beyond 512; libxml2 drops what is deeper than 256."""

_WIDE = "\u2e80-\u303f\u3040-\u30ff\u31f0-\u9fff\uf900-\ufaff\uff01-\uff60\uff61-\uff9f\U00020000-\U0003ffff"
"""Han, kana, and their punctuation: scripts without spaces between words (Hangul has them)."""

_WIDE_LINE_BREAK = re.compile(f"(?<=[{_WIDE}])[ \t]*\n[ \t]*(?=[{_WIDE}])")
# Every pattern here is linear on any input: possessive quantifiers, or bounded ones.
_RAW_START = re.compile(r"<(script|style|!--)", re.IGNORECASE)
_RAW_END = {
    "script": re.compile(r"</script[^<>]*+>?", re.IGNORECASE),
    "style": re.compile(r"</style[^<>]*+>?", re.IGNORECASE),
    "!--": re.compile("-->"),
}
_PREFORMATTED_START = re.compile(r"<(pre|textarea)\b", re.IGNORECASE)
_PREFORMATTED_END = {
    "pre": re.compile(r"</pre", re.IGNORECASE),
    "textarea": re.compile(r"</textarea", re.IGNORECASE),
}
_TAG = re.compile(r"<(/?)([a-zA-Z][a-zA-Z0-9-]*+)[^<>]*+>")
_ALONE = re.compile(r"(?<=>)([ \t\n]{0,50}+[^\x00-\x7f])(?=[ \t\n]{0,50}<)")

# Elements that cannot nest (void), or whose end tag may be left out, so that counting them says nothing about depth.
_DEPTHLESS_NAMES = (
    "area base br col embed hr img input link meta param source track wbr frame "
    "p li dt dd tr td th thead tbody tfoot option optgroup colgroup rt rp html head body"
)
_DEPTHLESS = frozenset(_DEPTHLESS_NAMES.split())


def prepare(html: str) -> str:
    """Make a page harmless to every parser; linear time."""
    pieces = _split(html, _PREFORMATTED_START, _PREFORMATTED_END)
    pieces[::2] = [_WIDE_LINE_BREAK.sub("", piece) for piece in pieces[::2]]
    return _limit_depth("".join(pieces))


def _split(html: str, start: re.Pattern[str], ends: dict[str, re.Pattern[str]]) -> list[str]:
    """Pieces outside and inside such elements, in turn; an element without an end takes the rest."""
    pieces, position = [], 0
    while opening := start.search(html, position):
        closing = ends[opening[1].lower()].search(html, opening.end())
        end = closing.end() if closing else len(html)
        pieces += [html[position : opening.start()], html[opening.start() : end]]
        position = end
    return [*pieces, html[position:]]


def _limit_depth(html: str) -> str:
    """Leave out the tags of elements nested deeper than :data:`MAX_DEPTH`, and keep what is in them."""
    if html.count("<") <= MAX_DEPTH:
        return html
    depth = deepest = 0
    for match in _TAG.finditer(html):
        if match[2].lower() not in _DEPTHLESS:
            depth = max(depth - 1, 0) if match[1] else depth + 1
            deepest = max(deepest, depth)
    if deepest <= MAX_DEPTH:
        return html
    depth = 0

    def keep(match: re.Match[str]) -> str:
        nonlocal depth
        if match[2].lower() in _DEPTHLESS:
            return match[0]
        if match[1]:
            depth = max(depth - 1, 0)
            return match[0] if depth < MAX_DEPTH else " "
        depth += 1
        return match[0] if depth <= MAX_DEPTH else " "

    return _TAG.sub(keep, " ".join(_split(html, _RAW_START, _RAW_END)[::2]))


def by_trafilatura(html: str) -> str:
    """The main text as trafilatura finds it, tables as rows of ``a | b |``, comments left out; may be empty."""
    import trafilatura

    return trafilatura.extract(html, include_comments=False, include_tables=True) or ""


def by_resiliparse(html: str) -> str:
    """The main text as resiliparse's rules find it; the fastest."""
    from resiliparse.extract.html2text import extract_plain_text

    # It takes an element with one non-ASCII character for a sign, and loses 文 of 中<b>文</b>. Pages
    # hold no U+FEFF any more (``without_controls``), so it can stand beside such a character.
    html = _ALONE.sub("\\1\ufeff", html)
    text: str = extract_plain_text(html, main_content=True, alt_texts=False, comments=False)
    return text.replace("\ufeff", "").replace("\xa0", " ")


def by_beautifulsoup(html: str) -> str:
    """All text but navigation and boilerplate, with the page's lines, lists, table rows and indentation."""
    from tasks.html.layout import text_of_page

    return text_of_page(html)


def all_text(html: str) -> str:
    """Everything a reader sees, navigation and boilerplate too: not for training, but to judge an extractor by."""
    from resiliparse.extract.html2text import extract_plain_text

    return str(extract_plain_text(html, main_content=False, alt_texts=False, comments=True))


EXTRACTORS: dict[str, Callable[[str], str]] = {
    "beautifulsoup": by_beautifulsoup,
    "trafilatura": by_trafilatura,
    "resiliparse": by_resiliparse,
}


def warm_up(extractor: str) -> None:
    """Import what an extractor needs, which can take seconds that no page should be blamed for."""
    import lxml.etree  # noqa: F401 - the parser beneath beautifulsoup and trafilatura, named here as what shapes text

    EXTRACTORS[extractor]("<html><body><p>warm</p></body></html>")


_BLANK_LINES = re.compile(r"\n{4,}")


def tidy(text: str) -> str:
    """No spaces at the ends of lines, at most two blank lines in a row, no soft hyphens, no blank ends."""
    lines = (line.rstrip() for line in text.replace("\xad", "").split("\n"))
    return _BLANK_LINES.sub("\n\n\n", "\n".join(lines)).strip("\n")
