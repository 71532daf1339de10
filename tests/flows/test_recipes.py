"""The recipes for web pages that ship, on a few made pages: every step up to the tokens, and a tiny model."""

from __future__ import annotations

import json
import math
import random
from typing import Any

import pytest

from flows.home import Home
from flows.outcome import StepOutcome
from flows.plan import Options, Planner
from flows.recipe import load_recipe
from storage.corpus import Documents
from storage.tokenizer import Tokenizer
from tests.flows.conftest import make_all

CHINESE = (
    "炉火要保持均匀的温度，直到炼成为止。",
    "第一步是把原料放进炉子里，然后关上炉门。",
    "如果温度太高，就应该打开风口，让空气流动起来。",
    "每一个步骤都有它的道理，不能随便省略。",
    "这些说明对于初学者和有经验的人都很有用。",
    "我们可以在早上检查一次，在晚上再检查一次。",
    "他们把结果记录下来，以便以后比较不同的方法。",
    "不同的材料需要不同的时间，这是很自然的事情。",
    "用户可以在设置里面选择自己喜欢的语言和字体。",
    "这本书介绍了系统的安装、配置和日常管理。",
    "当文件被保存以后，程序会显示一条确认的消息。",
    "网络连接中断的时候，请先检查电缆是否插好。",
)
ENGLISH = (
    "The furnace has to keep an even heat until the work is done.",
    "First put the material into the oven, and then close the door.",
    "If it is too hot, open the vent so that the air can move again.",
    "Every step has its reason, and none of them should be left out.",
    "These notes are of use to beginners and to people with experience.",
    "We look at it once in the morning and once more in the evening.",
    "They write down what they found, to compare the methods later on.",
    "Different materials take different times, which is only natural.",
    "In the settings you can choose the language that you like to read.",
    "This book describes how a system is installed and looked after.",
    "When the file has been saved, the program will show a message.",
    "If the network is down, please see that the cable is plugged in.",
)
TITLES = {"zh": "炼金手册", "en": "The handbook of the furnace"}


def made_page(language: str, number: int) -> bytes:
    rng = random.Random(number)
    sentences = {"zh": CHINESE, "en": ENGLISH}[language]
    joint = "" if language == "zh" else " "
    chosen = rng.sample(sentences, 9)
    paragraphs = [joint.join(chosen[start : start + 3]) for start in (0, 3, 6)]
    inside = "".join(f"<p>{paragraph}</p>" for paragraph in paragraphs)
    robots = '<meta name="robots" content="noai">' if number == 3 else ""
    page = (
        f'<html lang="{language}"><head><title>{TITLES[language]} {number}</title>{robots}</head><body><nav><a href=/>'
        f"Home</a> <a href=/b>Next</a></nav><article><h1>{TITLES[language]}</h1>{inside}</article></body></html>"
    )
    return page.encode("gb18030" if language == "zh" and number % 3 == 0 else "utf-8")


@pytest.fixture
def made(home: Home) -> Home:
    """A home beside folders of made pages in each language: forty, a copy of one, and one in the other language."""
    for language, other in (("en", "zh"), ("zh", "en")):
        folder = home.folder.parent / "made" / language
        folder.mkdir(parents=True)
        for number in range(40):
            (folder / f"{number:02}.html").write_bytes(made_page(language, number))
        (folder / "copy.html").write_bytes(made_page(language, 1))
        (folder / "other.html").write_bytes(made_page(other, 99))
    return home


def run(home: Home, name: str, *overrides: str, until: str) -> tuple[Planner, dict[str, StepOutcome]]:
    """Build a recipe that ships, up to this step, in the home's store."""
    recipe = load_recipe(name, [*overrides, "resources.workers=1"])
    planner = Planner(recipe, Options(until=until), home.open_store(recipe), home)
    return planner, make_all(planner)


def rows(planner: Planner, outcome: StepOutcome) -> dict[str, dict[str, Any]]:
    opened = planner.store.open(str(outcome.artifact))
    assert isinstance(opened, Documents)
    return {row["url"]: row for table in opened.tables() for row in table.to_pylist()}


