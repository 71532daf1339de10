"""Rules, sets of rules with their published thresholds, languages, and the step itself."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from storage.corpus import Documents
from storage.errors import StepFailed
from tasks.filter import Filter, judge_of
from tasks.rules import RULES
from tasks.rules.batch import Batch
from tasks.rules.verdicts import Verdict
from tasks.text.languages import identify
from tests.helpers import SHARED, Outcome, run_task
from tests.tasks.corpora import make_documents, rows_of

ENGLISH = """The old furnace stood in the corner of the workshop, and every morning somebody had to feed it with coal.
It was known that a good fire could be kept alive for weeks if one had the patience to watch over it.
Nobody in the village remembered when it was built, but many believed that it had belonged to an alchemist.
Children were told to stay away from its iron doors, which glowed red on winter evenings.
When spring came, the master opened the vault and took out a small piece of yellow metal.
He looked at it for a long time, then wrapped it in linen and never spoke of it again."""

CHINESE = """作坊的角落里有一座古老的炉子，每天早晨都有人给它添煤。
据说只要有耐心守着，好的炉火可以连续燃烧好几个星期。
村里没有人记得它是什么时候建造的，但是很多人相信它曾经属于一位炼金术士。
孩子们被告知不要靠近它的铁门，因为铁门在冬天的夜晚会发出红光。
春天到来的时候，师傅打开了炉膛，取出了一小块黄色的金属。
他看了很久，然后用亚麻布把它包好，从此再也没有提起过这件事。"""


ALONE = [name for name, rule in RULES.items() if all(not field.is_required() for field in rule.model_fields.values())]
"""The rules that need no settings."""


def verdict(text: str, *rules: Any, **fields: Any) -> Verdict:
    task = Filter.model_validate({"documents": "d", "rules": rules, **fields})
    judge = judge_of(pickle.dumps((task, [None for _ in task.named_rules])))
    return judge([{"text": text}])[0]


def reason(text: str, *rules: Any) -> str | None:
    return next(iter(verdict(text, *rules).reasons), None)


def words(count: int) -> str:
    """That many different words, two of them stop words, in sentences of ten."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    digits = [[n // 26**place % 26 for place in range(4)] for n in range(count - 2)]
    made = ["the", "of", *("".join(letters[digit] for digit in word) + "en" for word in digits)]
    return "\n".join(" ".join(made[n : n + 10]) for n in range(0, count, 10))


@pytest.mark.parametrize("rules", [["length", "characters"], ["gopher"], ["c4"], ["fineweb"], ALONE])
@pytest.mark.parametrize("text", [ENGLISH, CHINESE])
def test_good_prose_passes_every_set(text: str, rules: list[str]) -> None:
    assert reason(text, *rules) is None


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (ENGLISH, "en"),
        (CHINESE, "zh"),
        ("床前明月光，疑是地上霜。举头望明月，低头思故乡。", "zh"),
        ("吾輩は猫である。名前はまだ無い。どこで生れたかとんと見当がつかぬ。", "ja"),
        ("Der Ofen steht in der Ecke der Werkstatt und wird jeden Morgen geheizt.", "de"),
        ("12345 == 67890 {}", "und"),
        ("", "und"),
    ],
)
def test_languages(text: str, code: str) -> None:
    assert identify(text).code == code


CODE = """class Furnace(builtins.object)
 |  Furnace(fuel, *, temperature=900, vault=None, **kwargs)
 |  __init__(self, fuel, *, temperature: int = 900, vault: Optional[Vault] = None) -> None
 |  __reduce_ex__(self, protocol, /)
for stepIndex in range(len(self._fuel)): buffer[stepIndex] = self._burn(fuel_at(stepIndex), **options)
FUEL_COAL = 1; FUEL_WOOD = 2; FUEL_PEAT = 4; MAX_TEMPERATURE = 1_250; DEFAULT_VAULT = '/var/lib/furnace'
"""


@pytest.mark.parametrize(("text", "code"), [(ENGLISH, "en"), (CHINESE, "zh")])
@pytest.mark.parametrize("times", [1, 40])
def test_program_code_between_sentences_leaves_no_doubt_about_the_language(text: str, code: str, times: int) -> None:
    mixed = "".join(f"{CODE * 3}{line}\n" for line in text.split("\n") * times)
    found = identify(mixed)
    assert found.code == code
    assert found.confidence > 0.6


def test_names_alone_are_read_as_the_words_in_them() -> None:
    names = "openWindow close_window readNextLine writeLine isEmpty flush_buffer waitForInput show_message nextEvent"
    assert identify(names).code == "en"


