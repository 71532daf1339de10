"""A page's visible text with its layout as lines, from a BeautifulSoup tree.

Follows what a browser shows (the ``innerText`` algorithm of the HTML standard): white space
collapses, no-break spaces stay and become plain ones, blocks start on their own lines, paragraphs,
lists and tables are set off by a blank line, cells of a row are separated by tabs, ``pre`` is kept
as it is. Beyond that, list items are marked, and navigation and boilerplate are left out.
Every walk is a loop, so that no depth of nesting matters.
"""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass, field
from typing import NamedTuple

from bs4 import BeautifulSoup, XMLParsedAsHTMLWarning
from bs4.element import Comment, NavigableString, PageElement, PreformattedString, Tag


def _names(words: str) -> frozenset[str]:
    return frozenset(words.split())


INVISIBLE = _names(
    "script style noscript template head title meta link svg canvas iframe object embed audio video map area "
    "input select button textarea datalist progress meter dialog rt rp annotation annotation-xml"
)
BLOCKS = _names(
    "address article aside body caption center dd details div dl dt fieldset figcaption figure footer form h1 h2 h3 h4 "
    "h5 h6 header hgroup hr html legend li main menu nav ol p pre search section summary table tbody tfoot thead tr ul "
    "blockquote"
)
SPACED = _names("p pre h1 h2 h3 h4 h5 h6 ul ol dl table blockquote figure")
"""Blocks that a blank line sets off (nested lists and tables excepted)."""

BOILERPLATE_ROLES = _names("navigation banner contentinfo search complementary menu menubar toolbar dialog")
BOILERPLATE_NAMES = _names(
    "nav navbar navigation navigator menu menubar submenu dropdown sidebar breadcrumb breadcrumbs cookie cookies "
    "consent footer footnav topbar toolbar ad ads advert advertisement banner sponsor social share sharing related "
    "recommended pagination pager popup modal newsletter subscribe skip skiplink widget comments commentlist respond "
    "sitemap sphinxsidebar headerlink promo teaser"
)
"""Words of a class or id that mark navigation and boilerplate."""

_WORDS = re.compile(r"[a-z]+")
_SPACES = re.compile(r"[ \t\n\r\f]+")
_HIDDEN = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden", re.IGNORECASE)

MAX_SHARE_OF_BOILERPLATE = 0.4
"""What holds more of the page's text than this is no boilerplate, whatever it is called."""
MIN_SHARE_OF_MAIN = 0.2
"""The only ``main`` element of a page is taken for the whole if it holds at least this share of the text."""
MAX_INDENTATION = 8
"""Levels of nested lists that are shown by indentation."""
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


