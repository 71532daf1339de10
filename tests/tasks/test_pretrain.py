from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from transformers import (
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
)

from model.config import ModelConfig
from model.data.batches import Text
from model.inference.generate import generate
from model.inference.scoring import predicted_tokens, summed_loss
from storage.artifact import Model, Network
from storage.errors import SourceError, UserError
from storage.shards import Shards
from storage.tokenizer import Tokenizer
from tasks.pretrain import Pretrain
from tasks.task import Resources
from tests.helpers import run_task
from tests.made import made_model, made_network, made_shards, made_tokenizer

TEXTS = [
    "The furnace keeps an even heat for weeks. ",
    "炼金炉数周保持恒温。",
    "def heat(weeks: int) -> None:\n    ...\n",
]
ENCODER = {"layers": 1, "width": 32, "heads": 4, "context": 32, "attention": "bidirectional"}
PAIRS = {"name": "masked", "next_sentence": True}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return made_tokenizer(tmp_path_factory.mktemp("tokenizer"))


def shards_of(folder: Path, tokenizer: Tokenizer, documents: int = 24) -> Shards:
    texts = [TEXTS[index % 3] * (1 + index % 5) for index in range(documents)]
    return made_shards(folder, tokenizer, {"train": texts, "validation": TEXTS[:2]})


def settings(**changes: Any) -> dict[str, Any]:
    return {
        "data": "shards",
        "model": {"layers": 2, "width": 32, "heads": 4, "kv_heads": 2, "context": 32},
        "tokens": 96 * 20,
        "batch_tokens": 96,
        "optimizer": {"name": "adamw", "learning_rate": 1e-2, "warmup_tokens": 192},
        **changes,
    }


def loss_in_transformers(model: Any, shards: Shards) -> tuple[float, int]:
    """Nats of what is held out, and how many tokens are predicted."""
    nats, predicted = 0.0, 0
    split = shards.split("validation")
    for number in range(split.documents):
        tokens = torch.from_numpy(split.document(number).astype(np.int64))
        for start in range(0, len(tokens) - 1, 32):
            piece = tokens[start : start + 33]
            logits = model(piece[None, :-1]).logits[0]
            nats += float(torch.nn.functional.cross_entropy(logits, piece[1:], reduction="sum").detach())
            predicted += len(piece) - 1
    return nats, predicted


def test_the_model_opens_in_transformers_and_predicts_what_was_trained(tmp_path: Path, tokenizer: Tokenizer) -> None:
    shards = shards_of(tmp_path / "shards", tokenizer)
    mixture = [{"shards": "web", "weight": 0.75}, {"shards": "code", "weight": 0.25}]
    task = Pretrain(**settings(data=mixture, stages=[{"data": "code", "share": 0.25}]))
    code = made_shards(tmp_path / "code", tokenizer, {"train": TEXTS * 4, "validation": TEXTS[2:]})
    inputs = {"data[0].shards": shards, "data[1].shards": code, "stages[0].data": code}
    resources = Resources(processes=2, zero_stage=3, micro_batch_sequences=1, device="cpu")
    outcome = run_task(task, inputs, tmp_path, resources=resources)

    assert isinstance(outcome.artifact, Model)
    model = AutoModelForCausalLM.from_pretrained(outcome.artifact.folder)
    assert sum(weight.numel() for weight in model.parameters()) == outcome.result.metrics["parameters"]
    opened = AutoTokenizer.from_pretrained(outcome.artifact.folder)
    assert opened.encode(TEXTS[0], add_special_tokens=False) == tokenizer.encode(TEXTS[0]).tolist()
    rows = [json.loads(line) for line in (tmp_path / "step" / "scratch" / "metrics.jsonl").read_text().splitlines()]
    nats, predicted = 0.0, 0
    for name, source in (("web", shards), ("code", code)):
        its_nats, its_predicted = loss_in_transformers(model, source)
        assert rows[-1][f"validation_loss/{name}"] == pytest.approx(its_nats / its_predicted, rel=1e-4)
        nats, predicted = nats + its_nats, predicted + its_predicted
    assert nats / predicted == pytest.approx(outcome.result.metrics["validation_loss"], rel=1e-4)
    assert nats / predicted < math.log(tokenizer.vocab_size) - 1
    assert outcome.result.headline == f"validation loss {nats / predicted:.3f}"
    assert outcome.result.metrics["epochs/code"] > outcome.result.metrics["epochs/web"] > 0


