"""Evaluation through the task, against ``transformers`` and the report's definition."""

from __future__ import annotations

import json
import math

import pytest
import torch
from pydantic import ValidationError

from model.config import ModelConfig
from model.formats import adapters
from model.network import lora
from storage.artifact import Adapter, include
from storage.errors import SourceError, StepFailed, UserError
from tasks.evaluate import Evaluate
from tests.helpers import run_task
from tests.made import made_examples, made_model, made_network, made_shards, made_tokenizer

SHAPE = ModelConfig(layers=2, width=32, heads=4, kv_heads=2, context=48)
DOCUMENTS = {
    "train": ["the cat sat on the mat. ", "春眠不覺曉，處處聞啼鳥。" * 2, "def f(x):\n\treturn  x\n" * 3] * 4,
    "validation": ["the cat sat", "夜來風雨聲，花落知多少。" * 4, "x", "def g(y):\n\treturn  y\n"],
}
PAIRS = {
    "train": [("Q: a\nA: ", "b"), ("Q: b\nA: ", "c")],
    "validation": [("Q: c\nA: ", "四月是最殘忍的月份"), ("Q: d\nA: ", "")],
}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Artifacts by name."""
    folder = tmp_path_factory.mktemp("made")
    tokenizer = made_tokenizer(folder / "tokenizer")
    network = made_network(SHAPE, tokenizer.vocab_size)
    adapted = made_network(SHAPE, tokenizer.vocab_size)
    lora.inject(adapted, rank=2, alpha=4.0, targets=["q_proj"], seed=1)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter += 0.3
    base = made_model(folder / "base", network, tokenizer)
    adapters.save(folder / "tuned", adapters.adapter_state(adapted.state_dict()), 2, 4.0, ["q_proj"])
    include(folder / "tuned", ".", tokenizer)
    include(folder / "tuned", "base", base)
    return {
        "tokenizer": tokenizer,
        "base": base,
        "tuned": Adapter.of_folder(folder / "tuned"),
        "shards": made_shards(folder / "shards", tokenizer, DOCUMENTS),
        "examples": made_examples(folder / "examples", PAIRS),
    }


@pytest.fixture(scope="module")
def outcome(made, tmp_path_factory):
    """One evaluation of everything."""
    task = Evaluate(models=["base", "tuned"], data="shards", examples="examples")
    slots = ("models[0]", "models[1]", "data", "examples")
    given = (made["base"], made["tuned"], made["shards"], made["examples"])
    return run_task(task, dict(zip(slots, given, strict=True)), tmp_path_factory.mktemp("evaluate"))


def report_of(outcome):
    return json.loads(outcome.artifact.path("report.json").read_text())


def losses_of_transformers(folder, sequences):
    """Sum of nats, each sequence of (tokens, first predicted) in a loop of its own."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    total = 0.0
    for tokens, first in sequences:
        for start in range(0, len(tokens) - 1, SHAPE.context):
            piece = torch.tensor([tokens[start : start + SHAPE.context + 1]])
            with torch.no_grad():
                log_p = model(piece[:, :-1]).logits[0].double().log_softmax(-1)
            total -= sum(log_p[t, piece[0, t + 1]].item() for t in range(piece.shape[1] - 1) if start + t + 1 >= first)
    return total


def test_report_holds_every_model_and_baseline_on_every_split(outcome):
    report = report_of(outcome)
    assert list(report) == ["base", "tuned", "unigram", "trigram"]
    for found in report.values():
        assert list(found) == ["validation", "examples"]
        for figures in found.values():
            assert list(figures) == ["loss", "perplexity", "bits_per_byte", "tokens"]
            assert figures["perplexity"] == pytest.approx(math.exp(figures["loss"]), rel=1e-5)
    assert len({found["validation"]["tokens"] for found in report.values()}) == 1


def test_figures_are_those_that_transformers_measures(made, outcome):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(made["base"].folder)

    def ids(text):
        return tokenizer(text, add_special_tokens=False)["input_ids"]

    documents = [([1, *ids(text), 2], 1) for text in DOCUMENTS["validation"]]
    answers = [([1, *ids(p), *ids(r), 2], 1 + len(ids(p))) for p, r in PAIRS["validation"]]
    texts = {
        "validation": (documents, sum(len(text.encode()) for text in DOCUMENTS["validation"])),
        "examples": (answers, sum(len(r.encode()) for _, r in PAIRS["validation"])),
    }
    for split, (sequences, utf8_bytes) in texts.items():
        found = report_of(outcome)["base"][split]
        nats = losses_of_transformers(made["base"].folder, sequences)
        tokens = sum(len(sequence) - first for sequence, first in sequences)
        assert found["tokens"] == tokens
        assert found["loss"] == pytest.approx(nats / tokens, rel=1e-5)
        assert found["bits_per_byte"] == pytest.approx(nats / math.log(2) / utf8_bytes, rel=1e-5)


def test_an_adapter_is_measured_as_peft_applies_it(made, outcome, tmp_path):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(made["base"].folder, dtype=torch.float32)
    PeftModel.from_pretrained(base, made["tuned"].folder).merge_and_unload().save_pretrained(tmp_path)
    encode = made["tokenizer"].encode
    documents = [([1, *map(int, encode(text)), 2], 1) for text in DOCUMENTS["validation"]]
    figures = report_of(outcome)["tuned"]["validation"]
    nats = losses_of_transformers(tmp_path, documents)
    assert figures["loss"] == pytest.approx(nats / figures["tokens"], rel=1e-5)
    assert figures["loss"] != pytest.approx(report_of(outcome)["base"]["validation"]["loss"], rel=1e-4)


