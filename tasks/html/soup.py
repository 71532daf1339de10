"""A page's visible text by BeautifulSoup: everything but navigation and boilerplate.

Every walk is a loop, so that no depth of nesting matters.
"""

from __future__ import annotations

import re
import warnings
from typing import NamedTuple

from bs4 import BeautifulSoup, XMLParsedAsHTMLWarning
from bs4.element import Comment, NavigableString, PageElement, PreformattedString, Tag

from tasks.html.layout import BLOCKS, Layout
from tasks.html.mathematics import tex_of
from tasks.html.names import names

INVISIBLE = frozenset(
    names(
        "script style noscript template head title meta link svg canvas iframe object embed audio video map area "
        "input select button textarea datalist progress meter dialog rt rp annotation annotation-xml"
    )
)
FORMULAS = names("math script img")
BOILERPLATE_ROLES = names("navigation banner contentinfo search complementary menu menubar toolbar dialog")
BOILERPLATE_NAMES = frozenset(
    names(
        "nav navbar navigation navigator menu menubar submenu dropdown sidebar breadcrumb breadcrumbs cookie cookies "
        "consent footer footnav topbar toolbar ad ads advert advertisement banner sponsor social share sharing related "
        "recommended pagination pager popup modal newsletter subscribe skip skiplink widget comments commentlist "
        "respond sitemap sphinxsidebar headerlink promo teaser"
    )
)
"""Words of a class or id that mark navigation and boilerplate."""

_WORDS = re.compile(r"[a-z]+")
_HIDDEN = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden", re.IGNORECASE)

MAX_SHARE_OF_BOILERPLATE = 0.4
"""What holds more of the page's text than this is no boilerplate, whatever it is called."""
MIN_SHARE_OF_MAIN = 0.2
"""The only ``main`` element of a page is taken for the whole if it holds at least this share of the text."""
MIN_LINKS = 2
LINK_SHARE = 0.6
"""A block with at least so many links, holding at least this share of its text, is navigation, unless
it holds the title."""


class Weight(NamedTuple):
    """Visible characters below an element, those within links, the number of links; whether it holds the title."""

    text: int
    linked: int
    links: int
    titled: bool


def text_of_page(html: str, markdown: bool = False) -> str:
    """The text of a page; lines separated by ``\n``, paragraphs by a blank line."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", XMLParsedAsHTMLWarning)
        soup = BeautifulSoup(html, "lxml")
    root = soup.body or soup
    weights = _weigh(root)
    text = _text_of(_main_of(root, weights), weights, markdown)
    if len(text) < 0.1 * weights[id(root)].text:  # the rules misjudged the page: better all than nothing
        text = _text_of(root, {}, markdown)
    return text


def _main_of(root: Tag, weights: dict[int, Weight]) -> Tag:
    """The only ``main`` or ``article`` element, if it holds a fair share of the text; else ``root``."""
    for candidates in (root.find_all("main"), root.find_all(True, role="main"), root.find_all("article")):
        if len(candidates) == 1 and weights[id(candidates[0])].text >= MIN_SHARE_OF_MAIN * weights[id(root)].text:
            return candidates[0]
    return root


def _is_text(node: PageElement) -> bool:
    return isinstance(node, NavigableString) and not isinstance(node, (Comment, PreformattedString))


def _weigh(root: Tag) -> dict[int, Weight]:
    """The weight of every element below ``root``, by ``id``."""
    weights: dict[int, Weight] = {}
    stack: list[tuple[Tag, bool]] = [(root, False)]
    while stack:
        element, done = stack.pop()
        if not done:
            stack.append((element, True))
            stack.extend((child, False) for child in element.children if isinstance(child, Tag))
            continue
        text = linked = links = 0
        titled = element.name == "h1" or "title" in element.get_attribute_list("class")
        if element.name not in INVISIBLE:
            for child in element.children:
                if isinstance(child, Tag):
                    below = weights[id(child)]
                    text, linked, links = text + below.text, linked + below.linked, links + below.links
                    titled = titled or below.titled
                elif _is_text(child):
                    text += len("".join(str(child).split()))
            if element.name == "a" and element.has_attr("href") and text:
                linked, links = text, 1
        weights[id(element)] = Weight(text, linked, links, titled)
    return weights


def _is_boilerplate(element: Tag, weights: dict[int, Weight], page: int, inside_article: bool) -> bool:
    weight = weights[id(element)]
    if weight.text > MAX_SHARE_OF_BOILERPLATE * page:
        return False
    if element.name in ("nav", "menu", "footer"):
        return True
    if element.name == "header":
        return not inside_article and element.find(["h1", "article"]) is None
    if element.name == "aside" and not inside_article:
        return True
    if str(element.get("role", "")).lower() in BOILERPLATE_ROLES:
        return True
    if element.name in BLOCKS or element.name == "td":
        if not weight.titled and weight.links >= MIN_LINKS and weight.linked >= LINK_SHARE * weight.text:
            return True
        names = f"{' '.join(element.get_attribute_list('class') or [])} {element.get('id') or ''}".lower()
        return not BOILERPLATE_NAMES.isdisjoint(_WORDS.findall(names))
    return False


def _is_hidden(element: Tag) -> bool:
    if element.has_attr("hidden") or element.get("aria-hidden") == "true":
        return True
    return bool(_HIDDEN.search(str(element.get("style") or "")))


def _text_of(root: Tag, weights: dict[int, Weight], markdown: bool) -> str:
    """Lay out what is below ``root``; with empty ``weights`` nothing is taken for boilerplate."""
    out = Layout(markdown)
    page = weights[id(root)].text if weights else 0
    articles = 0
    stack: list[tuple[PageElement, bool]] = [(root, False)]
    while stack:
        node, closing = stack.pop()
        if not isinstance(node, Tag):
            if _is_text(node):
                out.write(str(node))
            continue
        if closing:
            out.close(node.name)
            articles -= node.name in ("article", "main")
        elif node.name in FORMULAS and (tex := tex_of(str(node))):
            out.write(tex)
        elif node.name not in INVISIBLE and not _is_hidden(node):
            if weights and node is not root and _is_boilerplate(node, weights, page, articles > 0):
                out.open("div")
                continue
            out.open(node.name, str(node.get("start") or "1"))
            articles += node.name in ("article", "main")
            stack.append((node, True))
            stack.extend((child, False) for child in reversed(node.contents))
    return out.text()
