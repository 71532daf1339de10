"""The athanor extractor: what is kept of a page, and how it is laid out."""

from __future__ import annotations

import json
import re
import tarfile
from functools import cache
from itertools import cycle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.html.blocks import outline_of
from tasks.html.extractors import EXTRACTORS, extract, extract_each
from tasks.html.main_text import main_text, main_texts, with_headings
from tasks.html.scoring import LANES, _product
from tasks.html.wording import wording_of
from tasks.text.encodings import decode
from tasks.text.unicode import without_controls
from tests.helpers import SHARED
from tests.hostile import mutated_pages

ENGLISH = (
    "The furnace keeps an even heat for weeks, and whoever feeds it once need not watch it again.",
    "In the older houses it stood in the cellar, where a single shovel of coal, evenly spread, lasted until morning.",
    "Those who tended it wrote down the hour, the colour of the flame, and what they had put in.",
    "Nothing of this was secret, but few had the patience to copy it out, page after page.",
)
CHINESE = (
    "语言模型的训练需要大量干净的文本，因此网页必须先经过清洗和去重，才能进入下一个步骤。",
    "炉火要保持均匀的温度，直到炼成为止，其间不可添柴，也不可开门。",
    "从前的人把每一次的时辰、火色和所用的材料都记在册子上，留给后来的人。",
)
MENU = "<ul class=menu>" + "".join(f"<li><a href=/{n}>Section {n}</a></li>" for n in range(12)) + "</ul>"
RELATED = "<div class=related><h3>Related stories</h3><ul>" + "<li><a href=/x>Another story altogether</a></li>" * 6
ALL = sorted(EXTRACTORS)
OURS = ["athanor", "beautifulsoup"]


def page(body: str, language: str = "en") -> str:
    return (
        f"<!doctype html><html lang={language}><head><title>On heat</title><style>p {{color: red}}</style></head><body>"
        f"<header><div class=logo><a href=/>The Daily Ember</a></div>{MENU}</header><div id=content>"
        f"<article class=post><h1>On heat</h1>{body}</article></div>{RELATED}</ul></div>"
        "<footer><p>Copyright by nobody. All rights reserved.</p></footer></body></html>"
    )


def article(*parts: str) -> str:
    """A page whose main text is prose with these parts in its middle."""
    prose = [f"<p>{text}</p>" for text in ENGLISH]
    return page("".join([*prose[:2], *parts, *prose[2:]]))


def middle(name: str, *parts: str, markdown: bool = False) -> str:
    """What an extractor makes of such parts, between the prose around them."""
    text = extract(article(*parts), name, markdown)
    before, after = text.index(ENGLISH[1]) + len(ENGLISH[1]), text.index(ENGLISH[2])
    return text[before:after].strip("\n")


@pytest.mark.parametrize("name", OURS)
def test_the_article_is_kept_and_what_surrounds_it_dropped(name: str) -> None:
    text = extract(article(), name)
    assert [line for line in text.split("\n") if line][-4:] == list(ENGLISH)
    for around in ("Section 3", "Another story", "Copyright", "color"):
        assert around not in text


def test_chinese_articles() -> None:
    body = "".join(f"<p>{text[:9]}\n    {text[9:20]}<b>{text[20]}</b>{text[21:]}</p>" for text in CHINESE * 2)
    text = extract(page(body, "zh"), "athanor")
    assert [line for line in text.split("\n") if line][-6:] == list(CHINESE * 2)
    assert "Section" not in text


def test_ruby_keeps_the_base_text() -> None:
    assert "漢字を読む" in middle(
        "athanor", f"<p>{'炉の火を絶やさず、' * 4}<ruby>漢字<rt>かんじ</rt></ruby>を読む。</p>"
    )


@pytest.mark.parametrize("name", OURS)
def test_inline_tags_glue_no_words_and_split_none(name: str) -> None:
    sentence = "One <b>two</b> thr<i>ee</i>, <a href=x>five</a> <span>six</span>\n seven <em>and</em> so on until ten."
    assert middle(name, f"<p>{sentence}</p>") == "One two three, five six seven and so on until ten."