def test_baselines_learn_from_the_training_split(outcome):
    report = report_of(outcome)
    assert report["trigram"]["validation"]["loss"] < report["unigram"]["validation"]["loss"]
    assert report["unigram"]["validation"]["loss"] < report["base"]["validation"]["loss"]


def test_what_the_run_says_of_itself(outcome):
    report, result = report_of(outcome), outcome.result
    assert result.metrics["tuned.examples.perplexity"] == report["tuned"]["examples"]["perplexity"]
    expected = "base perplexity {:.1f}, tuned answers {:.1f} (base {:.1f})".format(
        report["base"]["validation"]["perplexity"],
        report["tuned"]["examples"]["perplexity"],
        report["base"]["examples"]["perplexity"],
    )
    assert result.headline == expected
    assert [sample.before for sample in result.samples] == [p + r for p, r in PAIRS["validation"]]
    assert all(s.after.startswith(p) for s, (p, _) in zip(result.samples, PAIRS["validation"], strict=True))
    table = outcome.artifact.path("report.md").read_text()
    assert all(f"| {name} |" in table for name in report)


def test_the_same_evaluation_is_the_same_bytes_and_knows_its_models_names(made, outcome, tmp_path):
    task = Evaluate(models=["base", "tuned"], data="shards", examples="examples")
    slots = ("models[0]", "models[1]", "data", "examples")
    given = (made["base"], made["tuned"], made["shards"], made["examples"])
    again = run_task(task, dict(zip(slots, given, strict=True)), tmp_path)
    assert again.artifact.digest == outcome.artifact.digest
    renamed = Evaluate(models=["base", "other"], data="shards", examples="examples")
    assert renamed.settings() != task.settings()


def test_documents_alone_and_examples_alone(made, tmp_path):
    documents = run_task(
        Evaluate(models=["base"], data="s"), {"models[0]": made["base"], "data": made["shards"]}, tmp_path
    )
    assert all(list(found) == ["validation"] for found in report_of(documents).values())
    assert documents.result.samples[0].before == DOCUMENTS["validation"][0]
    slots = {"models[0]": made["base"], "examples": made["examples"]}
    answers = run_task(Evaluate(models=["base"], examples="e", sample_prompts=0), slots, tmp_path, name="answers")
    assert all(list(found) == ["examples"] for found in report_of(answers).values())
    assert answers.result.samples == []


def test_a_model_with_another_tokenizer_reads_the_same_texts(made, tmp_path):
    other = made_tokenizer(tmp_path / "tokenizer", extra=["unused"])
    model = made_model(tmp_path / "model", made_network(SHAPE, other.vocab_size), other)
    found = run_task(Evaluate(models=["m"], data="s"), {"models[0]": model, "data": made["shards"]}, tmp_path)
    assert report_of(found)["m"]["validation"]["tokens"] == report_of(found)["unigram"]["validation"]["tokens"]
    assert math.isfinite(report_of(found)["m"]["validation"]["bits_per_byte"])


def test_empty_validation_splits_are_refused(made, tmp_path):
    shards = made_shards(tmp_path / "shards", made["tokenizer"], {"train": ["a"], "validation": []})
    with pytest.raises(SourceError, match="validation split of the shards is empty: raise validation_fraction"):
        run_task(Evaluate(models=["base"], data="s"), {"models[0]": made["base"], "data": shards}, tmp_path)
    examples = made_examples(tmp_path / "examples", {"train": [("a", "b")], "validation": []})
    with pytest.raises(SourceError, match="examples: the validation split is empty"):
        run_task(Evaluate(models=["base"], examples="e"), {"models[0]": made["base"], "examples": examples}, tmp_path)


def test_a_model_that_cannot_be_measured_is_refused(made, tmp_path):
    small = made_model(tmp_path / "small", made_network(SHAPE, 100), made["tokenizer"])
    with pytest.raises(UserError, match="m: its tokenizer has 260 pieces, its network only 100"):
        run_task(Evaluate(models=["m"], data="s"), {"models[0]": small, "data": made["shards"]}, tmp_path)
    network = made_network(SHAPE, 260)
    gaps = made_model(tmp_path / "gaps", network, made["tokenizer"])
    config = json.loads((gaps.folder / "config.json").read_text())
    (gaps.folder / "config.json").write_text(json.dumps({**config, "fills_gaps": True}))
    with pytest.raises(UserError, match="m fills gaps and has not learnt to predict a whole text"):
        run_task(Evaluate(models=["m"], data="s"), {"models[0]": gaps, "data": made["shards"]}, tmp_path)
    with torch.no_grad():
        network.model.norm.weight[0] = math.nan
    broken = made_model(tmp_path / "broken", network, made["tokenizer"])
    with pytest.raises(StepFailed, match="m on validation: the loss is nan"):
        run_task(Evaluate(models=["m"], data="s"), {"models[0]": broken, "data": made["shards"]}, tmp_path)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"models": ["base"]}, "nothing to measure on"),
        ({"models": [], "data": "s"}, "at least 1 item"),
        ({"models": ["base", "base"], "data": "s"}, "'base' is taken twice"),
        ({"models": ["trigram"], "data": "s"}, "'trigram' is taken"),
        ({"models": ["base"], "data": "s", "metrics": ["bleu"]}, "perplexity"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(ValidationError, match=message):
        Evaluate(**settings)
