"""What pages say about themselves."""

from __future__ import annotations

import json
from datetime import date

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.html.dates import iso_date
from tasks.html.licenses import short_name
from tasks.html.metadata import PageMetadata, metadata_of

ENGLISH = """<!DOCTYPE html>
<html lang="en-GB"><head>
<meta charset="utf-8">
<title>How furnaces keep heat &amp; why | The Alchemist</title>
<!-- <meta name="robots" content="noai"> -->
<script>document.write('<meta name="robots" content="noindex">')</script>
<noscript><meta name="robots" content="noindex"></noscript>
<meta property="og:title" content="How furnaces keep heat &amp; why">
<link rel="canonical" href="https://example.org/furnace?a=1&amp;b=2#top">
<meta property="article:published_time" content="2024-05-31T10:00:00+02:00">
<meta property="article:modified_time" content="2025-01-01T10:00:00+02:00">
<meta name="robots" content="index, follow">
</head><body><h1>Furnaces</h1><p>Text.</p>
<footer>Under <a class=x rel="license noopener" href="https://creativecommons.org/licenses/by-sa/4.0/deed.en">CC</a>
</footer></body></html>"""

CHINESE = """<html xml:lang='zh_Hans_CN'><head><META HTTP-EQUIV=Content-Type content="text/html; charset=utf-8">
<TITLE>
  炉火如何保持均匀 — 炼金网
</TITLE><LINK HREF=/luhuo/1.html REL=canonical>
<meta name=ROBOTS content="NOAI,NoImageAI"><meta name="tdm-reservation" content="1">
<meta name="PubDate" content="2024年5月31日 10:00">
</head><body><h1>炉火</h1><p>本文采用<a href="//creativecommons.org/licenses/by-nc-sa/3.0/cn/">知识共享许可协议</a>。"""


def head(inside: str, body: str = "") -> str:
    return f"<html><head>{inside}</head><body>{body}</body></html>"


def test_an_english_page() -> None:
    assert metadata_of(ENGLISH, "https://example.org/furnace") == PageMetadata(
        title="How furnaces keep heat & why",
        canonical_url="https://example.org/furnace?a=1&b=2",
        published="2024-05-31",
        declared_language="en-gb",
        license="CC-BY-SA-4.0",
        ai_opt_out=(),
    )


def test_a_chinese_page() -> None:
    assert metadata_of(CHINESE, "http://www.example.cn/a/b.html") == PageMetadata(
        title="炉火如何保持均匀 — 炼金网",
        canonical_url="http://www.example.cn/luhuo/1.html",
        published="2024-05-31",
        declared_language="zh-hans-cn",
        license="CC-BY-NC-SA-3.0-CN",
        ai_opt_out=("noai", "noimageai", "tdm-reservation"),
    )


def test_a_page_that_says_nothing() -> None:
    assert metadata_of("<p>just text</p>") == PageMetadata()
    assert metadata_of("") == PageMetadata()


@pytest.mark.parametrize(
    ("page", "title"),
    [
        (head('<meta property="og:title" content=" "><title> A\n B </title>'), "A B"),
        (head("<title></title>", "<h1 class=x>A <b>b</b> &lt;c&gt;</h1><p>d"), "A b <c>"),
        (head("<title>A<br>B"), None),
        (head("<title>标题&#x3000;二</title>"), "标题 二"),
        (head("<style>title{}</style><title>A</title>", "<svg><title>icon</title></svg>"), "A"),
        (head(f"<title>{'长' * 9_000}</title>"), "长" * 500),
        (head("<title>e&#x301;&#0;&#xd800;</title>"), "é\ufffd\ufffd"),
        (head('<meta name="citation_title" content="Only here">'), "Only here"),
    ],
)
def test_titles(page: str, title: str | None) -> None:
    assert metadata_of(page).title == title


