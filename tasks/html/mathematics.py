"""Formulas as TeX between dollar signs: ``$x^2$`` in a line, ``$$x^2$$`` on its own."""

from __future__ import annotations

import re
from collections.abc import Callable
from html import escape, unescape

_ANNOTATION = re.compile(
    r"<annotation\b[^>]*\bencoding=\"(?:application/x-tex|TeX|LaTeX)\"[^>]*>([^<]*)<", re.IGNORECASE
)
_SCRIPT_TYPE = re.compile(r"\btype=[\"']?(math/tex[^\"'>]*)")
_TAG_END = re.compile(r"(?:[^>\"]++|\"[^\"]*+\")*+>")
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
    """HTML in which every formula that carries its TeX has become text. Linear time."""
    markup = _with_each(markup, "<math", "</math>", _of_mathml)
    if "math/tex" in markup:
        markup = _with_each(markup, "<script", "</script>", _of_script)
    return _with_each(markup, "<img", "", _of_image)


def _with_each(markup: str, begin: str, end: str, text_of: Callable[[str, str], str | None]) -> str:
    """With the text of each element that begins and ends so, where it has one, from its attributes and its content."""
    if begin not in markup:
        return markup
    first, *others = markup.split(begin)
    pieces = [first]
    for other in others:
        tag = _TAG_END.match(other)
        content, ended, behind = other[tag.end() :].partition(end) if tag and end else ("", "", "")
        found = text_of(tag[0][:-1], content) if tag and (ended or not end) else None
        if tag is None or found is None:
            pieces += (begin, other)
        else:
            pieces += (found, behind if end else other[tag.end() :])
    return "".join(pieces)


def tex_of(markup: str) -> str:
    """The formula that one serialised element is, or nothing if it is none."""
    found = with_tex_for_math(markup)
    return "" if found.startswith("<") else unescape(found)


def _of_mathml(attributes: str, content: str) -> str:
    annotation = _ANNOTATION.search(content)
    tex = annotation[1] if annotation else _value("alttext", attributes)
    if tex:
        return escape(dollars(unescape(tex), _value("display", attributes) == "block"), quote=False)
    return _TAGS.sub("", content)


def _of_script(attributes: str, content: str) -> str | None:
    kind = _SCRIPT_TYPE.search(attributes)
    return escape(dollars(content, "display" in kind[1]), quote=False) if kind else None


def _of_image(attributes: str, _: str) -> str | None:
    kind = _value("class", attributes)
    if "mwe-math" not in kind and "tex" not in kind.split() and "latex" not in kind:
        return None
    return escape(dollars(unescape(_value("alt", attributes)), "display" in kind), quote=False)


def _value(name: str, attributes: str) -> str:
    match = _ATTRIBUTE[name].search(attributes)
    return match[1] if match else ""