def test_an_encoder_learns_from_pairs_and_opens_in_transformers(tmp_path: Path) -> None:
    tokenizer = made_tokenizer(tmp_path / "tokenizer", special=["<mask>"])
    shards = shards_of(tmp_path / "shards", tokenizer)
    given = settings(model=ENCODER, objective=PAIRS, tokens=96 * 40)
    task = Pretrain(**given, record_every=900)
    assert task.settings() == Pretrain(**given).settings()
    outcome = run_task(task, {"data": shards}, tmp_path, resources=Resources(processes=1, device="cpu"))
    assert isinstance(outcome.artifact, Network)
    metrics = outcome.result.metrics
    assert 0 < metrics["validation_loss"] < math.log(tokenizer.vocab_size) - 0.5
    rows = [json.loads(line) for line in (tmp_path / "step" / "scratch" / "metrics.jsonl").read_text().splitlines()]
    steps = [row for row in rows if "loss" in row]
    assert [row["step"] for row in steps] == [10, 20, 30, 40]
    assert {"loss", "next_sentence"} <= steps[0].keys()
    assert {"validation_loss", "validation_next_sentence"} <= rows[-1].keys()
    model, loading = AutoModelForMaskedLM.from_pretrained(outcome.artifact.folder, output_loading_info=True)
    assert not loading["missing_keys"]
    assert model.config.mask_token_id == tokenizer.mask_id
    pairs = AutoModelForSequenceClassification.from_pretrained(outcome.artifact.folder)
    assert pairs.config.num_labels == 2
    assert pairs.classifier.weight.abs().sum() > 0


GAPS = [f"<extra_id_{number}>" for number in range(8)]
VERSE = "The furnace keeps an even heat. "


@pytest.mark.slow
def test_a_model_that_fills_gaps_opens_in_transformers_and_fills_them(tmp_path: Path) -> None:
    """One text many times over: what is missing in it can be known."""
    tokenizer = made_tokenizer(tmp_path / "tokenizer", special=GAPS)
    shards = made_shards(tmp_path / "shards", tokenizer, {"train": [VERSE] * 40, "validation": [VERSE]})
    changes = {
        "model": {"layers": 2, "width": 32, "heads": 2, "context": 48},
        "objective": {"name": "spans", "fraction": 0.1},  # 3 letters in a gap
        "optimizer": {"name": "muon", "learning_rate": 1e-2},
    }
    task = Pretrain(**settings(**changes, tokens=960 * 150, batch_tokens=960))
    resources = Resources(processes=1, device="cpu", micro_batch_sequences=20)
    outcome = run_task(task, {"data": shards}, tmp_path, resources=resources)
    rows = [json.loads(line) for line in (tmp_path / "step" / "scratch" / "metrics.jsonl").read_text().splitlines()]
    assert rows[0]["loss"] > math.log(200)
    assert outcome.result.metrics["validation_loss"] < 0.3
    assert isinstance(outcome.artifact, Model)
    AutoModelForCausalLM.from_pretrained(outcome.artifact.folder)
    likeliest = {"max_tokens": 30, "temperature": 0.0}
    gapped = VERSE.replace("nac", "<extra_id_0>")
    assert "".join(generate(outcome.artifact.folder, gapped, **likeliest)) == VERSE
    with pytest.raises(UserError, match="the model fills gaps and continues no text: write <extra_id_0> where"):
        "".join(generate(outcome.artifact.folder, "The furnace", **likeliest))
    with pytest.raises(UserError, match=r"must be <extra_id_0>, <extra_id_1> … in this order, each once; .* knows 8"):
        "".join(generate(outcome.artifact.folder, "The <extra_id_1>", **likeliest))


