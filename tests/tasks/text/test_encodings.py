"""Decoding and repair of pages."""

from __future__ import annotations

import codecs

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.text import labels
from tasks.text.encodings import decode, looks_binary
from tasks.text.labels import python_codec
from tasks.text.unicode import normalise

CHINESE = "人工智能是研究、开发用于模拟、延伸和扩展人的智能的理论、方法、技术及应用系统的一门新的技术科学。"
TAIWAN = "人工智慧是研究、開發用於模擬、延伸和擴展人的智慧的理論、方法、技術及應用系統的一門新的技術科學。"
JAPANESE = "人工知能とは、計算という概念とコンピュータという道具を用いて知能を研究する計算機科学の一分野である。"
KOREAN = "인공지능은 인간의 학습능력, 추론능력, 지각능력을 인공적으로 구현하려는 컴퓨터 과학의 세부분야이다."
RUSSIAN = "Искусственный интеллект есть свойство искусственных систем выполнять творческие функции."
FRENCH = "L'élève a été reçu à l'école où il étudiait déjà ; « très bien », dit-il, et voilà."
POLISH = "Zażółć gęślą jaźń. Święta są co roku, a śnieg pada często w górach."

GREEK = "Η τεχνητή νοημοσύνη είναι ο τομέας της πληροφορικής που ασχολείται με ευφυή συστήματα."
TURKISH = "Yapay zekâ, bir bilgisayarın çeşitli faaliyetleri zeki canlılara benzer şekilde yapmasıdır. İğne, ışık."
HEBREW = "בינה מלאכותית היא ענף של מדעי המחשב העוסק ביכולת לתכנת מחשבים לפעול באופן המציג יכולות."
ARABIC = "الذكاء الاصطناعي هو سلوك وخصائص معينة تتسم بها البرامج الحاسوبية تجعلها تحاكي القدرات الذهنية البشرية."

CASES = [
    (CHINESE, "gb18030"),
    (CHINESE, "gb2312"),
    (TAIWAN, "big5"),
    (TAIWAN, "big5hkscs"),
    (JAPANESE, "shift_jis"),
    (JAPANESE, "euc-jp"),
    (JAPANESE, "iso-2022-jp"),
    (KOREAN, "euc-kr"),
    (RUSSIAN, "windows-1251"),
    (RUSSIAN, "koi8-r"),
    (FRENCH, "windows-1252"),
    (FRENCH, "iso-8859-15"),
    (POLISH, "windows-1250"),
    (POLISH, "iso-8859-2"),
    (GREEK, "windows-1253"),
    (TURKISH, "windows-1254"),
    (HEBREW, "windows-1255"),
    (ARABIC, "windows-1256"),
    (CHINESE, "utf-8"),
    (FRENCH, "utf-8"),
    (CHINESE, "utf-16-le"),
    (FRENCH, "utf-16-be"),
]


def page(text: str, charset: str = "") -> str:
    meta = f'<meta charset="{charset}">' if charset else ""
    return f"<html><head>{meta}<title>t</title></head><body><p>{text}</p></body></html>"


@pytest.mark.parametrize(("text", "encoding"), CASES)
def test_stated_by_the_transport_or_the_page_or_not_at_all(text: str, encoding: str) -> None:
    label = {"big5hkscs": "big5-hkscs", "utf-16-le": "utf-16le", "utf-16-be": "utf-16be"}.get(encoding, encoding)
    assert decode(page(text).encode(encoding), f"text/html; charset={label}").text == page(text)
    assert decode(page(text, label).encode(encoding), "text/html").text == page(text, label)
    old = f'<meta content="text/html; charset={label}" http-equiv=Content-Type>'
    assert decode((old + page(text)).encode(encoding), "text/html").text == old + page(text)
    assert decode(page(text).encode(encoding), "text/html").text == page(text)


@pytest.mark.parametrize(("text", "encoding"), [case for case in CASES if "16" not in case[1]])
@pytest.mark.parametrize("stated", ["utf-8", "iso-8859-1", "us-ascii", "utf-16"])
def test_a_wrong_statement_gives_way(text: str, encoding: str, stated: str) -> None:
    if text is FRENCH or (text in (POLISH, TURKISH) and stated in ("iso-8859-1", "us-ascii")):
        text, encoding = FRENCH, "windows-1252"  # of Western and Central European ones, nothing tells which is right
    assert decode(page(text).encode(encoding), f"text/html; charset={stated}").text == page(text)
    assert decode(page(text, stated).encode(encoding), "text/html").text == page(text, stated)


def test_the_transports_default_gives_way_to_what_the_page_says() -> None:
    assert decode(page(CHINESE, "gbk").encode("gbk"), "text/html; charset=ISO-8859-1").encoding == "gb18030"
    assert decode(page(FRENCH, "gbk").encode("cp1252"), "text/html; charset=ISO-8859-1").encoding == "cp1252"


