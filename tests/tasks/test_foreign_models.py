"""Models of other families through the front door: continued, tuned, measured."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, GPT2Config

from model.formats import huggingface
from model.formats.foreign import Foreign
from storage.artifact import Adapter, Model, include
from storage.tokenizer import Tokenizer
from tasks.evaluate import Evaluate
from tasks.finetune import Finetune
from tasks.pretrain import Pretrain
from tasks.task import Resources
from tests.helpers import run_task
from tests.made import made_examples, made_shards, made_tokenizer, successor_pairs

TEXTS = ["The furnace keeps an even heat for weeks. ", "炼金炉数周保持恒温。", "def heat(weeks): ...\n"]


def made_foreign(folder: Path, tokenizer: Tokenizer) -> Model:
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=tokenizer.vocab_size, n_positions=48, n_embd=32, n_layer=2, n_head=4)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    include(folder, ".", tokenizer)
    return Model.of_folder(folder)


@pytest.mark.slow
def test_a_gpt2_is_continued_tuned_and_measured(tmp_path: Path) -> None:
    tokenizer = made_tokenizer(tmp_path / "tokenizer")
    start = made_foreign(tmp_path / "start", tokenizer)
    texts = [TEXTS[index % 3] * (1 + index % 5) for index in range(24)]
    shards = made_shards(tmp_path / "shards", tokenizer, {"train": texts, "validation": TEXTS[:2]})
    continued = Pretrain(
        data="shards", start="gpt2", tokens=96 * 20, batch_tokens=96, context=32, optimizer={"learning_rate": 3e-3}
    )
    # Two processes whose documents differ in number, with all weights cut over both.
    resources = Resources(processes=2, zero_stage=3, micro_batch_sequences=1, device="cpu")
    base = run_task(continued, {"data": shards, "start": start}, tmp_path, name="base", resources=resources).artifact
    assert isinstance(huggingface.load(base.folder), Foreign)
    pairs = successor_pairs(60)
    examples = made_examples(tmp_path / "examples", {"train": pairs[:50], "validation": pairs[50:]})
    tuning = Finetune(model="base", examples="examples", epochs=6, batch_tokens=96, optimizer={"learning_rate": 1e-2})
    alone = Resources(processes=1, zero_stage=0, device="cpu")
    tuned = run_task(tuning, {"model": base, "examples": examples}, tmp_path, name="tuned", resources=alone).artifact
    assert isinstance(tuned, Adapter)
    measuring = Evaluate(models=["start", "base", "tuned"], data="shards", examples="examples", sample_prompts=1)
    inputs = {"models[0]": start, "models[1]": base, "models[2]": tuned, "data": shards, "examples": examples}
    figures = run_task(measuring, inputs, tmp_path, name="report", resources=alone).result.metrics
    assert figures["base.validation.loss"] < figures["start.validation.loss"] - 0.5
    assert figures["tuned.examples.loss"] < figures["base.examples.loss"] - 0.1
