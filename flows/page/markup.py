"""HTML put together from values: whatever is not :class:`Markup` already is escaped.

Pages and documents come from strangers, so no text of theirs may end an element or start one.
"""

from __future__ import annotations

import html
import re

_VOID = frozenset({"br", "col", "hr", "meta"})
_INVISIBLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ufffe\uffff\ud800-\udfff]")
"""Control characters but tab and line feed, and halves of surrogate pairs: none of them may stand in HTML."""


class Markup(str):
    """HTML that is safe to put into a page."""

    __slots__ = ()


Child = str | int | None
"""Text, escaped unless it is Markup; None is nothing."""


def escaped(text: str) -> Markup:
    """The text as HTML shows it; control characters become visible signs."""
    return Markup(html.escape(_INVISIBLE.sub(_sign, text)))


def _sign(match: re.Match[str]) -> str:
    """The picture of a control character (``␀``), or the sign for what is not a character."""
    code = ord(match[0])
    return chr(0x2400 + code) if code < 0x20 else "\u2421" if code == 0x7F else "\ufffd"


def joined(*children: Child) -> Markup:
    """Several one after the other."""
    parts = (child if isinstance(child, Markup) else escaped(str(child)) for child in children if child is not None)
    return Markup("".join(parts))


def element(name: str, /, *children: Child, **attributes: str | int | bool | None) -> Markup:
    """``<name attributes>children</name>``; ``class_`` is written ``class``, ``aria_label`` ``aria-label``.

    An attribute that is None or False is left out, one that is True has no value.
    """
    written = []
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        label = key.rstrip("_").replace("_", "-")
        written.append(f" {label}" if value is True else f' {label}="{escaped(str(value))}"')
    opening = f"<{name}{''.join(written)}>"
    return Markup(opening) if name in _VOID else Markup(f"{opening}{joined(*children)}</{name}>")


def foreign(text: str, name: str = "bdi", **attributes: str | int | bool | None) -> Markup:
    """Text of a stranger's, whose direction of writing stays inside."""
    return element(name, text, dir="auto", **attributes)


def link(address: str | None, text: Child) -> Markup:
    """A link, if the address is one of the web's; else only the text."""
    if address is None or not address.startswith(("http://", "https://")):
        return joined(text)
    return element("a", text, href=address, rel="noreferrer noopener")
