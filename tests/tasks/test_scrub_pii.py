"""The step that replaces personal data: styles, keys, samples, counts."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from storage.corpus import Documents
from storage.errors import RecipeError
from tasks.context import PlainWorld
from tasks.scrub_pii import ScrubPii
from tests.helpers import Outcome, run_task
from tests.tasks.corpora import make_documents, rows_of
from tests.tasks.pii.test_find import ALNUM, KEYS, drawn

TEXTS = {"en": "Ask bob@example.com or ann@example.com.", "zh": "他的手机号是13812345678。", "none": "nothing here"}
KEY = "a key that only this test knows"


def scrubbed(tmp_path: Path, texts: dict[str, str], name: str = "step", **settings: Any) -> Outcome:
    documents = make_documents(tmp_path / f"{name} in", [texts])
    task = ScrubPii.model_validate({"documents": "d", **settings})
    return run_task(task, {"documents": documents}, tmp_path, name=name, workers=1)


def texts_of(outcome: Outcome) -> dict[str, object]:
    assert isinstance(outcome.artifact, Documents)
    return {url: row["text"] for url, row in rows_of(outcome.artifact).items()}


def test_placeholders_and_counts(tmp_path: Path) -> None:
    documents = make_documents(tmp_path / "in", [TEXTS, {"ip": "at 9.9.9.9"}])
    task = ScrubPii.model_validate({"documents": "d", "placeholders": {"ip_address": "[IP]"}})
    outcome = run_task(task, {"documents": documents}, tmp_path)
    assert texts_of(outcome) == {
        "en": "Ask <EMAIL> or <EMAIL>.",
        "zh": "他的手机号是<PHONE>。",
        "none": "nothing here",
        "ip": "at [IP]",
    }
    rows = rows_of(outcome.artifact)  # type: ignore[arg-type]
    assert {(row["first_seen"], row["license"], row["metadata"]) for row in rows.values()} == {
        (2, "CC0", '{"title":"t"}')
    }
    metrics = outcome.result.metrics
    assert metrics["replaced.email"] == 2
    assert metrics["replaced.chinese_mobile"] == metrics["replaced.ip_address"] == 1
    assert metrics["documents_in"] == metrics["documents_out"] == 4
    assert outcome.result.counts == {"documents": 4}


def test_chosen_kinds_only(tmp_path: Path) -> None:
    outcome = scrubbed(tmp_path, {"a": "a@b.example 13812345678 8.8.8.8"}, kinds=["email"])
    assert texts_of(outcome) == {"a": "<EMAIL> 13812345678 8.8.8.8"}
    assert not any("1381" in str(sample) for sample in outcome.result.samples)


def test_masks_keep_the_form(tmp_path: Path) -> None:
    key = KEYS["github"]
    texts = {
        "email": "jane.doe@mail.example.org",
        "card": "pay 4111 1111 1111 1111",
        "mobile": "手机13812345678",
        "ip": "at 203.0.113.7",
        "mac": "00:1b:44:11:3a:b7",
        "key": f"key {key}",
        "url": "https://bob:hunter22@example.org/",
        "pem": f"-----BEGIN PRIVATE KEY-----\n{drawn(ALNUM, 64)}\n-----END PRIVATE KEY-----",
    }
    outcome = scrubbed(tmp_path, texts, replace="mask")
    assert texts_of(outcome) == {
        "email": "j***.d**@m***.e******.org",
        "card": "pay **** **** **** 1111",
        "mobile": "手机*******5678",
        "ip": "at 203.*.***.*",
        "mac": "00:**:**:**:**:**",
        "key": f"key {key[:3]}_{'*' * 36}",
        "url": "https://***:********@example.org/",
        "pem": "-----BEGIN PRIVATE KEY-----\n****",
    }


def test_pseudonyms_are_consistent_and_depend_on_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = {
        "a": "bob@example.com and Bob@Example.com",
        "b": "ann@example.com",
        "c": "bob@example.com, 手机13812345678",
    }
    settings = {"replace": {"email": "pseudonym"}}
    monkeypatch.setenv("ATHANOR_PII_KEY", KEY)
    first = texts_of(scrubbed(tmp_path, texts, "first", **settings))
    (tmp_path / "key.txt").write_text(KEY + "\n")
    from_file = scrubbed(tmp_path, texts, "file", key_file="key.txt", **settings)
    assert texts_of(from_file) == first
    bob = re.findall("<EMAIL_[0-9a-f]{16}>", str(first["a"]))
    assert len(bob) == 2
    assert len(set(bob)) == 1
    assert first["c"] == f"{bob[0]}, 手机<PHONE>"
    assert first["b"] != bob[0]
    monkeypatch.setenv("ATHANOR_PII_KEY", KEY + "!")
    other = texts_of(scrubbed(tmp_path, texts, "other", **settings))
    assert not set(re.findall("<EMAIL_.*?>", str(other))) & set(re.findall("<EMAIL_.*?>", str(first)))


def test_the_key_is_told_apart_but_never_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = ScrubPii.model_validate({"documents": "d", "replace": "pseudonym", "key_variable": "MY_KEY"})
    seen = []
    for key in (KEY, KEY + "!"):
        monkeypatch.setenv("MY_KEY", key)
        seen.append(json.dumps(task.outside(PlainWorld(tmp_path))))
    assert seen[0] != seen[1]
    assert KEY not in seen[0] + json.dumps(task.settings())
    plain = ScrubPii.model_validate({"documents": "d"})
    assert plain.outside(PlainWorld(tmp_path)) is None
    (tmp_path / "key.txt").write_text(KEY)
    elsewhere = task.model_copy(update={"key_file": "key.txt"})
    assert json.dumps(elsewhere.outside(PlainWorld(tmp_path))) == seen[0]
    assert elsewhere.settings() == task.settings()
    outcome = scrubbed(tmp_path, TEXTS, replace="pseudonym", key_file="key.txt")
    written = [path.read_bytes() for path in (tmp_path / "step").rglob("*") if path.is_file()]
    assert not any(KEY.encode() in content for content in written)
    assert KEY not in repr(outcome.result)


@pytest.mark.parametrize(("key", "says"), [(None, "holds nothing"), ("short", "holds 5 bytes")])
def test_a_missing_or_short_key_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str | None, says: str
) -> None:
    monkeypatch.delenv("ATHANOR_PII_KEY", raising=False)
    if key:
        monkeypatch.setenv("ATHANOR_PII_KEY", key)
    task = ScrubPii.model_validate({"documents": "d", "replace": {"phone": "pseudonym"}})
    with pytest.raises(RecipeError, match=f"ATHANOR_PII_KEY {says}") as caught:
        task.outside(PlainWorld(tmp_path))
    assert "\n" not in str(caught.value)
    assert key is None or f" {key}" not in str(caught.value)
    with pytest.raises(RecipeError, match="absent cannot be read"):
        task.model_copy(update={"key_file": "absent"}).outside(PlainWorld(tmp_path))


def test_documents_are_dropped_for_what_must_not_be_in_them(tmp_path: Path) -> None:
    secret = drawn(ALNUM, 64)
    texts = {
        **TEXTS,
        "secret": f"mine: bob@example.com -----BEGIN PRIVATE KEY-----\n{secret}\n-----END PRIVATE KEY----- end",
    }
    outcome = scrubbed(tmp_path, texts, replace={"private_key": "drop", "email": "mask"})
    assert set(texts_of(outcome)) == set(TEXTS)
    assert texts_of(outcome)["en"] == "Ask b**@e******.com or a**@e******.com."
    assert outcome.result.metrics["dropped.pii.private_key"] == 1
    assert outcome.result.metrics["documents_out"] == 3
    sample = next(sample for sample in outcome.result.samples if sample.title == "dropped: pii.private_key")
    assert "mine: [email: ***@*******.***] [private_key: ----" in sample.before
    assert sample.before.endswith("] end")


def test_samples_show_the_surroundings_and_never_the_item(tmp_path: Path) -> None:
    key = KEYS["aws"]
    texts = {"a": f"{'before ' * 300}密钥 {key}, 手机13812345678 and bob@example.com{' after' * 300}"}
    outcome = scrubbed(tmp_path, texts, kinds=["api_key"])
    (sample,) = outcome.result.samples
    assert sample.title == "scrubbed: api_key"
    assert (
        f"密钥 [api_key: {'*' * 20}], 手机[chinese_mobile: ***********] and [email: ***@*******.***] after"
        in sample.before
    )
    assert sample.after is not None
    assert "密钥 <API_KEY>, 手机[chinese_mobile: ***********] and [email: ***@*******.***] after" in sample.after
    assert 200 < len(sample.before) < 1_000
    assert not any(item in str(sample) for item in (key, "13812345678", "bob@"))


def test_an_item_at_the_edge_of_a_sample_is_hidden_whole(tmp_path: Path) -> None:
    pem = f"-----BEGIN PRIVATE KEY-----\n{drawn(ALNUM, 1_000)}\n-----END PRIVATE KEY-----"
    outcome = scrubbed(tmp_path, {"a": f"{pem} bob@example.com{'字' * 130}{pem}"}, replace="mask")
    assert outcome.result.metrics["replaced.private_key"] == 2
    assert not any(drawn(ALNUM, 1_000)[-20:] in str(sample) for sample in outcome.result.samples)
    assert not any(drawn(ALNUM, 1_000)[:20] in str(sample) for sample in outcome.result.samples)


def test_the_same_in_any_partitions_and_workers(tmp_path: Path) -> None:
    texts = {f"{i}": f"{'文字 words ' * (i % 400)} bob{i}@example.com 手机138{i:08}" for i in range(1_500)}
    whole = scrubbed(tmp_path, texts, "whole")
    parts = [dict(list(texts.items())[i::7]) for i in range(7)]
    documents = make_documents(tmp_path / "parts in", parts)
    split = run_task(ScrubPii.model_validate({"documents": "d"}), {"documents": documents}, tmp_path, name="parts")
    assert texts_of(split) == texts_of(whole)
    assert split.result.metrics == whole.result.metrics
    assert split.result.metrics["replaced.email"] == 1_500


@pytest.mark.parametrize(
    "settings",
    [
        {"kinds": ["e-mail"]},
        {"replace": "hash"},
        {"replace": {"names": "mask"}},
        {"entities": ["PERSON"]},
        {"entities": ["CAT"], "spacy_models": {"en": "x"}},
    ],
)
def test_settings_that_make_no_sense(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ScrubPii.model_validate({"documents": "d", **settings})
