"""Small trainings through the front door: made longer, looked into, stopped early, watched while they go on."""

from __future__ import annotations

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flows.build import Builder
from flows.cli import main
from flows.home import Home
from flows.recipe import Step
from flows.report import Terminal
from model.config import ModelConfig
from storage.corpus import read_table
from storage.shards import Shards
from storage.store import Store
from tasks.task import Progress
from tests.flows.conftest import Silent, make_all, planner_of
from tests.made import made_model, made_network, made_tokenizer

RECIPE = """\
name: toy
steps:
  pages: {task: collect, sources: [{kind: files, path: "texts/*.txt"}]}
  documents: {task: clean_html, pages: pages}
  tokenizer: {task: train_tokenizer, documents: documents, vocab_size: 315}
  shards: {task: shard, documents: documents, tokenizer: tokenizer, validation_fraction: 0.2}
  base:
    task: pretrain
    data: shards
    model: {layers: 1, width: 32, heads: 2, context: 32}
    tokens: 640
    batch_tokens: 64
    optimizer: {name: muon, learning_rate: 1e-2, warmup_tokens: 128, schedule: constant}
resources: {workers: 1, steps: {base: {device: cpu}}}
"""


@pytest.fixture
def texts(home: Home) -> Home:
    """A home with some pages beside it."""
    for number in range(12):
        words = " ".join(f"word{number * step % 17} 炉火{step % number if number else step}" for step in range(60))
        (home.folder.parent / "texts" / f"{number}.txt").write_text(f"Page {number}\n{words}\n")
    return home


def test_another_weight_in_a_mixture_makes_no_data_again(texts: Home) -> None:
    mixture = "    data: [{shards: shards, weight: 0.9}, {shards: others, weight: 0.1}]\n"
    others = "  others: {task: shard, documents: documents, tokenizer: tokenizer, validation_fraction: 0.3}\n"
    text = RECIPE.replace("  base:\n", f"{others}  base:\n").replace("    data: shards\n", mixture)
    make_all(planner_of(texts, text, "base.tokens=192"))
    planned = planner_of(texts, text.replace("0.9", "0.5"), "base.tokens=192").plan()
    assert {name: decision.action for name, decision in planned.items()} == {
        "pages": "reuse",
        "documents": "reuse",
        "tokenizer": "reuse",
        "shards": "reuse",
        "others": "reuse",
        "base": "build",
    }
    assert planned["base"].why == "data[0].weight 0.9 → 0.5"


@pytest.mark.slow
def test_more_tokens_later_are_more_tokens_from_the_beginning(texts: Home, capsys: pytest.CaptureFixture[str]) -> None:
    """With a decay at the end, on data of its own; the rebuilt model has trained from the start."""
    longer = ["base.tokens=1_280", "base.optimizer.schedule=stable_decay", "base.stages=[{data: shards, share: 0.3}]"]
    make_all(planner_of(texts, RECIPE))
    planner = planner_of(texts, RECIPE, *longer)
    assert "; continues from step 10 of toy/base.state@1 (640 tokens)" in planner.plan()["base"].why
    make_all(planner)
    rebuilt: Any = make_all(planner_of(texts, RECIPE, *longer, rebuild=frozenset(["base"])))["base"]
    assert rebuilt.verdict == "same bytes as before"
    every_document_is_found_by_the_steps_that_it_was_in(planner.store, capsys)


class Enough(Exception):
    """The test has seen what it wanted."""


class Watched(Terminal):
    """Ends the training when it is told to."""

    def __init__(self, steps: list[str]) -> None:
        super().__init__(steps)
        self.enough = threading.Event()

    def progress(self, step: Step) -> Progress:
        tell = super().progress(step)

        def progress(done: int, total: int | None, unit: str, note: str = "", begun: int = 0) -> None:
            tell(done, total, unit, note, begun)
            if self.enough.is_set():
                raise Enough

        return progress


