"""HTML to text: structure, languages, hostile input."""

from __future__ import annotations

import random

import pytest

from tasks.html.depth import MAX_DEPTH, limit_depth
from tasks.html.extractors import EXTRACTORS, join_wide_lines, tidy
from tasks.html.extractors import extract as extract_by_name

ALL = sorted(EXTRACTORS)
SENTENCE = "The furnace keeps an even heat for weeks, and whoever feeds it once need not watch it again. "
CHINESE = "语言模型的训练需要大量干净的文本，因此网页必须先经过清洗和去重，才能进入下一个步骤。"


def extract(name: str, html: str) -> str:
    return extract_by_name(html, name)


def layout(body: str) -> str:
    return extract("beautifulsoup", f"<html><body>{body}</body></html>")


def article(*paragraphs: str) -> str:
    body = "".join(f"<p>{paragraph}</p>" for paragraph in paragraphs)
    return (
        "<html><head><title>A page</title><style>p {color: red}</style><script>var hidden = 'secret';</script></head>"
        "<body><nav><ul><li><a href='/'>Home</a></li><li><a href='/a'>About us</a></li></ul></nav>"
        f"<article><h1>On furnaces</h1>{body}</article>"
        "<footer>Copyright by nobody</footer></body></html>"
    )


@pytest.mark.parametrize("name", ALL)
def test_main_text_is_kept_and_boilerplate_dropped(name: str) -> None:
    text = extract(name, article(SENTENCE * 4, "Some <b>bold</b> and <i>slanted</i> words. " + SENTENCE * 3))
    assert text.count(SENTENCE.strip()) == 7
    assert "Some bold and slanted words." in text
    for boilerplate in ("About us", "secret", "color", "Copyright"):
        assert boilerplate not in text
    assert "<" not in text


@pytest.mark.parametrize("name", ALL)
def test_chinese_gets_no_spaces(name: str) -> None:
    html = article(CHINESE * 3, f"中<b>文</b>网\n    页<a href='x'>清</a>洗，\n然后训练。{CHINESE * 2}", CHINESE * 2)
    text = extract(name, html)
    assert "中文网页清洗，然后训练。" in text
    assert " " not in text.replace("On furnaces", "")


@pytest.mark.parametrize("name", ALL)
def test_paragraphs_are_lines(name: str) -> None:
    text = extract(name, article(SENTENCE * 3, CHINESE * 4, SENTENCE * 2))
    lines = [line for line in text.split("\n") if line]
    assert [SENTENCE.strip() in lines[-3], CHINESE in lines[-2], SENTENCE.strip() in lines[-1]] == [True] * 3


def test_inline_tags_glue_no_words_and_split_none() -> None:
    body = "<p>One <b>two</b> three<i>four</i>, <a href=x>five</a> <span>six</span>\n seven<wbr>eight"
    assert layout(body) == "One two threefour, five six seveneight"


def test_blocks_never_share_a_line() -> None:
    assert layout("<div>one<div>two</div>three</div><p>four</p>five<br>six<h2>seven</h2>") == (
        "one\ntwo\nthree\n\nfour\n\nfive\nsix\n\nseven"
    )


def test_lists_are_marked_and_nested() -> None:
    body = "<ul><li>one<ul><li>inner</ul><li><p>two</p></ul><ol start=3><li>three<li>four</ol>"
    assert layout(body) == "- one\n  - inner\n- two\n\n3. three\n4. four"


def test_rows_of_a_table_are_lines_and_gutters_vanish() -> None:
    body = (
        "<table><caption>Heat</caption><tr><th>metal<th>melts at</tr><tr><td>tin<td>232 °C</tr>"
        "<tr><td>&nbsp;&nbsp;</td><td></td><td>lead<br>soft</td></tr></table>"
    )
    assert layout(body) == "Heat\nmetal\tmelts at\ntin\t232 °C\nlead\nsoft"


def test_preformatted_text_keeps_its_white_space() -> None:
    body = "<p>Code:</p><pre>\ndef f(x):\n    if x:\n\n        return  <b>1</b>\n</pre><p>after</p>"
    assert layout(body) == "Code:\n\ndef f(x):\n    if x:\n\n        return  1\n\nafter"


def test_no_break_spaces_indent_lines() -> None:
    assert layout("<p>f(x)<br>\n&nbsp;&nbsp;&nbsp;&nbsp;does <br>\n&nbsp;<br>\n&nbsp; more</p>") == (
        "f(x)\n    does\n\n  more"
    )


