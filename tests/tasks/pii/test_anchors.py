"""Looking around anchors only finds exactly what trying every form at every position finds."""

from __future__ import annotations

import random
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.pii import network, numbers, secrets
from tasks.pii.find import find_in
from tasks.pii.kinds import Form, Found, resolve
from tasks.pii.secrets import FORMATS
from tests.tasks.pii.test_find import FOUND, KEYS

FORMS: tuple[Form, ...] = (
    secrets.PEM_FORM,
    secrets.KEY_FORM,
    secrets.SECRET_NAME_FORM,
    network.CREDENTIALS_FORM,
    network.QUERY_TOKEN_FORM,
    network.EMAIL_FORM,
    network.IPV4_FORM,
    network.IPV6_FORM,
    network.MAC_FORM,
    numbers.IBAN_FORM,
    numbers.PASSPORT_FORM,
    *numbers.NUMBER_FORMS,
)


def plain(text: bytes) -> list[Found]:
    """Every form at every position."""
    tried = (form.at(text, position) for form in FORMS for position in range(len(text)))
    return resolve([item for item in tried if item is not None])


TELLING = (
    "0 1 9 12 138 +86 - . : @ ( ) （ ） 电话 a X f :: e = / – _ % é ; \\ + ' 0571 1. GB DE89 AA example.com bob "
    "https:// user pw1234 sk- ABCDEFGHIJ23 aB3dE6gH9 eyJ SG. hvs. ?token= &password= 护照 身份证 001b.4411 00:1b: "
    "00-1b- 2001:db8: 192.168. xoxb- 123456789:AA bot secret_access_key sEcret_Access_key= 13812345678 "
    "415-555-0132 ffff: 0049 012 (71) 400-810-1234 https://u:p1@h.org x12 E12345678"
)
PIECES = [
    *TELLING.split(),
    *(text for text, _ in FOUND if len(text) < 40),
    *KEYS.values(),
    "\n", " ", "\u00a0", "passport ", "card ", "3704 0044 0532 0130 00", "-----BEGIN PRIVATE KEY-----", "Phone: ",
    "-----END PRIVATE KEY-----", "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBK", "office", "4111 1111 1111 1111", "020 7946 0958",
]  # fmt: skip


@settings(deadline=None, max_examples=150)
@given(st.lists(st.lists(st.sampled_from(PIECES), max_size=12).map("".join), max_size=4))
def test_pieces_in_any_order(texts: list[str]) -> None:
    encoded = [text.encode() for text in texts]
    assert find_in(encoded) == [plain(text) for text in encoded]


@settings(deadline=None, max_examples=100)
@given(st.text(st.sampled_from("0123456789abfX+-.:()/@_=?& \n（）电话\u00a0\u2013"), max_size=80))
def test_any_text_of_telling_characters(text: str) -> None:
    assert find_in([text.encode()]) == [plain(text.encode())]


@pytest.mark.parametrize("before", ["", " ", "key=", "密钥", "a.", "_", "x", '"'])
def test_keys_at_every_alignment(before: str) -> None:
    for key in KEYS.values():
        for shift in range(4):
            text = f"{'.' * shift}{before}{key} after".encode()
            assert find_in([text]) == [plain(text)]


def test_many_texts_are_as_good_as_one_by_one() -> None:
    """Batches end anywhere, and nothing is found, or kept from being found, by what stands in another text."""
    shuffle = random.Random(5)
    texts = ["".join(shuffle.choices(PIECES, k=shuffle.randrange(30))).encode() for _ in range(600)]
    texts[100] = b"a" * 1_500_000 + b" 13812345678"
    assert find_in(texts) == [find_in([text])[0] for text in texts]
    assert sum(map(len, find_in(texts))) > 600
    digits = [b"1381234", b"5678", b"bob@", b"example.com", b"passport ", b"E12345678"]
    assert find_in(digits) == [[]] * 6


@settings(deadline=None, max_examples=200)
@given(st.data())
def test_every_format_of_a_key_is_tried_where_it_begins(data: st.DataObject) -> None:
    """Strings drawn from the formats themselves, so that none is forgotten among the anchors."""
    _, _, pattern = data.draw(st.sampled_from(FORMATS))
    shortest = re.sub(r"\{([0-9]+),[0-9]*\}", r"{\1}", pattern)
    key = data.draw(st.from_regex(rf"\A(?:{shortest})\Z", alphabet=st.characters(codec="ascii")))
    text = f"{data.draw(st.sampled_from(['', ' ', 'k=', '是']))}{key}".encode()
    assert find_in([text]) == [plain(text)]
