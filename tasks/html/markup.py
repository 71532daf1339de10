"""A page as a list of well-formed tags: parsed in C as browsers do, stripped of what no reader sees, and read back.

Python looks at a node only once it is a tuple of strings, so a page of 170 KB costs a few hundred
of them and no objects of a tree.
"""

from __future__ import annotations

import re

from selectolax.lexbor import LexborHTMLParser, LexborNode

from tasks.html.depth import limit_depth, may_be_deep
from tasks.html.mathematics import with_tex_for_math
from tasks.html.names import names
from tasks.html.stripping import without_crowded_attributes, without_scripts

MAX_DEPTH = 500
"""Deeper elements are taken as siblings; Chromium does so beyond 512. The parser's time grows with the depth."""


Tags = list[tuple[str, str, str, str]]
"""Tags in the order of the page, each with the text up to the next: ``("/" or "", name, attributes, text)``.

As the HTML standard serialises them: names in lower case, attributes as ``' class="a" id="b"'``, ``&amp;`` escaped.
Links are no tags: :data:`LINK` and :data:`LINK_END` stand in the text instead.
"""
LINK, LINK_END = "\x01", "\x02"
"""Characters that pages do not hold (``without_controls``)."""

_INVISIBLE = names(
    "script style template svg head iframe object canvas video audio select button textarea img noframes rt rp"
)
"""Elements whose content no reader sees as text; void ones do no harm."""
_SCRIPTS = 'script:not([type^="math/tex"])'
_IMAGES = 'img:not([class*="math" i]):not([class*="tex" i])'
"""Formulas may be in the others."""
_DROPPED = ",".join(_INVISIBLE)
_DROPPED_BUT_MATH = ",".join([*(name for name in _INVISIBLE if name not in ("script", "img")), _SCRIPTS, _IMAGES])
_HIDDEN = 'noscript,dialog,[hidden],[aria-hidden="true"]:not(img),[style*="display:none" i],[style*="display: none" i]'
"""What browsers do not show."""
_AROUND = 'nav,footer,[role="navigation"],[role="contentinfo"],[role="search"]'
"""What is never main text."""
_COMMENTS = (
    "#comments,#disqus_thread,#respond,#reactions,#kommentare,.comments-area,.comment-list,.commentlist,.comments"
)
"""What readers wrote below an article."""
_INLINE_BUT_EMPHASIS = "span,font,u,small,time,abbr,label,form"
"""The commonest elements that say nothing about structure: the fewer tags Python sees, the better."""
_INLINE = f"{_INLINE_BUT_EMPHASIS},b,i,em,strong"

_ATTRIBUTES = r"((?: =?[^\s/>=]*+=\"[^\"]*+\")*+)"
"""Of a tag as the HTML standard serialises it."""
_TAG = re.compile(rf"<(/?)([a-z][^\s/>]*+){_ATTRIBUTES}>([^<]*+)")
# Outside quotes no "<" either: else text that begins many links and ends none would take quadratic time.
_LINK = re.compile(r"<a(?: [^\"<>]*+(?:\"[^\"]*+\"[^\"<>]*+)*+)?>")
MAX_HIDDEN_SHARE = 0.5
"""What holds more of the page's text is shown by some script, or begun by a tag out of place: it is kept."""

MIN_ARTICLE = 2000
"""Characters, navigation and white space included, that must be left for comments to be left out."""


def tags_of(html: str, emphasis: bool = False, whole: bool = False) -> Tags:
    """The visible elements of a page's body, in order; with ``emphasis``, bold and slanted text too.

    Navigation, footers and comments are left out, unless ``whole``. Linear time.
    """
    content = without_crowded_attributes(without_scripts(html.encode("utf-8", "surrogatepass")))
    if may_be_deep(content):
        content = limit_depth(content.decode("utf-8", "surrogatepass")).encode("utf-8", "surrogatepass")
    body = LexborHTMLParser(content).body
    if body is None:
        return []
    formulas = b"math" in content
    for element in body.css(_DROPPED_BUT_MATH if formulas else _DROPPED):
        element.decompose()
    _strip_small(body, _HIDDEN if whole else f"{_HIDDEN},{_AROUND}")
    if not whole and b"omment" in content:
        _strip_comments(body)
    for element in body.css(_INLINE_BUT_EMPHASIS if emphasis else _INLINE):
        element.unwrap()
    markup = body.html or ""
    if "<!--" in markup:
        before, *others = markup.split("<!--")
        markup = before + "".join([part.partition("-->")[2] for part in others])
    if formulas:
        markup = with_tex_for_math(markup)
    return _TAG.findall(_LINK.sub(LINK, markup.replace("&nbsp;", "\xa0")).replace("</a>", LINK_END))


def _strip_comments(body: LexborNode) -> None:
    """Leave out comments, if what is left is an article by its length: on a forum's page they are the text."""
    found = body.css(_COMMENTS)
    if not found:
        return
    left = _length(body)
    for element in found:
        size = _length(element)
        if left - size >= max(MIN_ARTICLE, 0.15 * size):
            element.decompose()
            left -= size


def _strip_small(body: LexborNode, selector: str) -> None:
    """Leave out what matches, unless it is most of the page."""
    found = body.css(selector)
    if not found:
        return
    limit = MAX_HIDDEN_SHARE * _length(body)
    for element in found:
        if _length(element) <= limit:
            element.decompose()


def _length(element: LexborNode) -> int:
    """Characters of text, white space included."""
    return len(element.text_lexbor() or "")