@pytest.mark.parametrize(
    "boilerplate",
    [
        "<nav>gone</nav>",
        "<div class='site-footer'>gone</div>",
        "<div id=cookie-consent>gone</div>",
        "<div role=navigation>gone</div>",
        "<aside>gone</aside>",
        "<header><a href=/>gone</a></header>",
        "<p hidden>gone</p>",
        "<p style='display: none'>gone</p>",
        "<noscript>gone</noscript><script>gone</script><template>gone</template><!-- gone -->",
        "<form><button>gone</button><select><option>gone</select><textarea>gone</textarea></form>",
        "<ul><li><a href=1>gone</a><li><a href=2>gone gone</a><li><a href=3>gone</a></ul>",
    ],
)
def test_boilerplate_is_left_out(boilerplate: str) -> None:
    assert layout(f"{boilerplate}<h1>Title</h1><p>{SENTENCE * 3}</p>{boilerplate}") == (
        f"Title\n\n{(SENTENCE * 3).strip()}"
    )


def test_what_is_most_of_the_page_is_never_boilerplate() -> None:
    assert layout(f"<div class='sidebar content'><p>{SENTENCE}</p></div>") == SENTENCE.strip()
    links = "".join(f"<li><a href={n}>entry {n}</a>" for n in range(30))
    assert "entry 29" in layout(f"<ul>{links}</ul>")


PYDOC = """<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>Python: module m</title></head><body>
<table class="heading"><tr class="heading-text decor"><td class="title">&nbsp;<br><strong class="title">m</strong></td>
<td class="extra"><a href=".">index</a><br><a href="file:m.py">m.py</a></td></tr></table>
<p><span class="code">Wrap&nbsp;text.</span></p><p><table class="section">
<tr class="decor functions-decor heading-text"><td class="section-title" colspan=3>&nbsp;<br>
<strong class="bigsection">Functions</strong></td></tr>
<tr><td class="decor functions-decor"><span class="code">&nbsp;&nbsp;&nbsp;&nbsp;</span></td><td>&nbsp;</td>
<td class="singlecolumn"><dl><dt><a name="-wrap"><strong>wrap</strong></a>(text, width=70, **kwargs)</dt>
<dd><span class="code">Wrap&nbsp;a&nbsp;paragraph:<br>
&nbsp;<br>
&nbsp;&nbsp;&nbsp;&nbsp;&gt;&gt;&gt;&nbsp;wrap("a&nbsp;b",&nbsp;1)<br>
&nbsp;&nbsp;&nbsp;&nbsp;['a',&nbsp;'b']</span></dd></dl></td></tr></table></body></html>"""


def test_documentation_keeps_signatures_and_the_lines_of_docstrings() -> None:
    text = extract("beautifulsoup", PYDOC)
    assert text.endswith(
        'Wrap text.\n\nFunctions\n\nwrap(text, width=70, **kwargs)\nWrap a paragraph:\n\n    >>> wrap("a b", 1)\n'
        "    ['a', 'b']"
    )


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("closed", [True, False])
def test_any_depth_of_nesting(name: str, closed: bool) -> None:
    levels = 100_000
    text = extract(name, "<html><body>" + "<div>" * levels + SENTENCE * 9 + "</div>" * levels * closed)
    assert text.count("furnace") == 9


def test_depth_is_limited_only_where_it_is_deep() -> None:
    flat = "<p>one<li>two<br>" * 3 * MAX_DEPTH + "<b>x</b>" * 3 * MAX_DEPTH
    assert limit_depth(flat) == flat
    assert limit_depth("<i>" * 500 + "x" + "</i>" * 500 + "<b>y</b>").count("<i>") == MAX_DEPTH
    assert limit_depth("<i>" * 500 + "x" + "</i>" * 500 + "<b>y</b>").endswith("</i><b>y</b>")


HOSTILE = [
    "<",
    "<a ",
    "<!--",
    "<pre",
    "<pre>",
    "<title",
    "<title>",
    "<script>",
    "<a" + "b" * 99,
    "&amp",
    "中\n ",
    " \n",
    "]]>",
]


@pytest.mark.parametrize("piece", HOSTILE)
def test_preparation_is_linear(piece: str) -> None:
    """A quadratic pattern would take hours on these."""
    html = piece * (2_000_000 // len(piece))
    limit_depth(html)
    join_wide_lines(html)
    tidy(html)


@pytest.mark.parametrize("name", ALL)
def test_mutated_pages_never_break_an_extractor(name: str) -> None:
    pages = [PYDOC, article(SENTENCE * 3, CHINESE * 3), f"<table><tr><td>{CHINESE}</table><pre> {SENTENCE}</pre>" * 3]
    shuffle = random.Random(7)
    for _ in range(100):
        page = list(shuffle.choice(pages))
        for _ in range(shuffle.randint(1, 40)):
            place = shuffle.randrange(len(page))
            match shuffle.randrange(3):
                case 0:
                    page[place] = shuffle.choice(
                        ["<", ">", "&", '"', "</", "<td>", "<table>", "\xa0", "]", "中", "</p>"]
                    )
                case 1:
                    del page[place : place + shuffle.randint(1, 30)]
                case _:
                    page[place:place] = page[shuffle.randrange(len(page)) :][:30]
            page = page or ["x"]
        extract(name, "".join(page)).encode()