@pytest.mark.parametrize(
    ("inside", "url", "canonical"),
    [
        ('<link rel="canonical" href="/a">', "dir/page.html", None),
        ('<link rel="canonical" href="../a b">', "https://e.org/x/y/z", "https://e.org/x/ab"),
        ('<link rel="canonical" href="//f.org/a">', "https://e.org/x", "https://f.org/a"),
        ('<base href="https://b.org/c/"><link rel="canonical" href="a">', "page.html", "https://b.org/c/a"),
        ('<link rel="canonical" href="javascript:alert(1)">', "https://e.org/", None),
        ('<link rel="canonical" href="http://[">', "https://e.org/", None),
        ('<link rel="canonical" href=""><meta property="og:url" content="https://e.org/og">', "", "https://e.org/og"),
        ('<meta property="og:url" content="https://例え.jp/炉">', "", "https://例え.jp/炉"),
        ('<link rel="alternate canonical" href="ftp://e.org/a">', "https://e.org/", None),
        ('<link rel="stylesheet" href="https://e.org/a">', "https://e.org/", None),
    ],
)
def test_canonical_urls(inside: str, url: str, canonical: str | None) -> None:
    assert metadata_of(head(inside), url).canonical_url == canonical


def json_ld(data: object) -> str:
    return f'<script type="application/ld+json">{data if isinstance(data, str) else json.dumps(data)}</script>'


@pytest.mark.parametrize(
    ("page", "day"),
    [
        (head(json_ld({"@type": "NewsArticle", "datePublished": "2023-02-01T00:00:00Z"})), "2023-02-01"),
        (
            head(
                json_ld(
                    {
                        "@graph": [
                            {"@type": "Article", "comment": {"@type": "Comment", "datePublished": "2020-01-01"}},
                            {"@type": "WebPage", "datePublished": "2021-01-01"},
                        ]
                    }
                )
            ),
            "2021-01-01",
        ),
        (head(json_ld('{"datePublished": "2022-03-04", "broken": }')), "2022-03-04"),
        (head(json_ld("[" * 100_000 + '"datePublished"')), None),
        (head("", json_ld({"@type": ["BlogPosting"], "datePublished": "2019-12-31"})), "2019-12-31"),
        (head('<meta name="citation_date" content="2018/7/4">'), "2018-07-04"),
        (head('<meta name="DC.Date" content="20180704">'), "2018-07-04"),
        (head('<meta itemprop="datePublished" content="Wed, 04 Jul 2018 10:00:00 GMT">'), "2018-07-04"),
        (head("", '<time datetime="2018-07-04T10:00">4 July</time>'), "2018-07-04"),
        (head("", '<time datetime="2018-01-01"></time><time class=published datetime="2018-07-04">'), "2018-07-04"),
        (head("", '<time datetime=2018-01-01>x</time><h1>t</h1><time datetime="2018-07-04">'), "2018-07-04"),
        (head("", '<time datetime="2018-01-01">x</time><time datetime="2018-07-04">x</time>'), None),
        (head('<meta name="date" content="1970-01-01"><meta name="pubdate" content="2018-07-04">'), "2018-07-04"),
        (head('<meta property="article:published_time" content="2024-06-02T00:00">'), "2024-06-02"),
        (head('<meta property="article:published_time" content="2024-06-03T00:00">'), None),
        (head('<link rel=canonical href="https://e.org/2019/04/05/heat/">'), "2019-04-05"),
        (head('<link rel=canonical href="https://e.org/2019/14/05/heat/">'), None),
    ],
)
def test_publication_dates(page: str, day: str | None) -> None:
    assert metadata_of(page, collected=date(2024, 6, 1)).published == day