def test_words_of_scripts_without_spaces_are_estimated() -> None:
    letters = sum("\u4e00" <= character <= "\u9fff" for character in CHINESE)
    batch = Batch([ENGLISH, CHINESE, "我们用 PyTorch 训练模型"])
    assert batch.word_counts.tolist() == [len(ENGLISH.split()), round(letters / 1.6), round(1 + 7 / 1.6)]
    assert batch.spaced_words.tolist() == [len(ENGLISH.split()), 0, 1]
    assert batch.is_unspaced.tolist() == [False, True, True]


def bullets(marked: int, lines: int) -> str:
    text = words(10 * lines).split("\n")
    return "\n".join(("- " if n < marked else "") + line for n, line in enumerate(text))


def replaced_words(count: int, of: int, by: str) -> str:
    lines = [line.split() for line in words(of).split("\n")]
    flat = [word for line in lines for word in line]
    flat = flat[: of - count] + [by.format(n) for n in range(count)]
    return "\n".join(" ".join(flat[n : n + 10]) for n in range(0, of, 10))


def duplicated_lines(duplicates: int, lines: int) -> str:
    text = words(10 * lines).split("\n")
    return "\n".join(text[: lines - duplicates] + [text[0]] * duplicates)


# set, reason, a document just within the published threshold, and one just beyond
THRESHOLDS = [
    ("gopher", "length", words(50), words(49)),
    ("gopher", "length", words(100_000), words(100_001)),
    ("gopher", "word_length", words(60), replaced_words(59, 60, "elevenchars")),
    ("gopher", "symbols", words(90) + " # # # # # # # # # #", words(90) + " # # # # # # # # # # #"),
    ("gopher", "bullets", bullets(18, 20), bullets(19, 20)),
    ("gopher", "ellipses", words(100).replace("\n", "...\n", 3), words(100).replace("\n", "...\n", 4)),
    ("gopher", "alphabetic", replaced_words(20, 100, "{:03}"), replaced_words(21, 100, "{:03}")),
    ("gopher", "stop_words", words(60), words(60).replace("of ", "off ", 1)),
    ("gopher", "repeated_lines", duplicated_lines(3, 20), duplicated_lines(5, 20)),
    ("gopher", "repeated_words", words(200), words(200) + (" zzzz yyyy" * 60)),
    ("c4", "sentences", "One two three. " * 5, "One two three. " * 4),
    ("c4", "curly_brackets", ENGLISH, ENGLISH + "\nHere is one lonely bracket { in a sentence."),
    ("c4", "placeholders", ENGLISH, ENGLISH + "\nLorem ipsum dolor sit amet is found here."),
    ("c4", "lines", ENGLISH, "Home\nAbout us\nContact"),
    ("fineweb", "punctuation", (words(140) + ".").replace("\n", ".\n", 1), (words(250) + ".").replace("\n", ".\n", 1)),
    ("fineweb", "short_lines", "\n".join([f"Short line {n}." for n in range(67)]
     + [f"This is line {n} and it is longer than that." for n in range(33)]),
     "\n".join([f"Short line {n}." for n in range(68)]
     + [f"This is line {n} and it is longer than that." for n in range(32)])),
    ("fineweb", "lists", "one two three\n" * 9 + "four five six", "one two three\n" * 10),
    ("fineweb", "duplicate_lines", duplicated_lines(1, 12), duplicated_lines(2, 12)),
]  # fmt: skip


@pytest.mark.parametrize(("name", "rule", "within", "beyond"), THRESHOLDS)
def test_published_thresholds(name: str, rule: str, within: str, beyond: str) -> None:
    found = [verdict(text, name, action="tag").reasons for text in (within, beyond)]
    assert [f"{name}.{rule}" in reasons for reasons in found] == [False, True]


def test_chinese_is_judged_by_its_own_measures() -> None:
    assert reason(CHINESE[:40], "gopher") == "gopher.length"
    assert reason("作坊的角落里有一座古老的炉子，每天早晨都有人给它添煤。" * 12, "gopher") == "gopher.repeated_words"
    assert reason("\n".join(CHINESE.split("\n") * 2), "repeated_lines") == "repeated_lines"
    menu = "\n".join(["首页", "关于我们", "联系方式", "产品中心", "新闻动态", "加入我们"] * 5)
    assert reason(menu, "short_lines") == "short_lines"
    assert reason(menu, "c4") == "c4.lines"
    assert reason(CHINESE.replace("的", "").replace("是", "").replace("了", ""), "stop_words") is None


@settings(deadline=None)
@given(st.text(st.sampled_from("ab 。\n中文あไ-{#.…1\ufffd"), max_size=80))
def test_every_rule_has_an_answer_for_any_text(text: str) -> None:
    for name in ALONE:
        answer = reason(text, name)
        assert answer is None or answer == name or answer.startswith(f"{name}.")


