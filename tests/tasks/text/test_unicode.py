"""Control characters, composition, mojibake."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.text.unicode import normalise, repair, without_controls
from tests.tasks.text.test_encodings import ARABIC, CASES, CHINESE, FRENCH, GREEK, POLISH, RUSSIAN, TURKISH


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


WESTERN = [CHINESE, FRENCH, POLISH, RUSSIAN, GREEK, TURKISH, ARABIC, "…—“”’", "炉🔥é"]


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        *((text, encoding) for text in WESTERN for encoding in ("latin-1", "sloppy-windows-1252")),
        *((text, "sloppy-windows-1251") for text in (CHINESE, RUSSIAN)),
        (POLISH, "sloppy-windows-1250"),
        (CHINESE, "macroman"),
    ],
)
def test_text_read_as_a_single_byte_encoding_is_restored(text: str, encoding: str) -> None:
    import ftfy  # noqa: F401 - registers the sloppy encodings

    broken = "\n".join([text.encode().decode(encoding), "an innocent line: naïve", text])
    assert repair(broken) == "\n".join([text, "an innocent line: naïve", text])


def test_markup_keeps_what_repair_needs() -> None:
    broken = f"<p>{CHINESE}</p>".encode().decode("latin-1")
    assert repair(without_controls(broken)) == f"<p>{CHINESE}</p>"
    assert without_controls("a\x00\x0b\x0c\r\n\ufeff\u2028\ud800\x85\x7f") == "a\n\n\n\ufffd\x85"


PIECES = st.sampled_from(
    ["Ã", "¤", "¶", "Â\xa0", "â€œ", "â€™", "Ð", "Ñ", "Р°", "Ўв", " ", "\n", "ß»", "é", "炉", "à ", "\x81"]
)


@settings(deadline=None, max_examples=500)
@given(st.lists(st.one_of(PIECES, st.text(max_size=3)), max_size=12).map("".join))
def test_the_quick_look_hides_nothing_from_the_repair(text: str) -> None:
    """Line by line, the result is what ftfy's repair of every line would be."""
    from ftfy import TextFixerConfig, fix_encoding

    config = TextFixerConfig(decode_inconsistent_utf8=False, replace_lossy_sequences=False)
    expected = "\n".join(fix_encoding(line, config) for line in without_controls(text).split("\n"))
    assert repair(text) == normalise(expected)
