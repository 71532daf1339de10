"""A page as a list of well-formed tags: parsed in C as browsers do, stripped of what no reader sees, and read back.

Python looks at a node only once it is a tuple of strings, so a page of 170 KB costs a few hundred
of them and no objects of a tree.
"""

from __future__ import annotations

import re

from selectolax.lexbor import LexborHTMLParser, LexborNode

from tasks.html.mathematics import with_tex_for_math
from tasks.html.names import names

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
    "script style template svg head iframe object embed canvas video audio map select button input textarea datalist "
    "progress meter link meta xmp noembed noframes plaintext frameset rt rp img"
)
_SCRIPTS = 'script:not([type^="math/tex"])'
_IMAGES = 'img:not([class*="math" i]):not([class*="tex" i])'
"""Formulas may be in the others."""
_UNWRAPPED = names(
    "span font u small big time abbr ins picture label form acronym nobr bdi bdo fieldset tbody thead tfoot"
)
"""Elements that say nothing about structure."""
_EMPHASIS = names("b i em strong cite dfn var mark s strike del tt")

_DROPPED = ",".join(_INVISIBLE)
_DROPPED_BUT_MATH = ",".join([*(name for name in _INVISIBLE if name not in ("script", "img")), _SCRIPTS, _IMAGES])
_HIDDEN = 'noscript,dialog,[hidden],[aria-hidden="true"],[style*="display:none" i],[style*="display: none" i]'
"""What browsers do not show."""
_AROUND = 'nav,footer,[role="navigation"],[role="contentinfo"],[role="search"]'
"""What is never main text."""
_INLINE = ",".join(_UNWRAPPED + _EMPHASIS)
_INLINE_BUT_EMPHASIS = ",".join(_UNWRAPPED)

_ATTRIBUTES = r"((?: =?[^\s/>=]*+=\"[^\"]*+\")*+)"
"""Of a tag as the HTML standard serialises it."""
_TAG = re.compile(rf"<(/?)([a-z][^\s/>]*+){_ATTRIBUTES}>([^<]*+)")
_LINK = re.compile(rf"<a{_ATTRIBUTES}>")
_COMMENT = re.compile(r"<!--.*?(?:-->|\Z)", re.DOTALL)
MAX_HIDDEN_SHARE = 0.5
"""What holds more of the page's text is shown by some script, or begun by a tag out of place: it is kept."""


def tags_of(html: str, emphasis: bool = False, whole: bool = False) -> Tags:
    """The visible elements of a page's body, in order; with ``emphasis``, bold and slanted text too.

    Navigation and footers are left out, unless ``whole``. Linear time.
    """
    document = LexborHTMLParser(html)
    body = document.body
    if body is None:
        return []
    for element in document.css(_DROPPED_BUT_MATH if "math" in html else _DROPPED):
        element.decompose()
    _strip_small(body, _HIDDEN if whole else f"{_HIDDEN},{_AROUND}")
    for element in body.css(_INLINE_BUT_EMPHASIS if emphasis else _INLINE):
        element.unwrap()
    markup = body.html or ""
    if "<!--" in markup:
        markup = _COMMENT.sub("", markup)
    markup = with_tex_for_math(markup).replace("&nbsp;", "\xa0")
    return _TAG.findall(_LINK.sub(LINK, markup).replace("</a>", LINK_END))


def _strip_small(body: LexborNode, selector: str) -> None:
    """Leave out what matches, unless it is most of the page."""
    found = body.css(selector)
    if not found:
        return
    limit = MAX_HIDDEN_SHARE * len(body.text_content or "")
    for element in found:
        if len(element.text_content or "") <= limit:
            element.decompose()
