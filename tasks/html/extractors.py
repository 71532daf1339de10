"""HTML to text, four ways: one function per extractor, each ``(html, markdown) -> text``, behind :func:`extract`."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache

from tasks.html.depth import limit_depth, pieces_of
from tasks.html.layout import WIDE_LINE_BREAK

_PREFORMATTED_START = re.compile(r"<(pre|textarea)\b", re.IGNORECASE)
_PREFORMATTED_END = {
    "pre": re.compile(r"</pre", re.IGNORECASE),
    "textarea": re.compile(r"</textarea", re.IGNORECASE),
}
_WIDE_CHARACTER = re.compile("[\u2e80-\U0003ffff]")
_ALONE = re.compile(r"(?<=>)([ \t\n]{0,50}+[^\x00-\x7f])(?=[ \t\n]{0,50}<)")


def extract(html: str, extractor: str = "athanor", markdown: bool = False) -> str:
    """The text of a page by the extractor of this name, tidied; empty if it finds none.

    Linear in the length of the page, whatever its nesting. Raises ValueError for ``markdown`` where
    the extractor has none (see :data:`MARKDOWN`).
    """
    if markdown and extractor not in MARKDOWN:
        raise ValueError(f"the extractor {extractor} has no Markdown; take one of {', '.join(sorted(MARKDOWN))}")
    return tidy(EXTRACTORS[extractor](html, markdown))


def extract_each(pages: Sequence[str], extractor: str = "athanor", markdown: bool = False) -> list[str]:
    """Likewise of several pages: what ``extract`` gives for each, by ``athanor`` in less time."""
    if extractor not in TOGETHER:
        return [extract(html, extractor, markdown) for html in pages]
    from tasks.html.main_text import main_texts

    return [tidy(text) for text in main_texts(pages, markdown)]


def join_wide_lines(html: str) -> str:
    """Without the line breaks that only wrap the source of Chinese and Japanese text, for parsers that keep them."""
    if html.isascii() or not _WIDE_CHARACTER.search(html):
        return html
    pieces = pieces_of(html, _PREFORMATTED_START, _PREFORMATTED_END)
    pieces[::2] = [WIDE_LINE_BREAK.sub("", piece) for piece in pieces[::2]]
    return "".join(pieces)


def by_athanor(html: str, markdown: bool = False) -> str:
    """The main text by a small network over a page's blocks; never empty where there is text."""
    from tasks.html.main_text import main_text

    return main_text(html, markdown)


def by_trafilatura(html: str, markdown: bool = False) -> str:
    """The main text as trafilatura finds it, tables as rows of ``a | b |``, comments left out; may be empty."""
    import trafilatura

    form = "markdown" if markdown else "txt"
    html = join_wide_lines(limit_depth(html))
    return trafilatura.extract(html, include_comments=False, include_tables=True, output_format=form) or ""


def by_resiliparse(html: str, markdown: bool = False) -> str:
    """The main text as resiliparse's rules find it."""
    from resiliparse.extract.html2text import extract_plain_text

    # It takes an element with one non-ASCII character for a sign, and loses 文 of 中<b>文</b>. Pages
    # hold no U+FEFF any more (``without_controls``), so it can stand beside such a character.
    html = _ALONE.sub("\\1\ufeff", join_wide_lines(limit_depth(html)))
    text: str = extract_plain_text(html, main_content=True, alt_texts=False, comments=False)
    return text.replace("\ufeff", "").replace("\xa0", " ")


def by_beautifulsoup(html: str, markdown: bool = False) -> str:
    """All text but navigation and boilerplate, with the page's lines, lists, table rows and indentation."""
    from tasks.html.soup import text_of_page

    return text_of_page(limit_depth(html), markdown)


def all_text(html: str) -> str:
    """Everything a reader sees, navigation and boilerplate too: not for training, but to judge an extractor by."""
    from resiliparse.extract.html2text import extract_plain_text

    return str(
        extract_plain_text(join_wide_lines(limit_depth(html)), main_content=False, alt_texts=False, comments=True)
    )


EXTRACTORS: dict[str, Callable[[str, bool], str]] = {
    "athanor": by_athanor,
    "beautifulsoup": by_beautifulsoup,
    "trafilatura": by_trafilatura,
    "resiliparse": by_resiliparse,
}
MARKDOWN = frozenset(EXTRACTORS) - {"resiliparse"}
"""Extractors that can write Markdown."""
TOGETHER = frozenset(("athanor",))
"""Extractors that take less time for several pages at once."""


@lru_cache
def warm_up(extractor: str) -> None:
    """Import what an extractor needs, once: it can take seconds that no page should be blamed for."""
    import lxml.etree  # noqa: F401 - the parser beneath beautifulsoup and trafilatura, named here as what shapes text

    extract("<html><body><p>warm</p></body></html>", extractor)


_BLANK_LINES = re.compile(r"\n{4,}")


def tidy(text: str) -> str:
    """No spaces at the ends of lines, at most two blank lines in a row, no soft hyphens, no blank ends."""
    lines = (line.rstrip() for line in text.replace("\xad", "").split("\n"))
    return _BLANK_LINES.sub("\n\n\n", "\n".join(lines)).strip("\n")
