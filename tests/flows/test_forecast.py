"""What ``athanor plan`` tells of training steps before they run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flows.cli import main
from flows.home import Home
from model.config import ModelConfig
from model.data.batches import Text, TextRows
from model.formats import families
from model.planning.estimate import GPUS
from tests.flows.conftest import make_all, planner_of
from tests.made import made_model, made_network, made_tokenizer, successor_pairs


def status(arguments: list[str]) -> object:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    return ended.value.code


def test_plan_tells_what_a_training_step_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ATHANOR_HOME", str(tmp_path))
    changes = [
        "--set",
        "base.model={layers: 3, width: 48, heads: 4, context: 256}",
        "--set",
        "tokenizer.vocab_size=512",
        "--set",
        "base.batch_tokens=4_096",
        "--set",
        "base.tokens=409_600",
    ]
    assert status(["plan", "quickstart", "--json", *changes]) == 0
    steps = json.loads(capsys.readouterr().out)["steps"]
    told = steps["base"]["training"]
    shape = ModelConfig(layers=3, width=48, heads=4, context=256)
    assert told["parameters"] == shape.parameters(512)
    matrices = sum(weight.numel() for weight in made_network(shape, 512).parameters() if weight.dim() == 2)
    attention = 3 * 2 * 48 * (256 + 1) / 2  # layers; queries with keys, and values; positions seen on average
    assert told["flops"] == pytest.approx(409_600 * 3 * 2 * (matrices + attention), rel=1e-9)
    assert set(told["memory_bytes"]) == {"weights", "gradients", "optimizer", "activations"}
    assert set(told["seconds_on"]) == set(GPUS)
    assert told["seconds_here"] > 0
    assert [name for name, step in steps.items() if "training" in step] == ["base", "tuned"]


def test_plan_refuses_resources_that_a_step_cannot_run_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ATHANOR_HOME", str(tmp_path))
    assert status(["plan", "quickstart", "--set", "resources.sequence_processes=3"]) == 2
    assert "base cannot run on its resources: processes 2 is not a multiple of" in capsys.readouterr().err


def test_plan_refuses_an_optimizer_that_would_see_pieces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ATHANOR_HOME", str(tmp_path))
    asked = ["--set", "base.optimizer.name=muon", "--set", "resources.offload=cpu", "--set", "resources.zero_stage=1"]
    assert status(["plan", "quickstart", *asked]) == 2
    said = "base cannot run on its resources: offload: cpu leaves pieces on the host, and muon needs whole weights"
    assert f"{said}: use adamw or lion" in capsys.readouterr().err


RECIPE = """\
name: chain
steps:
  pages: {task: collect, sources: [{kind: pydoc}]}
  documents: {task: clean_html, pages: pages}
  tokenizer: {task: train_tokenizer, documents: documents, vocab_size: 512}
  shards: {task: shard, documents: documents, tokenizer: tokenizer}
  base:
    {task: pretrain, data: shards, model: {layers: 3, width: 48, heads: 4, context: 256}, tokens: 8_192,
     batch_tokens: 1_024}
  continued: {task: pretrain, data: shards, start: base, tokens: 4_096, batch_tokens: 512, context: 128}
  questions: {task: examples, sources: [{kind: pydoc}]}
  tuned: {task: finetune, model: continued, examples: questions, rank: 4, targets: [q_proj, v_proj]}
  whole: {task: finetune, model: tuned, examples: questions, method: full}
  elsewhere: {task: pretrain, data: shards, start: {path: FOLDER}, tokens: 4_096, batch_tokens: 512}
"""


def test_what_continues_another_network_is_foretold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Through chains of steps that are not built, and from the description of a folder."""
    monkeypatch.setenv("ATHANOR_HOME", str(tmp_path / "home"))
    other = ModelConfig(layers=2, width=32, heads=4, context=64)
    (tmp_path / "theirs").mkdir()
    description = tmp_path / "theirs" / "config.json"
    description.write_text(json.dumps(families.description_of(other, 300)))
    (tmp_path / "chain.yaml").write_text(RECIPE.replace("FOLDER", "theirs"))
    told = forecasts(tmp_path / "chain.yaml", capsys)
    parameters = ModelConfig(layers=3, width=48, heads=4, context=256).parameters(512)
    trained = {name: (one["parameters"], one["trained_parameters"]) for name, one in told.items()}
    assert trained == {
        **dict.fromkeys(("base", "continued", "whole"), (parameters, parameters)),
        "tuned": (parameters, 3 * 2 * 4 * (48 + 48)),
        "elsewhere": (other.parameters(300), other.parameters(300)),
    }
    assert told["continued"]["flops"] < told["base"]["flops"] / 2
    assert told["continued"]["seconds_here"] > 0
    assert told["tuned"]["memory_bytes"]["optimizer"] == 2 * 4 * trained["tuned"][1]
    assert told["tuned"]["flops"] is None
    assert "when the model and the examples are built" in told["tuned"]["unknown"]
    (tmp_path / "chain.yaml").write_text(
        RECIPE.replace("FOLDER", "theirs") + "resources: {steps: {continued: {processes: 4, pipeline_processes: 4}}}\n"
    )
    description.write_text(json.dumps({"model_type": "bloom"}))
    assert "more than the model's layers 3" in forecasts(tmp_path / "chain.yaml", capsys)["continued"]["unknown"]
    assert "'theirs' is not one that ours can be" in forecasts(tmp_path / "chain.yaml", capsys)["elsewhere"]["unknown"]


TUNING = """\
name: tune
steps:
  questions:
    task: examples
    sources: [{kind: jsonl, path: pairs.jsonl, prompt: asked, response: answer}]
    template: "{prompt}"
    validation_fraction: 0
  tuned: {task: finetune, method: full, model: {path: base}, examples: questions, epochs: 6, batch_tokens: 512}
"""


def test_the_time_of_tuning_follows_from_the_examples_that_are_there(
    home: Home, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Against the rows that they are packed into."""
    shape = ModelConfig(layers=2, width=32, heads=4, context=64)
    tokenizer = made_tokenizer(tmp_path / "tokenizer")
    made_model(tmp_path / "base", made_network(shape, tokenizer.vocab_size), tokenizer)
    pairs = successor_pairs(240)
    lines = [json.dumps({"asked": prompt, "answer": response}) for prompt, response in pairs]
    (tmp_path / "pairs.jsonl").write_text("\n".join(lines))
    (tmp_path / "tune.yaml").write_text(TUNING)
    assert forecasts(tmp_path / "tune.yaml", capsys)["tuned"]["flops"] is None
    make_all(planner_of(home, TUNING, until="questions"))
    told = forecasts(tmp_path / "tune.yaml", capsys)["tuned"]
    rows = TextRows([Text(np.array([1, *tokenizer.encode("".join(pair)), 2])) for pair in pairs], shape.context)
    assert told["flops"] / shape.flops_per_token(tokenizer.vocab_size) == pytest.approx(6 * len(rows) * 64, rel=0.2)
    assert told["seconds_here"] > 0


def forecasts(recipe: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    assert status(["plan", str(recipe), "--json"]) == 0
    steps = json.loads(capsys.readouterr().out)["steps"]
    return {name: step["training"] for name, step in steps.items() if "training" in step}
