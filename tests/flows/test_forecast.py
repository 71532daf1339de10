"""What ``athanor plan`` tells of training steps before they run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flows.cli import main
from model.config import ModelConfig
from model.planning.estimate import GPUS


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
    ]
    assert status(["plan", "quickstart", "--json", *changes]) == 0
    steps = json.loads(capsys.readouterr().out)["steps"]
    told = steps["base"]["training"]
    shape = ModelConfig(layers=3, width=48, heads=4, context=256)
    assert told["parameters"] == shape.parameters(512)
    assert set(told["memory_bytes"]) == {"weights", "gradients", "optimizer", "activations"}
    assert set(told["seconds_on"]) == set(GPUS)
    assert told["seconds_here"] > 0
    assert [name for name, step in steps.items() if "training" in step] == ["base"]


def test_plan_refuses_resources_that_a_step_cannot_run_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ATHANOR_HOME", str(tmp_path))
    assert status(["plan", "quickstart", "--set", "resources.sequence_processes=3"]) == 2
    assert "base cannot run on its resources: processes 2 is not a multiple of" in capsys.readouterr().err