@pytest.mark.parametrize("name", OURS)
def test_lists_tables_and_code_keep_their_structure(name: str) -> None:
    items = "<ul><li>a shovel of coal, dry and even</li><li>an hour of patience, or two of them</li></ul>"
    assert middle(name, items) == "- a shovel of coal, dry and even\n- an hour of patience, or two of them"
    code = "<pre><code>def heat(x):\n    if x &lt; 3:\n\n        return x &amp; 1\n</code></pre>"
    assert middle(name, code) == "def heat(x):\n    if x < 3:\n\n        return x & 1"
    rows = "".join(f"<tr><td>metal number {n}, pure<td>melts at {n}00 °C, slowly</tr>" for n in range(1, 4))
    lines = [f"metal number {n}, pure\tmelts at {n}00 °C, slowly" for n in range(1, 4)]
    assert middle(name, f"<table>{rows}</table>") == "\n".join(lines)


MARKDOWN = """<h2>What to <em>do</em></h2><p>Take <strong>dry </strong>coal, <code>heat(x)</code> and <i>time</i>, as
the elders did it.</p><blockquote><p>Haste has never made gold, they said, and they were right about it.</p>
</blockquote>
<ol start=3><li>Spread it evenly over the grate.</li><li>Close the door and wait for the morning.</li></ol>
<pre>open(door)
    wait()</pre>"""
AS_MARKDOWN = """## What to *do*

Take **dry** coal, `heat(x)` and *time*, as the elders did it.

> Haste has never made gold, they said, and they were right about it.

3. Spread it evenly over the grate.
4. Close the door and wait for the morning.

```
open(door)
    wait()
```"""


@pytest.mark.parametrize("name", OURS)
def test_markdown(name: str) -> None:
    assert middle(name, MARKDOWN, markdown=True) == AS_MARKDOWN


def test_tables_in_markdown() -> None:
    rows = "<tr><th>metal<th>melts | boils</tr><tr><td>tin, the soft and silvery one<td>232 °C</tr>"
    text = extract(f"<body><p>{ENGLISH[0]}</p><table>{rows}</table>", "beautifulsoup", markdown=True)
    assert text.endswith("| metal | melts \\| boils |\n| --- | --- |\n| tin, the soft and silvery one | 232 °C |")


def test_markdown_is_refused_where_there_is_none() -> None:
    with pytest.raises(
        ValueError, match="resiliparse has no Markdown; take one of athanor, beautifulsoup, trafilatura"
    ):
        extract(article(), "resiliparse", markdown=True)
    assert "## What to" in extract(article(MARKDOWN), "trafilatura", markdown=True)


ANNOTATED = (
    '<math display="{}"><semantics><mrow><mi>E</mi><mo>=</mo></mrow><annotation encoding="application/x-tex">'
    "E &lt; m c^2</annotation></semantics></math>"
)
FORMULAS = {
    "MathML with TeX": (ANNOTATED.format("inline"), "$E < m c^2$"),
    "a block of MathML": (ANNOTATED.format("block"), "$$E < m c^2$$"),
    "MathML with alttext": ('<math alttext="{\\displaystyle a+b}"><mi>a</mi></math>', "$a+b$"),
    "MathML alone": ("<math><mi>a</mi><mo>+</mo><mi>b</mi></math>", "a+b"),
    "MathJax": ('<script type="math/tex; mode=display">\\sum_{i&lt;n} i</script>', "$$\\sum_{i&lt;n} i$$"),
    "KaTeX": (
        f'<span class=katex><span class="katex-mathml">{ANNOTATED.format("inline")}</span>'
        '<span class="katex-html" aria-hidden="true">E=mc2</span></span>',
        "$E < m c^2$",
    ),
    "Wikipedia": (
        f'<span class="mwe-math-element"><span style="display: none;">{ANNOTATED.format("inline")}</span>'
        '<img class="mwe-math-fallback-image-inline" aria-hidden="true" alt="{\\displaystyle E < m c^2}"></span>',
        "$E < m c^2$",
    ),
    "an image": ('<img class="mwe-math-fallback-image-display" alt="{\\displaystyle x^2}">', "$$x^2$$"),
}


@pytest.mark.parametrize("name", OURS)
@pytest.mark.parametrize("kind", FORMULAS)
def test_formulas_stay_as_tex(name: str, kind: str) -> None:
    markup, tex = FORMULAS[kind]
    expected = f"It is known that {tex} holds in every furnace, large or small."
    assert middle(name, f"<p>It is known that {markup} holds in every furnace, large or small.</p>") == expected


@pytest.mark.parametrize("name", OURS)
@pytest.mark.parametrize(
    "hidden",
    [
        "<p hidden>{}</p>",
        "<p style='display: none'>{}</p>",
        "<div aria-hidden=true><p>{}</p></div>",
        "<noscript><p>{}</p></noscript>",
        "<template><p>{}</p></template>",
        "<svg><text>{}</text></svg>",
        "<select><option>{}</select>",
    ],
)
def test_what_is_hidden_is_dropped(name: str, hidden: str) -> None:
    assert middle(name, hidden.format("This sentence is never seen by anybody who reads the page.")) == ""