@pytest.mark.parametrize(
    ("text", "day"),
    [
        ("2024-05-31", "2024-05-31"),
        (" 2024/5/1 10:00", "2024-05-01"),
        ("2024.05.31", "2024-05-31"),
        ("20240531", "2024-05-31"),
        ("31.5.2024, 10 Uhr", "2024-05-31"),
        ("2024年05月31日", "2024-05-31"),
        ("2024년 5월 31일", "2024-05-31"),
        ("May 31st, 2024", "2024-05-31"),
        ("Friday, May 31, 2024", "2024-05-31"),
        ("31. Mai 2024", None),
        ("31-Sep-2024", None),
        ("Fri, 31 May 2024 10:00:00 +0000", "2024-05-31"),
        ("Sept. 3, 2024", "2024-09-03"),
        ("05/06/2024", None),
        ("2024-02-30", None),
        ("2024-13-01", None),
        ("2024-05", None),
        ("2024", None),
        ("1717149600", None),
        ("0000-00-00", None),
        ("0001-01-01T00:00:00Z", None),
        ("1970-01-01T00:00:00Z", None),
        ("9999-12-31", None),
        ("2038-01-19", None),
        ("", None),
    ],
)
def test_dates_are_read_in_many_forms_and_refused_where_they_cannot_be(text: str, day: str | None) -> None:
    assert iso_date(text) == day


@pytest.mark.parametrize(
    ("inside", "language"),
    [
        ('<meta http-equiv="content-language" content="zh-TW">', "zh-tw"),
        ('<meta property="og:locale" content="zh_CN">', "zh-cn"),
        ('<meta http-equiv="content-language" content="en, fr"><meta property="og:locale" content="de_DE">', "de-de"),
        ('<meta http-equiv="content-language" content="utf-8">', None),
        ('<meta http-equiv="content-language" content="{{ lang }}">', None),
    ],
)
def test_declared_languages(inside: str, language: str | None) -> None:
    assert metadata_of(head(inside)).declared_language == language
    assert metadata_of(head(inside).replace("<html", '<html lang="JA"')).declared_language == "ja"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("https://creativecommons.org/licenses/by/4.0/", "CC-BY-4.0"),
        ("http://www.creativecommons.org/licenses/by-nc-nd/2.5/deed.zh", "CC-BY-NC-ND-2.5"),
        ("https://creativecommons.org/licenses/by-sa/3.0/de/deed.de", "CC-BY-SA-3.0-DE"),
        ("https://creativecommons.org/licenses/by/3.0/igo/", "CC-BY-3.0-IGO"),
        ("https://creativecommons.org/publicdomain/zero/1.0/legalcode", "CC0-1.0"),
        ("https://creativecommons.org/publicdomain/mark/1.0/", "CC-PDM-1.0"),
        ("https://creativecommons.org/about", None),
        ("CC BY-NC-SA 4.0", "CC-BY-NC-SA-4.0"),
        ("CC0", "CC0-1.0"),
        ("cc-by-sa-4.0", "CC-BY-SA-4.0"),
        ("https://www.gnu.org/licenses/fdl-1.3.html", "GFDL-1.3"),
        ("http://www.gnu.org/licenses/old-licenses/gpl-2.0.html", "GPL-2.0"),
        ("http://www.apache.org/licenses/LICENSE-2.0.txt", "Apache-2.0"),
        ("https://opensource.org/licenses/mit-license.php", "MIT"),
        ("https://opensource.org/licenses/MIT", "MIT"),
        ("https://opensource.org/license/bsd-3-clause/", "BSD-3-Clause"),
        ("https://spdx.org/licenses/MPL-2.0.html", "MPL-2.0"),
        ("apache 2.0", "Apache-2.0"),
        ("mit", "MIT"),
        ("All rights reserved", None),
        ("", None),
    ],
)
def test_names_of_licenses(text: str, name: str | None) -> None:
    assert short_name(text) == name


BY = "https://creativecommons.org/licenses/by/4.0/"
SA = "https://creativecommons.org/licenses/by-sa/2.0/"


