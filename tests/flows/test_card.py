"""A model's card says what it was trained on and checked against, from the lineage alone."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
import yaml

from flows.card import card_text, data_facts, facts
from flows.home import Home
from flows.lineage import lineage
from tests.flows.conftest import make_all, planner_of
from tests.flows.test_cli import athanor, printed

RECIPE = """\
name: toy
steps:
  pages: {task: collect, sources: [{kind: files, path: "corpus/*.txt"}]}
  documents: {task: clean_html, pages: pages}
  unique: {task: dedup, documents: documents}
  exam: {task: examples, sources: [{kind: jsonl, path: exam.jsonl, prompt: q, response: a}]}
  clean: {task: decontaminate, documents: unique, against: [exam]}
  tokenizer: {task: train_tokenizer, documents: clean, vocab_size: 320}
  shards: {task: shard, documents: clean, tokenizer: tokenizer, validation_fraction: 0.2}
  others: {task: shard, documents: unique, tokenizer: tokenizer, validation_fraction: 0.2}
  base: {task: fits, data: [{shards: shards}, {shards: others}]}
  tuned: {task: fits, model: base, examples: exam, data: []}
resources: {workers: 1}
"""
QUESTION = "Which of the two metals was thought to be the mother of all others by alchemists?"


@pytest.fixture
def toy(home: Home) -> Home:
    folder = home.folder.parent
    (folder / "corpus").mkdir()
    rng = random.Random(1)
    for number in range(12):
        words = " ".join("".join(rng.choices("abcdefghijklmnop", k=6)) for _ in range(200))
        (folder / "corpus" / f"{number}.txt").write_text(f"{words} {QUESTION if number < 2 else ''}")
    pairs = [{"q": QUESTION, "a": "mercury"}, *({"q": f"short {n}", "a": "b"} for n in range(9))]
    (folder / "exam.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    (folder / "toy.yaml").write_text(RECIPE)
    return home


def test_a_card_names_sources_and_checks_of_every_part(toy: Home, capsys: pytest.CaptureFixture[str]) -> None:
    planner = planner_of(toy, RECIPE)
    outcomes = make_all(planner)
    known = facts(planner.store, str(outcomes["tuned"].artifact))
    assert known is not None
    parts = {part["step"]: part for part in known["data"]}
    assert list(parts) == ["shards", "others", "exam"]
    (check,) = parts["shards"]["checks"]
    assert (check["set"], check["overlapped"], check["documents"], check["ngram_words"]) == ("exam", 2, 12, 13)
    assert check["artifact"] == outcomes["exam"].artifact
    assert parts["shards"]["sources"] == [{"name": "files", "kind": "files"}]
    assert parts["others"]["checks"] == []
    assert (parts["exam"]["is_set"], parts["shards"]["is_set"]) == ("exam", None)
    assert facts(planner.store, str(outcomes["shards"].artifact)) is None

    card = card_text(known)
    header = yaml.safe_load(card.split("---\n")[1])
    assert header == {"library_name": "transformers", "pipeline_tag": "text-generation", "tags": ["athanor"]}
    digest = str(outcomes["exam"].artifact)[:12]
    assert f"| shards | exam (train, validation) | `{digest}` | 13 words in a row, of 1 items; " in card
    assert "2 of 12 documents, dropped" in card
    assert "- others: not checked against any evaluation set." in card
    assert "- exam: this is the evaluation set exam; its training split was learnt." in card

    assert athanor("export", "toy/tuned", "out") == 0
    assert "README.md" in capsys.readouterr().out
    assert (toy.folder.parent / "out" / "README.md").read_text() == card
    assert printed(capsys, "show", "toy/tuned", "--json")["data"] == known["data"]
    assert athanor("show", "toy/tuned") == 0
    assert f"shards checked against exam {digest}: 13 words in a row" in capsys.readouterr().out
    assert athanor("export", "toy/shards", "plain") == 0
    assert not (toy.folder.parent / "plain" / "README.md").exists()


def test_a_check_that_finds_nothing_is_a_check(toy: Home) -> None:
    """The documents are then the very artifact that was checked; the lineage still goes through every step."""
    again = (
        "  again: {task: decontaminate, documents: clean, against: [exam]}\n  shards: {task: shard, documents: again"
    )
    planner = planner_of(toy, RECIPE.replace("  shards: {task: shard, documents: clean", again), until="shards")
    outcomes = make_all(planner)
    assert outcomes["clean"].artifact == outcomes["again"].artifact
    node = lineage(planner.store, str(outcomes["shards"].artifact))
    steps, checks = [], data_facts(node)["checks"]
    while node["inputs"]:
        steps.append(node["build"]["step"])
        node = next(iter(node["inputs"].values()))
    assert steps == ["shards", "again", "clean", "unique", "documents"]
    assert [(check["step"], check["overlapped"]) for check in checks] == [("again", 0), ("clean", 2)]


def test_a_model_from_a_folder_was_trained_on_nobody_knows_what(toy: Home, tmp_path: Path) -> None:
    (tmp_path / "given").mkdir()
    (tmp_path / "given" / "config.json").write_text("{}")
    (tmp_path / "given" / "tokenizer.json").write_text("{}")
    recipe = RECIPE.replace("model: base", "model: {path: given}")
    planner = planner_of(toy, recipe)
    outcomes = make_all(planner)
    known = facts(planner.store, str(outcomes["tuned"].artifact))
    assert known is not None
    assert [part["kind"] for part in known["data"]] == ["model", "examples"]
    assert "not checked against any evaluation set" in card_text(known).split("folder ")[-1]
