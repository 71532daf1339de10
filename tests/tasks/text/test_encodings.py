"""Decoding and repair of pages."""

from __future__ import annotations

import codecs
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.text.encodings import decode, looks_binary, normalise, python_codec, repair

CHINESE = "人工智能是研究、开发用于模拟、延伸和扩展人的智能的理论、方法、技术及应用系统的一门新的技术科学。"
TAIWAN = "人工智慧是研究、開發用於模擬、延伸和擴展人的智慧的理論、方法、技術及應用系統的一門新的技術科學。"
JAPANESE = "人工知能とは、計算という概念とコンピュータという道具を用いて知能を研究する計算機科学の一分野である。"
KOREAN = "인공지능은 인간의 학습능력, 추론능력, 지각능력을 인공적으로 구현하려는 컴퓨터 과학의 세부분야이다."
RUSSIAN = "Искусственный интеллект есть свойство искусственных систем выполнять творческие функции."
FRENCH = "L'élève a été reçu à l'école où il étudiait déjà ; « très bien », dit-il, et voilà."
POLISH = "Zażółć gęślą jaźń. Święta są co roku, a śnieg pada często w górach."

CASES = [
    (CHINESE, "gb18030"),
    (CHINESE, "gb2312"),
    (TAIWAN, "big5"),
    (JAPANESE, "shift_jis"),
    (JAPANESE, "euc_jp"),
    (KOREAN, "euc_kr"),
    (RUSSIAN, "windows-1251"),
    (FRENCH, "windows-1252"),
    (POLISH, "windows-1250"),
    (CHINESE, "utf-8"),
]


def page(text: str, charset: str = "") -> str:
    meta = f'<meta charset="{charset}">' if charset else ""
    return f"<html><head>{meta}<title>t</title></head><body><p>{text}</p></body></html>"


@pytest.mark.parametrize(("text", "encoding"), CASES)
def test_stated_by_the_transport_or_the_page_or_not_at_all(text: str, encoding: str) -> None:
    assert text in decode(page(text).encode(encoding), f"text/html; charset={encoding}").text
    assert text in decode(page(text, encoding).encode(encoding), "text/html").text
    assert text in decode(page(text).encode(encoding), "text/html").text


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


def test_a_truncated_last_character_does_not_discredit_the_encoding() -> None:
    assert decode(CHINESE.encode()[:-1], "text/plain; charset=utf-8", is_html=False).encoding == "utf-8"


@settings(deadline=None)
@given(st.binary(max_size=400), st.sampled_from(["", "text/html; charset=gbk", "text/html; charset=utf-8"]))
def test_any_bytes_give_text_that_can_be_stored(content: bytes, content_type: str) -> None:
    repair(decode(content, content_type).text).encode()


@pytest.mark.parametrize(
    "content",
    [b"\x89PNG\r\n\x1a\n" + bytes(range(256)), b"%PDF-1.7\n", b"\x1f\x8b\x08" + b"x" * 50, bytes(range(256)) * 9],
)
def test_binary_is_recognised(content: bytes) -> None:
    assert looks_binary(content)


def test_text_is_not_taken_for_binary() -> None:
    for text, encoding in [*CASES, (JAPANESE, "iso2022_jp"), (CHINESE, "utf-16")]:
        assert not looks_binary(page(text).encode(encoding))
    assert not looks_binary(page(CHINESE).encode("utf-16-le"), "text/html; charset=utf-16le")
    assert not looks_binary(b"a page with one stray \x00 in it, and otherwise much ordinary text to read" * 3)


def test_normalisation_drops_controls_and_nothing_else() -> None:
    assert normalise("a\r\nb\rc\x00d\x07\x1b[1m\te\ufefff\u2028g") == "a\nb\ncd[1m\tef\ng"
    assert normalise("\ud800x") == "\ufffdx"
    assert normalise("e\u0301") == "é"
    kept = "（全角）ＡＢＣ，１２３：“引号”『かぎ』ﬁ ½ ² … — “quotes” ‘single’\u3000x"
    assert normalise(kept) == kept


def test_mojibake_is_undone_and_code_is_not_touched() -> None:
    assert repair("Das ist schÃ¶n und grÃ¼n.") == "Das ist schön und grün."
    assert repair(CHINESE.encode().decode("latin-1")) == CHINESE
    code = "x = '&lt;b&gt;'  # “typed” ＡＢＣ ﬁ\nif a ≠ b: print(\"naïve café\")"
    assert repair(code) == code
    for text, _ in CASES:
        assert repair(text) == text


@settings(deadline=None)
@given(st.text(max_size=200))
def test_repair_gives_clean_composed_text_and_is_stable(text: str) -> None:
    once = repair(text)
    assert unicodedata.is_normalized("NFC", once)
    assert not any(unicodedata.category(c) == "Cc" and c not in "\n\t" for c in once)
    assert normalise(once) == once


def test_byte_order_marks_are_not_text() -> None:
    assert decode(codecs.BOM_UTF8 + b"plain", "text/plain", is_html=False).text == "plain"