@pytest.mark.parametrize(
    ("page", "name"),
    [
        (head(f'<link rel="license" href="{BY}">', f'<a href="{SA}">picture</a>'), "CC-BY-4.0"),
        (head("", f"<a href='{SA}'>picture</a><A REL='license' HREF='{BY}'>text</A>"), "CC-BY-4.0"),
        (head("", f'<a href="{SA}">one</a><a href="{SA}">same</a>'), "CC-BY-SA-2.0"),
        (head("", f'<a href="{SA}">one</a><a href="{BY}">other</a>'), None),
        (head("", '<a rel="license" href="/terms">terms</a>'), "https://e.org/terms"),
        (head("", '<a rel="nofollow" href="/license">terms</a> rel=license'), None),
        (head(json_ld({"@type": "Article", "license": BY})), "CC-BY-4.0"),
        (head(json_ld({"@type": "Article", "license": {"@type": "CreativeWork", "url": BY}})), "CC-BY-4.0"),
        (head(json_ld({"@type": "Article", "image": {"@type": "ImageObject", "license": BY}})).replace(BY, "x"), None),
        (head(json_ld({"@type": "Article", "license": "https://e.org/\ud800"})), None),
        (head('<meta name="license" content="Apache 2.0">'), "Apache-2.0"),
        (head('<meta name="DC.rights" content="CC BY 4.0">'), "CC-BY-4.0"),
        (head('<meta name="copyright" content="All rights reserved, E.org">'), None),
        (head("", '<a href="https://creativecommons.org/publicdomain/zero/1.0/">CC0</a>'), "CC0-1.0"),
    ],
)
def test_licenses_of_pages(page: str, name: str | None) -> None:
    assert metadata_of(page, "https://e.org/a/b").license == name


@pytest.mark.parametrize(
    ("inside", "wishes"),
    [
        ('<meta name="robots" content="noindex, nofollow">', ("noindex",)),
        ('<meta name="robots" content="none">', ("noindex",)),
        ('<meta name="robots" content="max-snippet:-1, nosnippet">', ()),
        ('<meta name="robots" content="all"><meta name="Robots" content="NOAI">', ("noai",)),
        ('<meta name="GPTBot" content="noindex">', ("noindex",)),
        ('<meta name="ccbot" content="noimageai noai">', ("noai", "noimageai")),
        ('<meta name="description" content="noai, noindex">', ()),
        ('<meta name="tdm-reservation" content="0">', ()),
        ('<meta name="tdm-reservation" content="1"><meta name="tdm-policy" content="/p.json">', ("tdm-reservation",)),
        ('<meta name="tdm-policy" content="/p.json">', ()),
    ],
)
def test_wishes_about_ai(inside: str, wishes: tuple[str, ...]) -> None:
    assert metadata_of(head(inside)).ai_opt_out == wishes


def test_tags_are_found_in_heads_that_are_broken() -> None:
    robots = '<meta name="robots" content="noai">'
    assert metadata_of(f"<title>x</title>{robots}<p>no head, no body").ai_opt_out == ("noai",)
    assert metadata_of(f"<head><script>{'x = 1;' * 20_000}</script>{robots}").ai_opt_out == ("noai",)
    assert metadata_of(f"<head><!--> {robots}").ai_opt_out == ("noai",)
    assert metadata_of(head("", robots)).ai_opt_out == ()


@settings(deadline=None, max_examples=300)
@given(
    st.lists(
        st.one_of(
            st.sampled_from(
                [
                    *("<meta ", "<link rel=canonical href=", "<title>", "</title>", "<html lang=", "<!--", "-->", ">"),
                    *("content='", "name=robots", '"', "'", "=", "license", ' rel="license" href="', "http://", "&#0;"),
                    *(
                        '<script type="application/ld+json">',
                        '{"datePublished":"',
                        '"}',
                        "</script>",
                        "<time datetime=",
                    ),
                ]
            ),
            st.text(max_size=8),
        ),
        max_size=30,
    )
)
def test_any_page_gives_values_that_can_be_stored(pieces: list[str]) -> None:
    said = metadata_of("".join(pieces).encode("utf-8", "replace").decode(), "https://e.org/a")
    for value in (said.title, said.canonical_url, said.license, said.published, said.declared_language):
        if value is not None:
            assert value == value.encode().decode().strip() != ""
            assert "\0" not in value
