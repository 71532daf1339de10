"""Nothing that a stranger wrote can become part of the page's HTML."""

from __future__ import annotations

import html
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.page.markup import Markup, element, escaped, foreign, joined, link

HOSTILE = [
    "<script>alert(1)</script>",
    "</pre></div><img src=x onerror=alert(1)>",
    '"><svg onload=alert(1)>',
    "' onmouseover='alert(1)",
    "<!-- --!><script>",
    "]]><![CDATA[<b>",
    "&lt;script&gt;",
]


class Elements(HTMLParser):
    """The elements, attributes and text that a browser would find."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[tuple[str, tuple[str, ...]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, tuple(name for name, _ in attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"a comment: {data}")


def parsed(text: str) -> Elements:
    elements = Elements()
    elements.feed(text)
    elements.close()
    return elements


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_stays_text(text: str) -> None:
    found = parsed(element("p", text, foreign(text, "pre"), title=text))
    assert found.found == [("p", ("title",)), ("pre", ("dir",))]
    assert found.text == text * 2


@given(st.text())
def test_any_text_comes_back_as_it_was_but_for_what_cannot_be_seen(text: str) -> None:
    found = parsed(element("pre", text))
    assert found.found == [("pre", ())]
    visible = html.unescape(escaped(text))
    assert found.text == visible
    assert len(visible) == len(text)
    visible.encode()
    assert all(one == other or not one.isprintable() for one, other in zip(text, visible, strict=True))


def test_control_characters_become_signs() -> None:
    assert escaped("a\x00b\x1b[0m\ud800\x85\n\t") == "a\u2400b\u241b[0m\ufffd\ufffd\n\t"


def test_right_to_left_marks_stay_inside() -> None:
    assert foreign("abc\u202edef") == '<bdi dir="auto">abc\u202edef</bdi>'


def test_markup_is_not_escaped_twice_and_attributes_may_be_left_out() -> None:
    inner = element("b", "1 < 2")
    assert joined(inner, None, "&") == "<b>1 &lt; 2</b>&amp;"
    assert element("div", inner, class_="x", open=True, hidden=False, id=None) == (
        '<div class="x" open><b>1 &lt; 2</b></div>'
    )
    assert element("meta", charset="utf-8") == '<meta charset="utf-8">'
    assert isinstance(inner, Markup)


@pytest.mark.parametrize("address", ["javascript:alert(1)", "data:text/html,x", "file:///etc/passwd", None])
def test_only_addresses_of_the_web_become_links(address: str | None) -> None:
    assert link(address, "x") == "x"
    assert parsed(link('https://a/"><script>', "x")).found == [("a", ("href", "rel"))]