SPARSE = {
    "one line": "<body>Just one line of words.",
    "line breaks in a table": "<table><tr><td>" + "<br>".join(ENGLISH) + "</table>",
    "only links": "<body><ul>" + "<li><a href=x>entry of a list</a></li>" * 30 + "</ul>",
    "hidden until a script runs": f"<body style='display:none'><div style='display:none'><p>{ENGLISH[0]}</p></div>",
    "all in navigation": f"<body><nav><p>{ENGLISH[0]}</p></nav>",
    "all in an unclosed noscript": f"<body><noscript><div></noscript><p>{ENGLISH[0]}</p>",
    "a frame's body": f"<frameset><noframes>{ENGLISH[0]}</noframes></frameset><p>{ENGLISH[0]}</p>",
}


@pytest.mark.parametrize("kind", [kind for kind in SPARSE if "frame" not in kind])
def test_pages_with_little_to_go_by_are_not_empty(kind: str) -> None:
    wanted = re.sub(r"<[^>]*>", " ", SPARSE[kind]).split()
    assert set(extract(SPARSE[kind], "athanor").replace("- ", "").split()) == set(wanted)


@pytest.mark.parametrize("html", ["", "<", "<html>", "<body></body>", "<!-- -->", "<p></p>", SPARSE["a frame's body"]])
def test_pages_without_text_give_none(html: str) -> None:
    assert extract(html, "athanor") in ("", "<", ENGLISH[0])


@pytest.mark.parametrize(
    "piece",
    [
        "<div>",
        "<b><p>",
        "<table><tr><td>",
        "<ul><li>",
        "<a href=x>",
        "<pre>",
        '<a b"c=d>',
        "<p>x</p>",
        "<math>",
        "<br>",
    ],
)
def test_any_piece_may_come_fifty_thousand_times(piece: str) -> None:
    """Quadratic time would take minutes, recursion would fail."""
    text = extract("<body>" + piece * 50_000 + ENGLISH[0], "athanor")
    assert ENGLISH[0] in text