@pytest.mark.slow
def test_experts_are_used_evenly_and_open_in_transformers(tmp_path: Path, tokenizer: Tokenizer) -> None:
    shape = {"layers": 2, "width": 32, "heads": 4, "context": 32, "experts": 4, "feed_forward": 32}
    shards = shards_of(tmp_path / "shards", tokenizer)
    task = Pretrain(**settings(model={**shape, "experts_balance": 0.1}, tokens=96 * 60))
    outcome = run_task(task, {"data": shards}, tmp_path, resources=Resources(processes=1, device="cpu"))
    metrics = outcome.result.metrics
    assert metrics["validation_loss"] < math.log(tokenizer.vocab_size) - 1
    rows = [json.loads(line) for line in (tmp_path / "step" / "scratch" / "metrics.jsonl").read_text().splitlines()]
    assert 1 <= rows[-1]["validation_expert_balance"] < 1.15 < rows[0]["expert_balance"]
    theirs = AutoModelForCausalLM.from_pretrained(outcome.artifact.folder)
    assert sum(weight.numel() for weight in theirs.parameters()) == metrics["parameters"]


CONTINUED = {"model": None, "start": "base", "context": 32, "tokens": 96 * 4, "optimizer": {"learning_rate": 1e-12}}


@pytest.mark.slow
def test_training_continues_from_a_model_with_the_learning_rate_rising_again(
    tmp_path: Path, tokenizer: Tokenizer
) -> None:
    """With a rate so low that nothing changes, the losses are those of the model it began with."""
    shape = ModelConfig(layers=1, width=32, heads=4, context=64)
    start = made_model(tmp_path / "start", made_network(shape, tokenizer.vocab_size), tokenizer)
    shards = shards_of(tmp_path / "shards", tokenizer)
    mixture = [{"shards": "new", "weight": 0.75}, {"shards": "old", "weight": 0.25}]
    optimizer = {"learning_rate": 1e-12, "warmup_tokens": 96 * 2}
    task = Pretrain(**settings(**{**CONTINUED, "data": mixture, "optimizer": optimizer}))
    old = shards_of(tmp_path / "old", tokenizer, documents=12)
    outcome = run_task(task, {"data[0].shards": shards, "data[1].shards": old, "start": start}, tmp_path)
    rows = [json.loads(line) for line in (tmp_path / "step" / "scratch" / "metrics.jsonl").read_text().splitlines()]
    rates = [row["learning_rate"] / 1e-12 for row in rows if "loss" in row]
    assert rates[:2] == pytest.approx([0.25, 0.75])  # half-way through the first step and the second
    assert 1 > rates[2] > rates[3]
    assert outcome.result.metrics["epochs/new"] > 0
    assert outcome.result.metrics["epochs/old"] > 0
    texts = [Text(shards.split("validation").document(number)) for number in range(2)]
    alone = made_network(shape.model_copy(update={"context": 32}), tokenizer.vocab_size)
    wanted = summed_loss(alone, texts) / predicted_tokens(texts)
    assert outcome.result.metrics["validation_loss"] == pytest.approx(wanted, rel=1e-5)
    assert AutoModelForCausalLM.from_pretrained(outcome.artifact.folder).config.max_position_embeddings == 64
    assert Pretrain(**settings(**{**CONTINUED, "tokens": 96 * 400})).optimizer.warmup_tokens == 96 * 4