def test_a_few_malformed_characters_do_not_discredit_an_encoding() -> None:
    for text, encoding in ((CHINESE, "utf-8"), (CHINESE, "gb18030"), (KOREAN, "euc-kr"), (POLISH * 3, "utf-8")):
        cut = page(text * 4).encode(encoding) + b"\xff<p>" + page(text * 4).encode(encoding)
        for content_type in (f"text/html; charset={encoding}", *(["text/html"] if encoding == "utf-8" else [])):
            decoded = decode(cut, content_type)
            assert decoded.encoding == encoding.replace("euc-kr", "cp949")
            assert decoded.text.count("\ufffd") == 1
            assert decoded.text.count(text) == 8


def test_metas_count_where_they_are_metas() -> None:
    content = FRENCH.encode("cp1250", "replace")
    for before in (
        b'<!-- <meta charset="gbk"> -->',
        b'<meta name="description" content="what charset=gbk means">',
        b"<metadata charset=gbk>",
        b'<meta name="x" content="> charset=gbk">',
    ):
        assert decode(before + b"<meta charset='windows-1250'>" + content).encoding == "cp1250"
        assert decode(before.replace(b"gbk", b"windows-1250") + content).encoding == "cp1252"


def test_extensions_that_browsers_take() -> None:
    assert decode("①㈱髙".encode("cp932"), "text/html; charset=Shift_JIS").text == "①㈱髙"
    assert decode("①㈱。".encode("euc_jis_2004"), "text/html; charset=euc-jp").text == "①㈱。"
    assert decode("镕堃€".encode("gb18030"), "text/html; charset=gb2312").text == "镕堃€"
    assert decode("똠햏".encode("cp949"), "text/html; charset=euc-kr").text == "똠햏"
    assert decode(b"\x93quoted\x94 \x80", "text/html; charset=iso-8859-1").text == "“quoted” €"


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_byte_order_mark_beats_what_is_declared(encoding: str) -> None:
    decoded = decode(page(CHINESE, "big5").encode(encoding), "text/html; charset=windows-1252")
    assert decoded.text == page(CHINESE, "big5")


def test_a_declaration_that_the_bytes_contradict_gives_way() -> None:
    assert CHINESE in decode(page(CHINESE, "gb2312").encode(), "text/html").text
    assert FRENCH in decode(page(FRENCH, "iso-8859-1").encode(), "text/html; charset=iso-8859-1").text
    assert JAPANESE in decode(page(JAPANESE, "utf-8").encode("shift_jis"), "text/html").text
    assert FRENCH in decode(page(FRENCH, "utf-16").encode("cp1252"), "text/html").text


def test_labels_are_read_as_browsers_read_them() -> None:
    assert python_codec("GB2312") == "gb18030"
    assert python_codec("latin1") == "cp1252"
    assert python_codec("x-sjis") == "cp932"
    assert python_codec("ks_c_5601-1987") == "cp949"
    assert python_codec("base64") is None
    assert python_codec("no-such-thing") is None
    assert python_codec("unicode_escape") is None
    assert python_codec(" UTF8\n") == "utf-8"


def test_every_label_means_a_codec_that_there_is() -> None:
    for label, codec in labels._CODECS.items():
        assert "<p>".encode(codec).decode(codec) == "<p>"
        assert label == label.strip().lower()


def test_a_truncated_last_character_does_not_discredit_the_encoding() -> None:
    assert decode(CHINESE.encode()[:-1], "text/plain; charset=utf-8", is_html=False).encoding == "utf-8"


@settings(deadline=None)
@given(st.binary(max_size=400), st.sampled_from(["", "text/html; charset=gbk", "text/html; charset=utf-8"]))
def test_any_bytes_give_text_that_can_be_stored(content: bytes, content_type: str) -> None:
    normalise(decode(content, content_type).text).encode()


@pytest.mark.parametrize(
    "content",
    [b"\x89PNG\r\n\x1a\n" + bytes(range(256)), b"%PDF-1.7\n", b"\x1f\x8b\x08" + b"x" * 50, bytes(range(256)) * 9],
)
def test_binary_is_recognised(content: bytes) -> None:
    assert looks_binary(content)


def test_text_is_not_taken_for_binary() -> None:
    for text, encoding in [*CASES, (CHINESE, "utf-16")]:
        assert not looks_binary(page(text).encode(encoding))
    assert not looks_binary(page(CHINESE).encode("utf-16-le"), "text/html; charset=utf-16le")
    assert not looks_binary(b"a page with one stray \x00 in it, and otherwise much ordinary text to read" * 3)


def test_byte_order_marks_are_not_text() -> None:
    assert decode(codecs.BOM_UTF8 + b"plain", "text/plain", is_html=False).text == "plain"


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        (CHINESE, "gb18030"),
        (TAIWAN, "big5"),
        (JAPANESE, "shift_jis"),
        (JAPANESE, "euc-jp"),
        (KOREAN, "euc-kr"),
        (RUSSIAN, "windows-1251"),
        (ARABIC, "windows-1256"),
    ],
)
@pytest.mark.parametrize("at", [2, 5])
def test_a_malformed_byte_hides_no_encoding_that_nothing_states(text: str, encoding: str, at: int) -> None:
    before, after = page(text[: at * 4] * at), page(text * 9)
    decoded = decode(before.encode(encoding, "replace") + b"\xff " + after.encode(encoding, "replace")).text
    assert decoded.endswith(after)
    assert decoded.startswith(before)