def test_chinese_pages_become_tokens(made: Home) -> None:
    planner, outcomes = run(
        made,
        "web-zh",
        'pages.sources=[{kind: files, path: "made/zh"}]',
        *("tokenizer.vocab_size=512", "tokenizer.character_coverage=0.99"),
        until="shards",
    )
    assert list(outcomes) == ["pages", "documents", "kept", "scrubbed", "unique", "tokenizer", "shards"]
    kept = rows(planner, outcomes["unique"])
    assert len(kept) == 39  # without the English page, the one that asks not to be used, and one of two copies
    assert {"other.html", "03.html"}.isdisjoint(kept)
    for row in kept.values():
        assert row["language"] == "zh"
        assert row["title"].startswith("炼金手册")
        assert row["text"].count("。") == 9
        assert "Home" not in row["text"]
        assert " " not in row["text"]


def test_both_languages_share_a_tokenizer(made: Home) -> None:
    settings = (
        'english_pages.sources=[{kind: files, name: en, path: "made/en"}]',
        'chinese_pages.sources=[{kind: files, name: zh, path: "made/zh"}]',
        *("tokenizer.vocab_size=700", "tokenizer.character_coverage=0.99"),
    )
    outcomes: dict[str, StepOutcome] = {}
    for step in ("english_shards", "chinese_shards"):
        planner, made_now = run(made, "web-en-zh", *settings, until=step)
        outcomes |= made_now
    assert len(outcomes) == 13
    tokenizer = planner.store.open(str(outcomes["tokenizer"].artifact))
    assert isinstance(tokenizer, Tokenizer)
    for sentences, tokens_per_character in ((CHINESE, 1.5), (ENGLISH, 0.6)):  # in bytes alone: 3 and 1
        text = "".join(sentences)
        assert len(tokenizer.encode(text)) < tokens_per_character * len(text)
    for language, step in (("en", "english"), ("zh", "chinese")):
        kept = rows(planner, outcomes[step])
        assert len(kept) == 39
        assert {row["language"] for row in kept.values()} == {language}


@pytest.mark.slow
def test_a_tiny_model_learns_from_chinese_pages(made: Home) -> None:
    planner, outcomes = run(
        made,
        "web-zh",
        'pages.sources=[{kind: files, path: "made/zh"}]',
        *("tokenizer.vocab_size=512", "tokenizer.character_coverage=0.99", "shards.validation_fraction=0.2"),
        *("base.model={layers: 1, width: 32, heads: 2, context: 64}", "base.tokens=20_480", "base.batch_tokens=1_024"),
        *("base.optimizer.warmup_tokens=1_024", "beginnings.validation_fraction=0.2", "resources.steps={}"),
        until="report",
    )
    report = planner.store.open(str(outcomes["report"].artifact))
    figures = json.loads((report.folder / "report.json").read_text())
    assert figures["base"]["validation"]["perplexity"] < 512
    assert figures["tuned"]["examples"]["perplexity"] < figures["base"]["examples"]["perplexity"]


@pytest.mark.slow
def test_an_encoder_learns_and_is_continued(made: Home) -> None:
    from transformers import AutoModelForMaskedLM, AutoTokenizer

    planner, outcomes = run(
        made,
        "encoder",
        'pages.sources=[{kind: files, path: "made/en"}]',
        *("tokenizer.vocab_size=400", "tokenizer.character_coverage=0.99", "shards.validation_fraction=0.2"),
        "base.model={layers: 1, width: 32, heads: 2, context: 64, attention: bidirectional}",
        *("base.tokens=40_960", "base.batch_tokens=1_024", "base.optimizer.warmup_tokens=4_096"),
        *("base.optimizer.learning_rate=1e-2", "more.tokens=10_240", "more.batch_tokens=1_024", "resources.steps={}"),
        until="more",
    )
    begun, continued = (outcomes[step].metrics["validation_loss"] for step in ("base", "more"))
    assert begun < math.log(400) - 0.5
    assert continued < begun + 0.1
    folder = planner.store.open(str(outcomes["more"].artifact)).folder
    model, tokenizer = AutoModelForMaskedLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    assert tokenizer.mask_token == "<mask>"
    assert model.config.mask_token_id == tokenizer.mask_token_id