def text_of_page(html: str) -> str:
    """The text of a page; lines separated by ``\\n``, paragraphs by a blank line."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", XMLParsedAsHTMLWarning)
        soup = BeautifulSoup(html, "lxml")
    root = soup.body or soup
    weights = _weigh(root)
    text = _text_of(_main_of(root, weights), weights)
    if len(text) < 0.1 * weights[id(root)].text:  # the rules misjudged the page: better all than nothing
        text = _text_of(root, {})
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
    return element.has_attr("hidden") or bool(_HIDDEN.search(str(element.get("style") or "")))


@dataclass
class _Lines:
    """Text being laid out."""

    lines: list[str] = field(default_factory=list)
    line: list[str] = field(default_factory=list)
    gap: bool = False
    """Whether a blank line is due before the next text."""
    marker: str = ""
    """Bullet or number due before the next text."""
    ink: int = 0
    """Visible characters written so far."""

    def write(self, text: str) -> None:
        """Inline text: white space collapses, except no-break spaces."""
        text = _SPACES.sub(" ", text)
        if not self.line or self.line[-1].endswith((" ", "\t")):
            text = text.removeprefix(" ")
        if text:
            self._append(text.replace("\xa0", " "))

    def _append(self, text: str) -> None:
        visible = len(text.strip())
        if visible and not self.ink_in_line():
            if self.gap and self.lines and self.lines[-1]:
                self.lines.append("")
            self.gap = False
            if self.marker:
                self.line.insert(0, self.marker)
                self.marker = ""
        self.line.append(text)
        self.ink += visible

    def ink_in_line(self) -> bool:
        return any(part.strip() for part in self.line)

    def end_line(self, keep_blank: bool = False) -> None:
        """Start a new line, unless one was just started."""
        line = "".join(self.line).rstrip()
        self.line = []
        if line:
            self.lines.append(line)
        elif keep_blank and self.lines and self.lines[-1]:
            self.gap = True

    def block(self, spaced: bool) -> None:
        self.end_line()
        self.gap = self.gap or (spaced and not self.marker)

    def preformatted(self, text: str) -> None:
        for index, line in enumerate(text.split("\n")):
            if index:
                self.lines.append("".join(self.line).rstrip())
                self.line = []
            if line:
                self._append(line.replace("\xa0", " "))


@dataclass
class _Cell:
    """Where the text stood when a cell began, to take an empty cell back."""

    ink: int
    lines: int
    parts: int
    gap: bool


@dataclass
class _Walk:
    """What the walk has to remember on its way down."""

    pre: int = 0
    article: int = 0
    lists: list[int | None] = field(default_factory=list)
    """Per open list: the next number, or None if unordered."""
    cells: list[_Cell] = field(default_factory=list)


def _text_of(root: Tag, weights: dict[int, Weight]) -> str:
    """Lay out what is below ``root``; with empty ``weights`` nothing is taken for boilerplate."""
    out, walk = _Lines(), _Walk()
    page = weights[id(root)].text if weights else 0
    stack: list[tuple[PageElement, bool]] = [(root, False)]
    while stack:
        node, closing = stack.pop()
        if isinstance(node, Tag):
            if closing:
                _close(node, out, walk)
            elif node.name not in INVISIBLE and not _is_hidden(node):
                if weights and node is not root and _is_boilerplate(node, weights, page, walk.article > 0):
                    out.end_line()
                    continue
                _open(node, out, walk)
                stack.append((node, True))
                stack.extend((child, False) for child in reversed(node.contents))
        elif _is_text(node):
            if walk.pre:
                out.preformatted(str(node))
            else:
                out.write(str(node))
    out.end_line()
    return "\n".join(out.lines)


def _open(element: Tag, out: _Lines, walk: _Walk) -> None:
    name = element.name
    if name == "br":
        out.end_line(keep_blank=True)
    elif name in ("td", "th"):
        if out.ink_in_line():
            out.line.append("\t")
        walk.cells.append(_Cell(out.ink, len(out.lines), len(out.line), out.gap))
    elif name in BLOCKS:
        nested = (name in ("ul", "ol") and bool(walk.lists)) or (name == "table" and bool(walk.cells))
        out.block(spaced=name in SPACED and not nested)
    if name in ("article", "main"):
        walk.article += 1
    elif name == "pre":
        walk.pre += 1
    elif name in ("ul", "ol"):
        walk.lists.append(_first_number(element) if name == "ol" else None)
    elif name == "li":
        out.marker = _marker(walk.lists)


def _close(element: Tag, out: _Lines, walk: _Walk) -> None:
    name = element.name
    if name in ("td", "th") and walk.cells:
        cell = walk.cells.pop()
        if out.ink == cell.ink:  # a gutter: nothing but white space
            del out.lines[cell.lines :]
            out.line = out.line[: cell.parts] if len(out.lines) == cell.lines else []
            out.gap = cell.gap
    elif name in BLOCKS:
        nested = (name in ("ul", "ol") and len(walk.lists) > 1) or (name == "table" and bool(walk.cells))
        out.block(spaced=name in SPACED and not nested)
    if name in ("article", "main"):
        walk.article -= 1
    elif name == "pre":
        walk.pre -= 1
    elif name in ("ul", "ol"):
        walk.lists.pop()
    elif name == "li":
        out.marker = ""


def _first_number(element: Tag) -> int:
    start = str(element.get("start") or "1")
    return int(start) if start.isdecimal() and len(start) < 9 else 1


def _marker(lists: list[int | None]) -> str:
    if not lists:
        return "- "
    number = lists[-1]
    if number is not None:
        lists[-1] = number + 1
    return "  " * min(len(lists) - 1, MAX_INDENTATION) + ("- " if number is None else f"{number}. ")
