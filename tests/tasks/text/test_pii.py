"""What is personal data, and what only looks like it."""

from __future__ import annotations

import random
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.corpus import Documents
from tasks.scrub_pii import ScrubPii
from tasks.text.pii import KINDS, find, is_chinese_identity_number, passes_luhn, scrub
from tests.helpers import SHARED, run_task
from tests.tasks.corpora import make_documents, rows_of

ADULT = "11010519491231002X"
"""The example of GB 11643-1999."""

FOUND = [
    ("write to jane.doe+news@mail.example.co.uk.", "write to <EMAIL>."),
    ("<jane@example.com>,(bob_1@example.org)", "<<EMAIL>>,(<EMAIL>)"),
    ("邮箱：zhang.san@example.cn。谢谢", "邮箱：<EMAIL>。谢谢"),
    ("邮箱zhangsan@qq.com和电话13812345678都行", "邮箱<EMAIL>和电话<PHONE>都行"),
    ("call +1 (415) 555-0132 or +44 20 7946 0958.", "call <PHONE> or <PHONE>."),
    ("+49-30-901820 +8613812345678", "<PHONE> <PHONE>"),
    ("(415) 555-0132, 415-555-0132, 415.555.0132 x12", "<PHONE>, <PHONE>, <PHONE>"),
    ("Phone: 4155550132, tel. 020 7946 0958", "Phone: <PHONE>, tel. <PHONE>"),
    ("Paris 01 42 68 53 00 / 01.42.68.53.00", "Paris <PHONE> / <PHONE>"),
    ("电话：010-62345678，（0571）87654321-801，0571 87654321", "电话：<PHONE>，<PHONE>，<PHONE>"),
    ("客服热线400-810-1234转1", "客服热线<PHONE>转1"),
    ("手机138 1234 5678或者138-1234-5678，或+86 13812345678", "手机<PHONE>或者<PHONE>，或<PHONE>"),
    ("张三的身份证号是11010519491231002X，住在北京", "张三的身份证号是<ID_NUMBER>，住在北京"),
    ("id 11010519491231002x.", "id <ID_NUMBER>."),
    ("from 8.8.8.8:53, 192.168.1.20 and 10.1.2.3/24.", "from <IP_ADDRESS>:53, <IP_ADDRESS> and <IP_ADDRESS>/24."),
    ("服务器地址是203.0.113.7。", "服务器地址是<IP_ADDRESS>。"),
    ("host 2001:4860:4860::8888 and fe80::1ff:fe23:4567:890a", "host <IP_ADDRESS> and <IP_ADDRESS>"),
    ("[2001:db8:85a3:0:0:8a2e:370:7334]:80", "[<IP_ADDRESS>]:80"),
    ("pay with 4111 1111 1111 1111, 4111-1111-1111-1111", "pay with <CREDIT_CARD>, <CREDIT_CARD>"),
    ("5555555555554444 378282246310005 3782 822463 10005", "<CREDIT_CARD> <CREDIT_CARD> <CREDIT_CARD>"),
    ("银行卡6011111111111117。", "银行卡<CREDIT_CARD>。"),
]


@pytest.mark.parametrize(("text", "expected"), FOUND)
def test_found(text: str, expected: str) -> None:
    assert scrub(text)[0] == expected


@pytest.mark.parametrize(
    "text",
    [
        "listens on 127.0.0.1:4200, 0.0.0.0, ::1, [::]:80 with mask 255.255.255.0",
        "version 1.2.3.4, v10.0.19041.1, Chrome/98.0.4758.102, section 3.2.1.4, OID 1.3.6.1.4.1, 版本2.0.1.5",
        "x[::2], a[1::3], std::vector, a::b::c, 12:34:56, 10:20:30:40, 00:1B:44:11:3A:B7",
        "ISBN 978-3-16-148410-0 and 9783161484100, DOI 10.1000/182, arXiv:2112.11446",
        "2024-01-31 23:59:59, 2024-01-02T03:04:05, 31.12.2023, 01-02-2023, 1999-2004, 20240131, 01/02/2023",
        "3.14159265358979, 1e-10, 1234567890, 0x1234567890ab, 550e8400-e29b-41d4-a716-446655440000",
        "commit 13812345678abcdef, id_13812345678, 0.13812345678, 113812345678, 138123456789",
        "@property, user@localhost, git@github.com:a/b.git, icon@2x.png, a @ b, npm i pkg@1.2.3",
        "4111 1111 1111 1112 has a wrong check digit, 1234 5678 9012 3452 no issuer",
        "110105194912310021 and 11010519490231002X",
        "1 2 3 4 5 6 7 8 9 10 11 12, 100 200 300 400, 1,234,567,890.00, 第13812345678901号",
        "0 1 0 1 0 1 0 1 0 1 0 1, 00000000, 000-000-0000",
    ],
)
def test_left_alone(text: str) -> None:
    assert scrub(text) == (text, {})


def test_chosen_kinds_only() -> None:
    text = "a@b.example 13812345678 8.8.8.8"
    assert scrub(text, ("email",)) == ("<EMAIL> 13812345678 8.8.8.8", {"email": 1})
    assert [item.kind for item in find(text)] == ["email", "chinese_mobile", "ip_address"]


