"""What a filter chooses by beside the rules' faults: origin, language, tags, lists of words; and what it records."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from storage.corpus import DOCUMENTS_SCHEMA, Documents, document_id, table_of, write_table
from storage.errors import SourceError
from tasks.context import PlainWorld
from tasks.filter import Filter
from tasks.text.languages import identify
from tests.helpers import SHARED, Outcome, run_task
from tests.tasks.corpora import rows_of
from tests.tasks.test_filter import CHINESE, ENGLISH

GERMAN = "Der alte Ofen steht in der Ecke der Werkstatt und wird jeden Morgen von jemandem mit Kohle gefüllt."


def filtered(tmp_path: Path, rows: dict[str, dict[str, Any]], name: str = "step", **fields: Any) -> Outcome:
    made = [
        {"id": document_id("test", url), "text": ENGLISH, "url": url, "source": "test", "first_seen": 1, **row}
        for url, row in rows.items()
    ]
    folder = tmp_path / f"{name}-in"
    write_table(table_of(made, DOCUMENTS_SCHEMA), folder / "00000.parquet")
    return again(tmp_path, Documents.of_folder(folder), name, **fields)


def again(tmp_path: Path, documents: Documents, name: str, **fields: Any) -> Outcome:
    task = Filter.model_validate({"documents": "d", **fields})
    return run_task(task, {"documents": documents}, tmp_path, name=name, workers=1)


def kept(outcome: Outcome) -> dict[str, dict[str, Any]]:
    assert isinstance(outcome.artifact, Documents)
    return rows_of(outcome.artifact)


def dropped(outcome: Outcome) -> dict[str, float]:
    return {name.removeprefix("dropped."): n for name, n in outcome.result.metrics.items() if "dropped." in name}


def test_sources(tmp_path: Path) -> None:
    rows = {name: {"source": name} for name in ("docs", "docs-old", "forum")}
    outcome = filtered(tmp_path, rows, sources={"keep": ["Docs*"], "drop": ["*-old"]})
    assert set(kept(outcome)) == {"docs"}
    assert dropped(outcome) == {"source": 2}
    assert any("found: forum" in sample.place for sample in outcome.result.samples)


@pytest.mark.parametrize(("unknown", "expected"), [("drop", {"a", "b"}), ("keep", {"a", "b", "none"})])
def test_licenses(tmp_path: Path, unknown: str, expected: set[str]) -> None:
    rows = {
        "a": {"license": "CC-BY-4.0"},
        "b": {"license": "cc0-1.0"},
        "nc": {"license": "CC-BY-NC-4.0"},
        "none": {"license": None},
    }
    licenses = {"keep": ["CC-BY*", "CC0*"], "drop": ["*-NC*"], "unknown": unknown}
    outcome = filtered(tmp_path, rows, licenses=licenses)
    assert set(kept(outcome)) == expected
    assert dropped(outcome) == {"license": 4 - len(expected)}
    assert any("found: CC-BY-NC-4.0" in sample.place for sample in outcome.result.samples)


def test_pages_that_ask_not_to_be_used_are_dropped_unless_told_otherwise(tmp_path: Path) -> None:
    rows = {"yes": {"ai_opt_out": ["noai", "tdm-reservation"]}, "empty": {"ai_opt_out": []}, "no": {}}
    outcome = filtered(tmp_path, rows)
    assert set(kept(outcome)) == {"empty", "no"}
    assert dropped(outcome) == {"ai_opt_out": 1}
    assert set(kept(filtered(tmp_path, rows, name="tag", action="tag"))) == {"empty", "no"}
    assert set(kept(filtered(tmp_path, rows, name="all", respect_ai_opt_out=False))) == {"yes", "empty", "no"}


def test_a_document_has_the_first_reason_of_all_that_tagging_finds(tmp_path: Path) -> None:
    notice = "Read our privacy policy to learn more about it."
    rows = {
        "good": {},
        "changed": {"text": f"{ENGLISH}\n{notice}\nHome"},
        "short": {"text": "Home { about us"},
        "twice": {"text": "\n".join([ENGLISH.replace("\n", " ")] * 3)},
        "changed and listed": {"text": f"{ENGLISH}\n{notice}\nThe alchemist said so, it was known to all."},
        "numbers": {"text": "0 1 2 3 4 5 6 7 8 9 " * 10},
    }
    (tmp_path / "list.txt").write_text("learn\nsaid so\n", encoding="utf-8")
    rules = ["characters", "gopher", "c4", {"words": "list.txt"}, "fineweb"]
    both = [filtered(tmp_path, rows, action, rules=rules, action=action) for action in ("drop", "tag")]
    tags = {url: row["tags"] or [] for url, row in kept(both[1]).items()}
    assert kept(both[0])["changed"]["text"] == ENGLISH  # the list is held to what c4 leaves
    assert {url for url, found in tags.items() if not found} == set(kept(both[0])) == {"good", "changed"}
    assert tags["changed and listed"] == ["words"]
    firsts = [found[0] for found in tags.values() if found]
    assert dropped(both[0]) == {reason: firsts.count(reason) for reason in firsts}
    alone = [dropped(filtered(tmp_path, {"good": {}, url: row}, url, rules=rules)) for url, row in rows.items()]
    assert [next(iter(found), None) for found in alone] == [next(iter(found), None) for found in tags.values()]


def test_tagging_keeps_documents_with_all_their_reasons(tmp_path: Path) -> None:
    short = "The furnace is { kept alive. Home"
    rows = {"good": {}, "short": {"text": short, "tags": ["seen"]}, "de": {"text": GERMAN * 2}}
    outcome = filtered(tmp_path, rows, languages=["en"], rules=["length", "gopher", "c4"], action="tag")
    found = kept(outcome)
    assert found["good"]["tags"] is None
    assert {"seen", "length", "gopher.length", "c4.lines", "c4.sentences"} <= set(found["short"]["tags"])
    assert found["short"]["text"] == short  # as it is, for a person to judge
    assert "language" in found["de"]["tags"]
    assert found["de"]["language"] == "de"
    metrics = outcome.result.metrics
    assert metrics["documents_out"] == metrics["documents_in"] == 3
    assert metrics["tagged.gopher.length"] == 2
    assert not dropped(outcome)
    titles = {sample.title for sample in outcome.result.samples}
    assert {"tagged: language", "tagged: length", "tagged: c4.lines"} <= titles

    assert isinstance(outcome.artifact, Documents)
    later = again(tmp_path, outcome.artifact, "later", drop_tags=["GOPHER.*"], rules=[])
    assert set(kept(later)) == {"good"}
    assert dropped(later) == {"tag.gopher.length": 2}


def test_the_confidence_is_recorded_and_can_be_asked_for(tmp_path: Path) -> None:
    rows = {"en": {}, "zh": {"text": CHINESE}, "de": {"text": GERMAN}}
    outcome = filtered(tmp_path, rows, rules=[])
    found = kept(outcome)
    assert {url: row["language"] for url, row in found.items()} == {"en": "en", "zh": "zh", "de": "de"}
    assert all(0.8 < row["language_confidence"] <= 1 for row in found.values())
    outcome = filtered(tmp_path, rows, "some", rules=[], languages=["en", "zh"])
    assert set(kept(outcome)) == {"en", "zh"}
    assert any("found: de, " in sample.place for sample in outcome.result.samples)


@pytest.mark.parametrize("separator", ["\n", "\n\n"])
def test_paragraphs_in_other_languages_are_left_out(tmp_path: Path, separator: str) -> None:
    text = separator.join([ENGLISH.replace("\n", " "), GERMAN, "Kurz.", CHINESE.replace("\n", "")])
    rows = {"mixed": {"text": text}}
    fields = {"rules": [], "languages": ["en"], "language_of": "paragraphs", "language_confidence": 0.3}
    outcome = filtered(tmp_path, rows, **fields)
    assert kept(outcome)["mixed"]["text"] == separator.join([ENGLISH.replace("\n", " "), "Kurz."])
    assert any(sample.title == "lines left out" for sample in outcome.result.samples)
    tagged = filtered(tmp_path, rows, "tag", action="tag", **fields)
    assert kept(tagged)["mixed"]["tags"] == ["language.paragraphs"]
    assert kept(tagged)["mixed"]["text"] == text


def test_the_language_recorded_is_that_of_the_paragraphs_kept(tmp_path: Path) -> None:
    text = "\n\n".join([GERMAN, ENGLISH])
    fields = {"rules": [], "languages": ["en"], "language_confidence": 0.3}
    rows = {"mixed": {"text": text}}
    whole = kept(filtered(tmp_path, rows, "whole", **fields))["mixed"]
    cut = kept(filtered(tmp_path, rows, "cut", language_of="paragraphs", **fields))["mixed"]
    assert cut["text"] == ENGLISH
    assert cut["language_confidence"] == pytest.approx(identify(ENGLISH).confidence)
    assert cut["language_confidence"] > whole["language_confidence"] == pytest.approx(identify(text).confidence)


# Lists of words


@pytest.fixture
def lists(tmp_path: Path) -> Path:
    folder = tmp_path / "lists"
    folder.mkdir()
    (folder / "en.txt").write_text("Furnace\nyellow metal\n\n", encoding="utf-8")
    (folder / "zh.txt").write_text("炉子\n性\n", encoding="utf-8")
    (folder / "README.txt").write_text("not a language", encoding="utf-8")
    return folder


def test_words_of_a_list_by_language(tmp_path: Path, lists: Path) -> None:
    rows = {
        "one": {},
        "part of a word": {"text": ENGLISH.replace("furnace", "furnaces").replace("yellow metal", "gold")},
        "two words": {"text": ENGLISH.replace("furnace", "oven").replace("yellow metal", "YELLOW metal")},
        "zh": {"text": CHINESE},
        "zh allowed": {"text": CHINESE.replace("炉子", "性")},
        "de": {"text": GERMAN + " Furnace."},
    }
    rule = {"words": "lists/{language}.txt", "allow": ["性"]}
    outcome = filtered(tmp_path, rows, rules=[rule])
    assert set(kept(outcome)) == {"part of a word", "zh allowed", "de"}
    assert dropped(outcome) == {"words": 3}
    places = " ".join(sample.place for sample in outcome.result.samples)
    assert "furnace, yellow metal" in places or "found: yellow metal" in places
    some = {"words": {"path": "lists/{language}.txt", "max_share": 0.03, "allow": ["性"]}}
    assert set(kept(filtered(tmp_path, rows, "share", rules=[some]))) == set(rows)


def test_one_list_for_all_languages(tmp_path: Path, lists: Path) -> None:
    rows = {"en": {}, "de": {"text": GERMAN}}
    assert set(kept(filtered(tmp_path, rows, rules=[{"words": "lists/en.txt"}]))) == {"de"}


def test_the_entries_of_a_list_are_part_of_the_key_and_its_place_is_not(tmp_path: Path, lists: Path) -> None:
    def fingerprint(path: str) -> tuple[Any, Any]:
        task = Filter.model_validate({"documents": "d", "rules": ["length", {"words": path}]})
        return task.settings(), task.outside(PlainWorld(tmp_path))

    before = fingerprint("lists/en.txt")
    (tmp_path / "moved.txt").write_text("yellow metal\nfurnace\n", encoding="utf-8")
    assert fingerprint("moved.txt") == before
    (lists / "en.txt").write_text("furnace\n", encoding="utf-8")
    assert fingerprint("lists/en.txt") != before
    assert Filter.model_validate({"documents": "d"}).outside(PlainWorld(tmp_path)) is None


@pytest.mark.parametrize(
    ("path", "message"),
    [("nowhere/{language}.txt", "no list at"), ("package:no_such_package/en.txt", "no package 'no_such_package'")],
)
def test_a_list_that_is_not_there(tmp_path: Path, path: str, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        filtered(tmp_path, {"en": {}}, rules=[{"words": path}])


def test_lists_of_offensive_words_in_28_languages(tmp_path: Path) -> None:
    folder = SHARED / "wordlists" / "LDNOOBW"
    if not folder.exists():
        pytest.skip(f"{folder} is not there")
    english = (folder / "en").read_text(encoding="utf-8").split("\n")[0].strip()
    chinese = (folder / "zh").read_text(encoding="utf-8").split("\n")[0].strip()
    rows = {
        "en": {},
        "zh": {"text": CHINESE},
        "bad en": {"text": f"{ENGLISH} This is {english}."},
        "bad zh": {"text": f"{CHINESE}这是{chinese}。"},
    }
    outcome = filtered(tmp_path, rows, rules=[{"words": f"{folder}/{{language}}", "allow": ["性"]}])
    assert set(kept(outcome)) == {"en", "zh"}
