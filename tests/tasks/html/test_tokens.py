"""Tags and elements found in columns, against a generator of pages that knows where they are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.html.tokens import FIRST_RAW, KINDS, NAMES, tokens_of
from tasks.html.tree import CLOSING, elements_of, nesting_of

UNCLOSED = ("<p", "<!-- <p>", "<script><p>")


def tags_in(html: str) -> list[tuple[str, str]]:
    """Each tag's text and what it was taken for."""
    tokens = tokens_of([html])
    spans = zip(tokens.start[1:].tolist(), tokens.end[1:].tolist(), tokens.kind[1:].tolist(), strict=True)
    return [
        (tokens.content[start : min(end + 1, int(tokens.limit[0]))].decode(), NAMES[kind]) for start, end, kind in spans
    ]


@pytest.mark.parametrize(
    ("html", "tags"),
    [
        ("", []),
        ("1 < 2 > 1 <3", []),
        ("<p>a</P >", [("<p>", "p"), ("</P >", "p")]),
        ("<H3\nid=x>", [("<H3\nid=x>", "h3")]),
        ("<h7><style-guide><pp><preface>", [("<h7>", ""), ("<style-guide>", ""), ("<pp>", ""), ("<preface>", "")]),
        ("<blockquote><figcaption/>", [("<blockquote>", "blockquote"), ("<figcaption/>", "figcaption")]),
        ('<p a="x>y" b=z>t<b>', [('<p a="x>y" b=z>', "p"), ("<b>", "b")]),
        ("<p a='<b>'>t<b>", [("<p a='<b>'>", "p"), ("<b>", "b")]),
        ('<p a=x"y>t', [('<p a=x"y>', "p")]),
        ('<p a="never closed>t', [('<p a="never closed>', "p")]),
        ("<p", [("<p", "p")]),
        ("a<!-- <p> --!><p>", [("<!-- <p> --!>", "!--"), ("<p>", "p")]),
        ("<!--><p><!---><p>", [("<!-->", "!--"), ("<p>", "p"), ("<!--->", "!--"), ("<p>", "p")]),
        ("<!doctype html><?xml?></ p><p>", [("<!doctype html>", ""), ("<?xml?>", ""), ("</ p>", ""), ("<p>", "p")]),
        ("<!-- <p>", [("<!-- <p>", "!--")]),
        ("<script>a<b '<p>'</script><p>", [("<script>a<b '<p>'", "script"), ("</script>", "script"), ("<p>", "p")]),
        ("<STYLE>p>b{}</Style\n><p>", [("<STYLE>p>b{}", "style"), ("</Style\n>", "style"), ("<p>", "p")]),
        ("<title><p></title>", [("<title><p>", "title"), ("</title>", "title")]),
        ("<svg><title/><p>", [("<svg>", "svg"), ("<title/>", "title"), ("<p>", "p")]),
        ("<script><!-- <script> </script> --></script><p>", [
            ("<script><!-- <script> </script> -->", "script"), ("</script>", "script"), ("<p>", "p"),
        ]),
        ("<script><p>", [("<script><p>", "script")]),
    ],
)  # fmt: skip
def test_tags_are_those_that_a_browser_sees(html: str, tags: list[tuple[str, str]]) -> None:
    assert tags_in(html) == tags
    if html not in UNCLOSED:
        assert tags_in(f"文{html} 中") == tags


def wrapped(children: list[str], name: str) -> str:
    return f"<{name} class='x'>{' '.join(children)}</{name}>"


@settings(max_examples=60, deadline=None)
@given(
    st.recursive(
        st.sampled_from(("text", "1 < 2", "<!-- <div> -->", "<br>", "<script>'</div>'</script>")).map(
            lambda leaf: [leaf]
        ),
        lambda inner: st.tuples(
            st.sampled_from(("div", "section", "ul", "table", "blockquote", "span")), st.lists(inner)
        ),
        max_leaves=25,
    )
)
def test_the_nesting_of_well_formed_pages_is_found(tree: object) -> None:
    parents: list[int] = [0]
    depths: list[int] = [0]

    def write(node: object, parent: int, depth: int) -> str:
        if isinstance(node, list):
            return str(node[0])
        assert isinstance(node, tuple)
        name, inner = node
        number = parent
        if name != "span":
            number = len(parents)
            parents.append(parent)
            depths.append(depth + 1)
        below = depth + (name != "span")
        return wrapped([write(child, number, below) for child in inner], name)

    tokens = tokens_of([write(tree, 0, 0)])
    tags = ((tokens.kind > 0) & (tokens.kind < FIRST_RAW)).nonzero()[0]
    codes = tokens.kind + tokens.closing * np.uint8(CLOSING)
    elements = elements_of(tags, codes, tokens.first)
    nesting = nesting_of(elements.opened, elements.closed, tags)
    assert nesting.parent.tolist() == parents
    assert nesting.depth.tolist() == depths


def names_around(html: str, text: str) -> list[str]:
    """The elements around a text, from the innermost."""
    tokens = tokens_of([html])
    tags = ((tokens.kind > 0) & (tokens.kind < FIRST_RAW)).nonzero()[0]
    codes = tokens.kind + tokens.closing * np.uint8(CLOSING)
    elements = elements_of(tags, codes, tokens.first)
    place = tokens.content.index(text.encode())
    tag = np.array([tokens.start.searchsorted(place) - 1])
    nesting = nesting_of(elements.opened, elements.closed, tag)
    found, element = [], int(nesting.innermost[0])
    while element:
        found.append(NAMES[elements.kind[element]])
        element = int(nesting.parent[element])
    return found


@pytest.mark.parametrize(
    ("html", "around"),
    [
        ("<p>a<div>X", ["div"]),
        ("<div><p>a<p>X", ["p", "div"]),
        ("<ul><li><p>a</p><li><p>X", ["p", "li", "ul"]),
        ("<ul><li>a<ul><li>b</ul><li>X</ul>", ["li", "ul"]),
        ("<dl><dt>a<dd>X", ["dd", "dl"]),
        ("<table><tr><td>a<td>b<tr><td>X", ["td", "tr", "table"]),
        ("<table><tr><td><table><tr><td>a</table>X", ["td", "tr", "table"]),
        ("<td>X", []),
        ("<h2>a<h3>X", ["h3"]),
        ("<h2>a</h3>X", []),
        ("<div><section>a</div>X", []),
        ("<div></section>X", ["div"]),
        ("<div><table><tr><td></div>X", ["td", "tr", "table", "div"]),
        ("<div><p>a</div>X", []),
        ("<ul><li><p>a</p>X</li><li>b</li></ul>", ["li", "ul"]),
        ("<div>" * 600 + "X", ["div"] * 499),
        ("<div>" * 600 + "</div>" * 600 + "X", []),
    ],
)
def test_missing_and_superfluous_end_tags(html: str, around: list[str]) -> None:
    assert names_around(html, "X") == around


def test_every_name_is_known_by_its_letters() -> None:
    for name, kind in KINDS.items():
        if name and name != "!--":
            assert tokens_of([f"<{name}>"]).kind[1] == kind
            assert tokens_of([f"</{name.upper()} >"]).kind[1] == kind
