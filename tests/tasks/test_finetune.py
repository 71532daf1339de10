"""Tuning through the task, in real training processes, then evaluated."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from model.config import ModelConfig
from model.data.batches import Text, TextRows, collate
from model.formats import huggingface
from model.learning.optimizer_config import OptimizerConfig
from storage.artifact import Adapter, Model
from storage.errors import SourceError, UserError
from tasks.evaluate import Evaluate
from tasks.finetune import Finetune
from tasks.task import Resources
from tests.helpers import run_task
from tests.made import LETTERS, made_examples, made_model, made_network, made_tokenizer, successor_pairs

SHAPE = ModelConfig(layers=2, width=32, heads=4, context=64)
EXAMPLES = {"train": successor_pairs(240), "validation": successor_pairs(24, seed=1)}
TWO = Resources(processes=2, zero_stage=1, micro_batch_sequences=2, device="cpu")
ONE = Resources(processes=1, zero_stage=0, device="cpu")
SETTINGS = {"batch_tokens": 512, "epochs": 6, "optimizer": OptimizerConfig(learning_rate=1e-2, weight_decay=0.0)}


def pretrained(tokenizer):
    """A network that knows of letters, but not what to answer."""
    rng = np.random.default_rng(0)
    texts = [["".join(rng.choice(list(LETTERS[:9]), 6)) + ">" + LETTERS[k : k + 6] for k in rng.integers(0, 3, 4)]]
    network = made_network(SHAPE, tokenizer.vocab_size).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-2)
    tokens = [Text(np.array([1, *tokenizer.encode(text), 2])) for text in texts[0] * 8]
    rows = TextRows(tokens, SHAPE.context)
    batch = collate(rows.read(np.arange(len(rows))), SHAPE.context)
    for _ in range(30):
        loss = network(batch.tokens_BT, batch.positions_BT, batch.documents_BT, batch.targets_BT) / batch.predicted
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network.eval()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("finetune")


@pytest.fixture(scope="module")
def base(folder):
    tokenizer = made_tokenizer(folder / "tokenizer")
    return made_model(folder / "base", pretrained(tokenizer), tokenizer)


@pytest.fixture(scope="module")
def examples(folder):
    return made_examples(folder / "examples", EXAMPLES)


@pytest.fixture(scope="module")
def adapter(base, examples, folder):
    """A LoRA run on two processes."""
    task = Finetune(model="base", examples="examples", **SETTINGS)
    return run_task(task, {"model": base, "examples": examples}, folder, name="lora", resources=TWO)


def logits(network):
    tokens = torch.randint(0, 200, (2, 40), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found = network(tokens)
    return found if isinstance(found, torch.Tensor) else found.logits


def answers_of(models, examples, tmp_path):
    """Perplexity on the held-out answers, by name."""
    task = Evaluate(models=list(models), examples="examples", sample_prompts=1)
    slots = {f"models[{n}]": model for n, model in enumerate(models.values())}
    outcome = run_task(task, {**slots, "examples": examples}, tmp_path, name="report")
    report = json.loads(outcome.artifact.path("report.json").read_text())
    return {name: report[name]["examples"]["perplexity"] for name in report}, outcome.result


def test_an_adapter_learns_the_answers(base, adapter, examples, tmp_path):
    perplexity, result = answers_of({"base": base, "tuned": adapter.artifact}, examples, tmp_path)
    assert perplexity["tuned"] < 0.5 * perplexity["base"]
    assert result.headline.startswith("tuned answers ")
    assert adapter.artifact.kind == "adapter"
    assert adapter.result.metrics["validation_loss"] == pytest.approx(np.log(perplexity["tuned"]), rel=1e-3)
    rows = [json.loads(line) for line in (adapter.artifact.folder.parent / "scratch/metrics.jsonl").open()]
    losses = [row["loss"] for row in rows if "loss" in row]
    assert losses[-1] < 0.7 * losses[0]


def test_peft_opens_the_adapter_on_its_base(base, adapter):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    found = adapter.artifact
    assert isinstance(found, Adapter)
    assert found.base.digest == base.digest
    theirs = AutoModelForCausalLM.from_pretrained(found.folder / "base", dtype=torch.float32)
    before = logits(theirs)
    tuned = logits(PeftModel.from_pretrained(theirs, found.folder).eval())
    assert (tuned - logits(huggingface.load(found.folder))).abs().max() < 1e-4
    assert (tuned - before).abs().max() > 1e-2
    text = "abc>四月\n"
    expected = list(huggingface.tokenizer_of(found).encode(text))
    assert AutoTokenizer.from_pretrained(found.folder)(text, add_special_tokens=False)["input_ids"] == expected


def test_a_stopped_run_goes_on_to_the_same_weights_and_merges_them(base, examples, adapter, tmp_path):
    from transformers import AutoModelForCausalLM

    shutil.copytree(adapter.artifact.folder.parent / "scratch", tmp_path / "step" / "scratch")
    checkpoints = sorted((tmp_path / "step" / "scratch" / "checkpoints").glob("step-*"))
    assert len(checkpoints) > 1, "there must be an earlier state to go on from"
    shutil.rmtree(checkpoints[-1])
    task = Finetune(model="base", examples="examples", merge=True, **SETTINGS)
    merged = run_task(task, {"model": base, "examples": examples}, tmp_path, resources=TWO)
    assert isinstance(merged.artifact, Model)
    assert not merged.artifact.names("adapter*")
    # Not only close: the same weights, bit for bit, as the base and the adapter of the run that was not stopped.
    ours = huggingface.load(merged.artifact.folder)
    expected = huggingface.load(adapter.artifact.folder).state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in ours.state_dict().items())
    theirs = AutoModelForCausalLM.from_pretrained(merged.artifact.folder, dtype=torch.float32)
    assert (logits(theirs) - logits(ours)).abs().max() < 1e-4


def test_full_tuning_trains_every_weight_and_goes_on_from_an_adapter(adapter, examples, base, tmp_path):
    task = Finetune(model="tuned", examples="examples", method="full", batch_tokens=512, epochs=2, record_every=1024)
    full = run_task(task, {"model": adapter.artifact, "examples": examples}, tmp_path, resources=ONE)
    assert full.artifact.kind == "model"
    rows = [json.loads(line) for line in (tmp_path / "step" / "scratch" / "metrics.jsonl").open()]
    steps = [row["step"] for row in rows if "loss" in row]
    assert steps[:3] == [2, 4, 6]
    start = dict(huggingface.load(adapter.artifact.folder).named_parameters())
    ended = dict(huggingface.load(full.artifact.folder).named_parameters())
    assert all(not torch.equal(start[name], ended[name]) for name in start)
    perplexity, _ = answers_of({"tuned": adapter.artifact, "full": full.artifact}, examples, tmp_path)
    assert perplexity["full"] < perplexity["tuned"]


def test_what_does_not_fit_is_refused_before_training(base, examples, tmp_path):
    def run(given, **settings):
        return run_task(Finetune(model="base", examples="e", **settings), {"model": base, "examples": given}, tmp_path)

    with pytest.raises(UserError, match="context 65 is more than the model's 64"):
        run(examples, context=65)
    with pytest.raises(UserError, match="batch_tokens 100 is not a multiple of the context 64"):
        run(examples, batch_tokens=100)
    with pytest.raises(SourceError, match="examples: the training split is empty"):
        run(made_examples(tmp_path / "empty", {"train": [], "validation": [("a", "b")]}))
    with pytest.raises(ValidationError, match="method full makes a whole model already"):
        Finetune(model="base", examples="e", method="full", merge=True)


def test_what_a_setting_makes():
    assert Finetune(model="m", examples="e").kind() is Adapter
    assert Finetune(model="m", examples="e", merge=True).kind() is Model
    assert Finetune(model="m", examples="e", method="full").kind() is Model
