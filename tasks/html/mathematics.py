"""Formulas as TeX between dollar signs: ``$x^2$`` in a line, ``$$x^2$$`` on its own."""

from __future__ import annotations

import re
from html import escape, unescape

_MATH = re.compile(r"<math\b([^>]*)>(.*?)</math>", re.DOTALL)
_ANNOTATION = re.compile(
    r"<annotation\b[^>]*\bencoding=\"(?:application/x-tex|TeX|LaTeX)\"[^>]*>([^<]*)<", re.IGNORECASE
)
_SCRIPT = re.compile(r"<script\b[^>]*\btype=\"(math/tex[^\"]*)\"[^>]*>(.*?)</script>", re.DOTALL)
_IMAGE = re.compile(r"<img\b([^>]*)>")
_ATTRIBUTE = {name: re.compile(rf"(?:^|\s){name}=\"([^\"]*)\"") for name in ("alttext", "alt", "class", "display")}
_TAGS = re.compile(r"<[^<>]*+>")
_DISPLAY_STYLE = re.compile(r"^\{\\(?:displaystyle|textstyle)\s+(.*)\}$", re.DOTALL)


def dollars(tex: str, display: bool) -> str:
    """A formula as text; empty for an empty one."""
    tex = " ".join(tex.split())
    if match := _DISPLAY_STYLE.match(tex):
        tex = match[1].strip()
    if not tex:
        return ""
    return f"$${tex}$$" if display else f"${tex}$"


def with_tex_for_math(markup: str) -> str:
    """Serialised HTML in which every formula that carries its TeX has become text."""
    if "<math" in markup:
        markup = _MATH.sub(_of_mathml, markup)
    if "<script" in markup:
        markup = _SCRIPT.sub(lambda match: escape(dollars(match[2], "display" in match[1]), quote=False), markup)
    if "<img" in markup:
        markup = _IMAGE.sub(_of_image, markup)
    return markup


def tex_of(markup: str) -> str:
    """The formula that one serialised element is, or nothing if it is none."""
    found = with_tex_for_math(markup)
    return "" if found.startswith("<") else unescape(found)


def _of_mathml(match: re.Match[str]) -> str:
    annotation = _ANNOTATION.search(match[2])
    tex = annotation[1] if annotation else _value("alttext", match[1])
    if tex:
        return escape(dollars(unescape(tex), _value("display", match[1]) == "block"), quote=False)
    return _TAGS.sub("", match[2])


def _of_image(match: re.Match[str]) -> str:
    kind = _value("class", match[1])
    if "mwe-math" not in kind and "tex" not in kind.split() and "latex" not in kind:
        return ""
    return escape(dollars(unescape(_value("alt", match[1])), "display" in kind), quote=False)


def _value(name: str, attributes: str) -> str:
    match = _ATTRIBUTE[name].search(attributes)
    return match[1] if match else ""