def luhn_by_the_book(digits: str) -> bool:
    doubled = [int(d) * 2 if i % 2 else int(d) for i, d in enumerate(digits[::-1])]
    return sum(int(c) for n in doubled for c in str(n)) % 10 == 0


@given(st.text("0123456789", min_size=1, max_size=25))
def test_luhn(digits: str) -> None:
    assert passes_luhn(digits) == luhn_by_the_book(digits)


@given(st.integers(0, 10**6 - 1), st.dates(), st.integers(0, 999))
def test_one_check_character_of_eleven_is_right(region: int, born: object, serial: int) -> None:
    head = f"{region:06}{born:%Y%m%d}".rjust(14, "0")[:14] + f"{serial:03}"
    right = [c for c in "0123456789X" if is_chinese_identity_number(head + c)]
    assert len(right) == (1 if 1850 <= int(head[6:10]) < 2100 else 0)
    assert is_chinese_identity_number(ADULT)


@settings(deadline=None)
@given(st.text(st.sampled_from("0123456789+-.:()@ aXx电话，/中f"), max_size=120))
def test_spans_are_in_order_and_each_becomes_one_placeholder(text: str) -> None:
    found = find(text)
    assert all(a.end <= b.start for a, b in pairwise(found))
    assert all(0 <= item.start < item.end <= len(text) for item in found)
    scrubbed, counts = scrub(text)
    assert (
        sum(counts.values())
        == len(found)
        == sum(scrubbed.count(mark) for mark in ("<EMAIL>", "<PHONE>"))
        + sum(scrubbed.count(mark) for mark in ("<IP_ADDRESS>", "<CREDIT_CARD>", "<ID_NUMBER>"))
    )


@pytest.mark.parametrize(
    "piece",
    [
        "1",
        "1.",
        "a@",
        "1 ",
        "12-",
        ":",
        "a:",
        "+1",
        "(0",
        "tel",
        "tel ",
        "b.",
        "电话",
        "0 ",
        "010-",
        "a",
        "4111-1111 ",
        "x@b.c-",
    ],
)
def test_linear_on_adversarial_input(piece: str) -> None:
    """A quadratic pattern would take hours on these."""
    find(piece * (200_000 // len(piece)) + "@")


def test_random_numbers_are_seldom_cards_or_identities() -> None:
    shuffle = random.Random(3)
    numbers = " ".join(str(shuffle.randrange(10**15, 10**18)) for _ in range(5_000))
    assert len(find(numbers)) < 100


def test_as_a_step(tmp_path: Path) -> None:
    texts = {"en": "Ask bob@example.com or ann@example.com.", "zh": "他的手机号是13812345678。", "none": "nothing here"}
    documents = make_documents(tmp_path / "in", [texts, {"ip": "at 9.9.9.9"}])
    task = ScrubPii.model_validate({"documents": "d", "placeholders": {"ip_address": "[IP]"}})
    outcome = run_task(task, {"documents": documents}, tmp_path)
    assert isinstance(outcome.artifact, Documents)
    rows = rows_of(outcome.artifact)
    assert [row["text"] for row in rows.values()] == [
        "Ask <EMAIL> or <EMAIL>.",
        "他的手机号是<PHONE>。",
        "nothing here",
        "at [IP]",
    ]
    assert {(row["first_seen"], row["license"], row["metadata"]) for row in rows.values()} == {
        (2, "CC0", '{"title":"t"}')
    }
    metrics = outcome.result.metrics
    assert metrics["replaced.email"] == 2
    assert metrics["replaced.chinese_mobile"] == metrics["replaced.ip_address"] == 1
    assert metrics["documents_in"] == metrics["documents_out"] == 4
    assert any(sample.after and "<EMAIL>" in sample.after for sample in outcome.result.samples)


def test_precision_and_recall_on_labelled_sentences() -> None:
    path = SHARED / "pii" / "presidio" / "synth_dataset_v2.json"
    if not path.exists():
        pytest.skip(f"{path} is not there")
    import json

    labels = {
        "EMAIL_ADDRESS": "email",
        "PHONE_NUMBER": "phone",
        "IP_ADDRESS": "ip_address",
        "CREDIT_CARD": "credit_card",
    }
    hits = dict.fromkeys(KINDS, 0)
    true, wrong = dict.fromkeys(KINDS, 0), 0
    for sentence in json.loads(path.read_text()):
        found = find(sentence["full_text"])
        spans = [
            (labels[s["entity_type"]], s["start_position"], s["end_position"])
            for s in sentence["spans"]
            if s["entity_type"] in labels
        ]
        for kind, start, end in spans:
            true[kind] += 1
            hits[kind] += any(item.start < end and start < item.end for item in found)
        wrong += sum(not any(item.start < end and start < item.end for _, start, end in spans) for item in found)
    assert wrong == 0
    assert hits["email"] == true["email"]
    assert hits["ip_address"] == true["ip_address"]
    assert hits["credit_card"] >= 0.9 * true["credit_card"]
    assert hits["phone"] >= 0.65 * true["phone"]