def test_products_of_columns_do_not_depend_on_their_places() -> None:
    random = np.random.default_rng(0)
    matrix, columns = (random.standard_normal(shape).astype(np.float32) for shape in ((32, 288), (288, 9 * LANES)))
    product, order = _product(matrix, columns), random.permutation(columns.shape[1])
    np.testing.assert_allclose(product, matrix @ columns, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(_product(matrix, np.ascontiguousarray(columns[:, order])), product[:, order])


UNFINISHED = [
    *("", "<", "text &am", "&amp", "<p", "<a href='", "<!-- <p>x</p>", "<script>a()", "<title>", "<noscript><p>x"),
    *(
        "<a href=x>linked",
        "<b>bold",
        "<pre>kept\n  as it is",
        "<table><tr><td>a cell<td>",
        "<ul><li>item<ol start=7><li>",
    ),
    *(
        "<nav><p>around",
        "<div style='display:none'>hidden",
        "<span hidden>hidden",
        "a control\x04 character",
        "<br>",
        "<hr>",
    ),
    *(
        "</body>",
        "</html><p>",
        "<body></body>",
        "<blockquote><p>quoted",
        "<div id=comments><p>so it is",
        "<select>",
        "\ud800",
    ),
]


@cache
def alone() -> dict[bool, dict[str, str]]:
    """What each of many pages gives by itself, as text and as Markdown."""
    pages = [*UNFINISHED, *(html + end for html in (article(), article(MARKDOWN)) for end in UNFINISHED)]
    pages += [*SPARSE.values(), page("".join(f"<p>{text}</p>" for text in CHINESE * 2), "zh")]
    pages += [article(*(markup for markup, _ in FORMULAS.values()))]
    pages += [without_controls(decode(content, "", True).text) for content, _ in mutated_pages(120, seed=11)]
    return {markdown: {html: main_text(html, markdown) for html in pages} for markdown in (False, True)}


@settings(max_examples=60, deadline=None)
@given(st.data(), st.booleans())
def test_pages_give_together_what_each_gives_alone(data: st.DataObject, markdown: bool) -> None:
    known = alone()[markdown]
    pages = data.draw(st.lists(st.sampled_from(sorted(known)), max_size=30))
    assert main_texts(pages, markdown) == [known[html] for html in pages]


def real_pages() -> list[tuple[str, list[str], list[str]]]:
    """Labelled pages, with what their text must and must not hold; skips the test where they are not there."""
    archive = SHARED / "extraction" / "trafilatura_eval.tar.xz"
    if not archive.exists():
        pytest.skip(f"{archive} is not there")
    with tarfile.open(archive) as tar:
        members = [(member.name.rpartition("/")[2], tar.extractfile(member)) for member in tar if member.isfile()]
        files = {name: file.read() for name, file in members if file is not None}
    labels = json.loads(files["evaldata.json"]).values()
    return [(files[label["file"]].decode("utf-8", "replace"), label["with"], label["without"]) for label in labels]


@pytest.mark.slow
def test_real_pages_reach_a_floor() -> None:
    """F1 over the snippets that 990 labelled pages must and must not hold; and together they give what each gives."""
    found = missed = wrong = 0
    labelled = real_pages()
    alone = [extract(html, "athanor") for html, _, _ in labelled]
    sizes = cycle((1, 7, 2, 30))
    start = 0
    while start < len(labelled):
        batch = slice(start, start + next(sizes))
        assert extract_each([html for html, _, _ in labelled[batch]]) == alone[batch]
        start = batch.stop
    for text, (_, present, absent) in zip(alone, labelled, strict=True):
        text = " ".join(text.split())
        hits = sum(" ".join(snippet.split()) in text for snippet in present)
        found, missed = found + hits, missed + len(present) - hits
        wrong += sum(" ".join(snippet.split()) in text for snippet in absent)
    assert 2 * found / (2 * found + missed + wrong) > 0.92


@pytest.mark.parametrize("separator", [" a{0}=1", "\n a{0}", " a{0}='<'"])
def test_a_tag_with_very_many_attributes_does_not_hang_the_parser(separator: str) -> None:
    crowd = "".join(separator.format(number) for number in range(80_000))
    assert middle("athanor", f"<p{crowd}>{ENGLISH[0]}</p>") == ENGLISH[0]


@pytest.mark.parametrize(
    "script",
    [
        "<script>document.write('<script src=x><\\/script>')</script>",
        "<script>if (1 < 2) { a = '<p>not text' }</script >",
        "<SCRIPT>a = '<p>not text'</SCRIPT>",
        "<script type=x/><p>not text</script>",
        "<style>p > b { color: red }</style>",
        "<!-- <script src=x> -->",
        "<script>write('<!--[if IE]><script>a()</' + 'script><![endif]-->'); write('<span>')</script>",
        "<script type=text/html><p>not text<!--[if IE]><span><![endif]--></p></script>",
        "<!-- <svg> --><svg viewBox='0 0 1 1'/><svg><title>not text</title><path d='M0 0'/></svg>",
    ],
)
def test_scripts_go_and_what_follows_them_stays(script: str) -> None:
    assert middle("athanor", f"{script}<p>{ENGLISH[0]}</p>{script}") == ENGLISH[0]


def test_elements_named_like_scripts_stay() -> None:
    assert middle("athanor", f"<style-guide><p>{ENGLISH[0]}</p></style-guide>") == ENGLISH[0]


def test_a_heading_between_blocks_kept_is_kept() -> None:
    html = (
        "<body><h2>one</h2><p>a</p><h2>two</h2><p>b</p><h2><a href=x>three</a></h2><p>c</p><p>four</p><p>d</p></body>"
    )
    outline = outline_of([html])
    kept = [number for number, text in enumerate(outline.texts) if text in "abcd"]
    assert [outline.texts[number] for number in with_headings(outline, np.array(kept))] == ["a", "two", "b", "c", "d"]


def test_comments_below_an_article_change_nothing_in_it() -> None:
    prose = f"<p>{ENGLISH[0]}</p>" * 20
    comments = "<div id=comments><p>Very nice, indeed.</p><p>So it is.</p></div>"
    with_comments, without = outline_of([f"{prose}{comments}<p>The end.</p>"]), outline_of([f"{prose}<p>The end.</p>"])
    assert with_comments.texts == without.texts
    np.testing.assert_array_equal(wording_of(with_comments), wording_of(without))


def test_markdown_keeps_the_blocks_that_text_keeps() -> None:
    html = f"<p>{ENGLISH[0]}<br><b></b><br>{ENGLISH[1]} <em>{ENGLISH[2]}</em></p>"
    assert len(outline_of([html], emphasis=True).texts) == len(outline_of([html]).texts) == 2