def test_a_model_of_another_tokenizer_or_shape_is_not_continued(tmp_path: Path, tokenizer: Tokenizer) -> None:
    shape = ModelConfig(layers=1, width=32, heads=4, context=64)
    start = made_model(tmp_path / "start", made_network(shape, tokenizer.vocab_size), tokenizer)
    shards = shards_of(tmp_path / "shards", tokenizer)
    other = shards_of(tmp_path / "others", made_tokenizer(tmp_path / "other", extra=["more"]))
    encoder = made_network(ModelConfig(**ENCODER), tokenizer.vocab_size)
    for changes, inputs, message in (
        ({}, {"data": other}, "base and shards have different tokenizers: id 260 is none in the model's, 'more' in"),
        ({"context": 96}, {}, "context 96 is more than the model's 64"),
        ({"context": 64}, {}, "batch_tokens 96 is not a multiple of the context 64"),
        (
            {},
            {"start": made_model(tmp_path / "encoder", encoder, tokenizer)},
            "start: base: objective next_token needs",
        ),
    ):
        with pytest.raises(UserError, match=message):
            run_task(
                Pretrain(**settings(**{**CONTINUED, **changes})), {"data": shards, "start": start, **inputs}, tmp_path
            )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_tokens": 100}, "batch_tokens 100 is not a multiple of the model's context 32"),
        ({"data": []}, "a mixture needs at least one part"),
        ({"stages": [{"data": [], "share": 0.1}]}, "a mixture needs at least one part"),
        ({"stages": [{"data": "a", "share": 0.6}, {"data": "b", "share": 0.4}]}, "leaves nothing for data"),
        ({"optimizer": {"warmup_tokens": 5000}}, "warmup_tokens 5000 is more than tokens 1920"),
        (
            {"optimizer": {"warmup_tokens": 1600, "schedule": "stable_decay"}},
            "1600 reaches into the decay, which begins",
        ),
        ({"optimizer": {"name": "adam"}}, "'adamw', 'muon', 'lion' or 'lamb'"),
        ({"optimizer": {"betas": [0.9, 1.0]}}, "must lie in"),
        ({"model": {"layers": 1, "width": 30, "heads": 4, "context": 32}}, "width 30 is not a multiple of heads 4"),
        ({"model": {"layers": 1, "width": 32, "heads": 4, "context": 32, "dept": 2}}, "dept"),
        ({"model": {"depth": 0}}, "greater than or equal to 1"),
        ({"precision": "fp4"}, "'fp16' or 'fp8'"),
        ({"model": None}, "give either model"),
        ({"start": "base"}, "give either model"),
        ({"context": 16}, "context: it goes with start"),
        (
            {"model": {**settings()["model"], "experts": 2, "experts_chosen": 3}},
            "experts_chosen 3 is more than experts",
        ),
        ({"model": {**settings()["model"], "experts_chosen": 3}}, "experts_chosen is for experts"),
        ({"objective": "masked"}, "objective masked needs attention: bidirectional; the model's is causal"),
        ({"model": ENCODER}, "objective next_token needs attention: causal"),
        ({"model": ENCODER, "objective": PAIRS, "shuffle_tokens": 10**6}, "next_sentence draws segments from all"),
        ({"model": ENCODER, "objective": "spans"}, "objective spans needs attention: causal"),
        ({"model": {**ENCODER, "context": 12}, "objective": PAIRS}, "two segments do not fit a context of 12"),
    ],
)
def test_settings_that_cannot_work_are_refused_at_once(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Pretrain(**settings(**changes))


def test_a_depth_alone_is_a_whole_training_and_every_part_of_it_can_be_given() -> None:
    given = settings(model={"depth": 3}, optimizer={"name": "muon"})
    given = {name: value for name, value in given.items() if name not in ("tokens", "batch_tokens")}
    task = Pretrain(**given)
    shape = task.model
    assert (shape.layers, shape.width, shape.heads, shape.context, shape.depth) == (3, 192, 3, 768, None)
    assert (shape.qk_norm, shape.zero_outputs) == (True, True)
    assert task.tokens == 20 * shape.hidden_parameters
    assert task.batch_tokens % shape.context == 0
    assert 1e-3 < task.optimizer.learning_rate < 0.05
    assert 0 < task.optimizer.warmup_tokens < task.tokens / 10
    # Written out, or given in part, it is the same or what was given.
    assert Pretrain(**{**task.settings(), "data": task.data}).settings() == task.settings()
    other = Pretrain(**{**given, "tokens": 2 * task.tokens, "optimizer": {"learning_rate": 0.5, "warmup_tokens": 7}})
    assert (other.tokens, other.optimizer.learning_rate, other.optimizer.warmup_tokens) == (2 * task.tokens, 0.5, 7)
    assert other.batch_tokens > task.batch_tokens
    assert Pretrain.model_json_schema()["required"] == ["data"]


@pytest.mark.parametrize(
    ("part", "derived"),
    [  # layers, width, heads and context of depth 3, with one of them given and what follows from it
        ({"width": 256}, (3, 256, 4, 1024)),
        ({"heads": 6}, (3, 192, 6, 768)),
        ({"context": 128}, (3, 192, 3, 128)),
        ({"layers": 5}, (5, 192, 3, 768)),
    ],
)
def test_a_part_given_beside_a_depth_is_kept_and_the_rest_follows(
    part: dict[str, int], derived: tuple[int, int, int, int]
) -> None:
    shape = Pretrain(data="shards", model={"depth": 3, **part}).model
    assert (shape.layers, shape.width, shape.heads, shape.context) == derived


def test_a_batch_given_beside_a_depth_is_kept() -> None:
    plain = Pretrain(data="shards", model={"depth": 3})
    task = Pretrain(data="shards", model={"depth": 3}, batch_tokens=768 * 5)
    assert plain.batch_tokens != task.batch_tokens == 768 * 5
    assert (task.model, task.tokens) == (plain.model, plain.tokens)


def test_the_shape_and_the_optimizer_are_part_of_the_identity() -> None:
    plain = Pretrain(**settings()).settings()
    assert Pretrain(**settings(optimizer={"learning_rate": 2e-2})).settings() != plain
    assert Pretrain(**settings(model={**settings()["model"], "rope_theta": 500.0})).settings() != plain
    assert plain == Pretrain(**settings()).settings()


def test_an_objective_is_part_of_the_identity_however_it_is_written() -> None:
    encoder = settings(model=ENCODER, objective="masked")
    assert Pretrain(**encoder).settings() == Pretrain(**{**encoder, "objective": {"name": "masked"}}).settings()
    assert Pretrain(**encoder).settings() != Pretrain(**{**encoder, "objective": PAIRS}).settings()
    assert Pretrain(**encoder).kind() is Network
    assert Pretrain(**settings()).kind() is Model


def test_shards_of_different_tokenizers_do_not_mix(tmp_path: Path, tokenizer: Tokenizer) -> None:
    first = shards_of(tmp_path / "first", tokenizer)
    other = shards_of(tmp_path / "other", tokenizer)
    (tmp_path / "other" / "tokenizer" / "more.txt").write_text("another")
    other = Shards.of_folder(other.folder)
    task = Pretrain(**settings(data=[{"shards": "web", "weight": 1}, {"shards": "code", "weight": 1}]))
    with pytest.raises(UserError, match="web and code were made with different tokenizers"):
        run_task(task, {"data[0].shards": first, "data[1].shards": other}, tmp_path)


def test_the_rate_falls_in_the_last_stage_unless_something_else_is_said() -> None:
    stages = [{"data": "good", "share": 0.25}, {"data": "best", "share": 0.125}]
    given = settings(stages=stages, optimizer={"learning_rate": 1e-2, "schedule": "stable_decay"})
    task = Pretrain(**given)
    assert task._optimizer().stable_until(1000) == 875
    assert task.optimizer.decay_share is None  # a setting stays what it was
    given["optimizer"]["decay_share"] = 0.5
    assert Pretrain(**given)._optimizer().stable_until(1000) == 500
    assert set(task.inputs()) == {"data", "stages[0].data", "stages[1].data"}


def test_a_tokenizer_without_enough_sentinels_is_refused(tmp_path: Path, tokenizer: Tokenizer) -> None:
    shards = shards_of(tmp_path / "shards", tokenizer)
    with pytest.raises(
        UserError, match="the tokenizer of shards has no sentinels where a context of 32 needs 1: train"
    ):
        run_task(Pretrain(**settings(objective="spans")), {"data": shards}, tmp_path)


def test_nothing_to_train_on(tmp_path: Path, tokenizer: Tokenizer) -> None:
    shards = shards_of(tmp_path / "shards", tokenizer, documents=0)
    with pytest.raises(SourceError, match="the training split of shards is empty"):
        run_task(Pretrain(**settings()), {"data": shards}, tmp_path)