def test_rules_for_documentation() -> None:
    assert reason("def f(x): return x\n" * 10, "length", "characters") is None
    assert reason("0 1 2 3 4 5 6 7 8 9 " * 10, "characters") == "characters"
    assert reason("word " * 19, "length") == "length"
    assert reason("\ufffd" + ENGLISH[:150], "characters") == "characters"
    assert reason("aGVsbG8" * 100 + " " + ENGLISH[:200], "characters") == "characters"
    assert reason("हिन्दी में लिखा गया पाठ " * 10, "characters") is None


def test_settings_of_rules_and_of_sets() -> None:
    assert reason(words(40), "gopher") == "gopher.length"
    assert reason(words(40), {"gopher": {"min_words": 30}}) is None
    assert reason(words(40), {"length": {"min_words": 41}}) == "length"
    one = Filter.model_validate({"documents": "d", "rules": ["gopher"]})
    same = Filter.model_validate({"documents": "d", "rules": [{"gopher": {"min_words": 50}}]})
    assert one.settings() == same.settings()
    assert Filter.model_validate(one.model_dump()) == one


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        (["goper"], "there is no rule 'goper'; did you mean 'gopher'"),
        ([{"gopher": {"min_word": 1}}], "min_word"),
        ([{"gopher": {}, "c4": {}}], "expected one rule"),
        ([7], "expected one rule"),
    ],
)
def test_mistakes_in_a_recipe(rules: list[Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Filter.model_validate({"documents": "d", "rules": rules})


def filtered(
    tmp_path: Path, *partitions: dict[str, str], workers: int = 1, name: str = "step", **fields: Any
) -> Outcome:
    documents = make_documents(tmp_path / f"{name}-in", partitions)
    task = Filter.model_validate({"documents": "d", **fields})
    return run_task(task, {"documents": documents}, tmp_path, name=name, workers=workers)


def test_as_a_step(tmp_path: Path) -> None:
    first = {
        "en": ENGLISH,
        "zh": CHINESE,
        "short": "This is an English text that is too short.",
        "de": "Der Ofen steht in der Ecke. " * 5,
    }
    second = {
        "numbers": "0123456789 " * 30,
        "short zh": "这是一篇太短的中文。",
        "en2": ENGLISH + "\n" + ENGLISH.upper(),
    }
    outcome = filtered(tmp_path, first, second, languages=["en", "zh"], rules=["length", "characters"])
    assert isinstance(outcome.artifact, Documents)
    rows = rows_of(outcome.artifact)
    assert {url: row["language"] for url, row in rows.items()} == {"en": "en", "zh": "zh", "en2": "en"}
    assert rows["zh"]["text"] == CHINESE
    assert rows["zh"]["first_seen"] == 2
    metrics = outcome.result.metrics
    assert metrics["dropped.length"] == 2
    assert metrics["dropped.language"] == 2
    dropped = sum(count for name, count in metrics.items() if name.startswith("dropped."))
    assert metrics["documents_out"] + dropped == metrics["documents_in"] == 7
    titles = [sample.title for sample in outcome.result.samples]
    assert {"dropped: length", "dropped: language"} <= set(titles)
    again = filtered(
        tmp_path, first, second, languages=["en", "zh"], rules=["length", "characters"], workers=2, name="b"
    )
    assert again.artifact.digest == outcome.artifact.digest


def test_lines_that_are_no_sentences_are_left_out(tmp_path: Path) -> None:
    page = (
        f"Home\nAbout us\n{ENGLISH}[12]\nPlease enable Javascript to see more of this page.\nRead our privacy policy."
    )
    outcome = filtered(tmp_path, {"en": page, "zh": f"首页\n{CHINESE}\n更多"}, rules=["c4"])
    assert isinstance(outcome.artifact, Documents)
    rows = rows_of(outcome.artifact)
    assert rows["en"]["text"] == ENGLISH
    assert rows["zh"]["text"] == CHINESE
    assert any(sample.title == "lines left out" for sample in outcome.result.samples)


def test_nothing_left_is_a_failure_that_says_why(tmp_path: Path) -> None:
    with pytest.raises(StepFailed, match=r"filter: none of 3 documents left; dropped for language \(2\), length \(1\)"):
        filtered(tmp_path, {"a": CHINESE, "b": CHINESE, "c": "A short text in English."}, languages=["en"])


def test_languages_of_the_declaration_of_human_rights() -> None:
    archive = SHARED / "langid" / "udhr2.zip"
    if not archive.exists():
        pytest.skip(f"{archive} is not there")
    import zipfile

    with zipfile.ZipFile(archive) as files:
        for stem, code in {
            "eng": "en",
            "deu": "de",
            "fra": "fr",
            "jpn": "ja",
            "cmn_hans": "zh",
            "cmn_hant": "zh",
        }.items():
            assert identify(files.read(f"udhr2/{stem}.txt").decode()).code == code