@pytest.mark.slow
def test_a_model_is_generated_from_and_evaluated_while_its_training_goes_on(
    texts: Home, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    planner = planner_of(texts, RECIPE, "base.tokens=12_800_000", "base.publish_every=64_000")
    base = planner.steps.pop("base")
    outcomes = make_all(planner)
    watcher = Watched(["base"])
    with ThreadPoolExecutor(1) as thread:
        made = {need: str(outcomes[need].artifact) for need in base.needs}
        training = thread.submit(Builder(planner, Silent(), watcher).make, base, made)
        try:
            while not planner.store.history("toy", "base.partial") and not training.done():
                time.sleep(0.1)
            command = ["generate", "toy/base.partial", "--prompt", "Page", "--max-tokens", "4", "--temperature", "0"]
            assert len(printed(command, capsys)) > 1
            folder = tmp_path / "moment"
            printed(["export", "toy/base.partial", str(folder)], capsys)
            report = f"  report: {{task: evaluate, models: [{{path: {folder}}}], data: shards}}\nresources:"
            recipe = RECIPE.replace("resources:", report).replace("{base:", "{report: {device: cpu}, base:")
            measured = make_all(planner_of(texts, recipe, until="report"))["report"].metrics
            assert 0 < measured["moment.validation.loss"] < 10
            assert not training.done()
        finally:
            watcher.enough.set()
        with pytest.raises(Enough):
            training.result()


TUNED = """\
name: tuned
steps:
  questions:
    task: examples
    sources: [{kind: jsonl, path: pairs.jsonl, prompt: q, response: a}]
    validation_fraction: 0.15
  tuned:
    task: finetune
    model: {path: other}
    examples: questions
    rank: 4
    epochs: 100
    batch_tokens: 512
    evaluate_every: 1_000
    early_stopping: {patience: 2}
    keep: best
    objective: {label_smoothing: 0.05}
    optimizer: {learning_rate: 2e-2, warmup_tokens: 512, schedule: stable_decay, decay_share: 0.2, average_tokens: 512}
  report: {task: evaluate, models: [{path: other}, tuned], examples: questions, sample_prompts: 0}
resources:
  device: cpu
  steps: {tuned: {processes: 2, tensor_processes: 2, micro_batch_sequences: 2}}
"""


@pytest.mark.slow
def test_adapters_are_tuned_with_all_that_a_pretraining_can_be_told(
    home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    """By two processes that share every matrix. The answers are drawn at random, so what is learnt soon is by heart.

    What ``evaluate`` finds is the loss by which the weights were chosen: the best ones, averaged, are in the adapter.
    (All that is held out fits into two batches, so that training measures it whole.)
    """
    folder = home.folder.parent
    tokenizer = made_tokenizer(folder / "tokenizer")
    shape = ModelConfig(layers=1, width=32, heads=4, context=64)
    made_model(folder / "other", made_network(shape, tokenizer.vocab_size), tokenizer)
    letters = np.random.default_rng(0).choice(list("abcdefgh"), (60, 16))
    rows = [json.dumps({"q": "".join(row[:8]), "a": "".join(row[8:])}) for row in letters]
    (folder / "pairs.jsonl").write_text("\n".join(rows))
    outcomes = make_all(planner_of(home, TUNED))
    tuned, report = outcomes["tuned"].metrics, outcomes["report"].metrics
    assert tuned["best_step"] < tuned["steps"] < tuned["planned_steps"]
    assert tuned["best_step"] % 2 == tuned["steps"] % 2 == 0  # evaluated after every second step
    assert report["tuned.examples.loss"] == pytest.approx(tuned["best_validation_loss"], abs=1e-4)
    assert report["tuned.examples.loss"] < report["other.examples.loss"] - 0.1
    last = int(tuned["steps"])
    assert f"step {last}: " in printed(["show", "tuned/tuned", "--step", str(last)], capsys)
    printed(["show", "tuned/tuned", "--step", str(last + 1)], capsys, status=2)
    elsewhere = TUNED.replace("{processes: 2, tensor_processes: 2, micro_batch_sequences: 2}", "{zero_stage: 3}")
    assert planner_of(home, elsewhere).plan()["tuned"].action == "reuse"
    assert planner_of(home, TUNED, "tuned.keep=last").plan()["tuned"].why == "keep best → last"


def every_document_is_found_by_the_steps_that_it_was_in(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    """A pass over all documents meets each of the training split's, and none of the validation split's."""
    digest = store.resolve("toy/base@1")
    shards = store.open(store.resolve("toy/shards"))
    assert isinstance(shards, Shards)
    pages = {
        row["id"]: row
        for row in read_table(store.open(store.resolve("toy/documents")).path("00000.parquet")).to_pylist()
    }
    seen: set[str] = set()
    for step in range(1, 11):
        found = printed(["show", digest, "--step", str(step), "--json"], capsys)
        shown = json.loads(found)
        assert shown["tokens"] == [64 * (step - 1), 64 * step]
        assert not shown["code_changed"]
        for row in shown["documents"]:
            assert row == {name: pages[row["id"]][name] for name in ("id", "url", "source")}
            seen.add(row["id"])
    train = shards.split("train")
    assert seen <= set(train.ids_of(np.arange(train.documents)))
    assert len(seen) > 2
    text = printed(["show", digest, "--step", "10"], capsys)
    assert text.splitlines()[0].startswith("step 10: ")
    assert all(row["url"] in text for row in shown["documents"])
    printed(["show", digest, "--step", "11"], capsys, status=2)
    printed(["show", "toy/tokenizer", "--step", "1"], capsys, status=2)


def printed(arguments: list[str], capsys: pytest.CaptureFixture[str], status: int = 0) -> str:
    """What a command prints on standard output."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == status
    return capsys.readouterr().out
