"""The recipe that ships, from end to end but trained for less long: caching, exports, figures that others confirm."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from storage.shards import Shards
from storage.store import Store

SHORT = ["--set", "base.tokens=120_000", "--set", "base.optimizer.warmup_tokens=20_000", "--set", "tuned.merge=true"]
AFTER_SCRUBBED = ("unique", "tokenizer", "shards", "base", "tuned", "report")
TEXTS = [
    "def f(x):\n\treturn {'a': x ** 2}  # why\n",
    "The quick brown fox, 12,345 times.",
    "炼金炉持续数周，一次加料。全角！标点（不变）",
    "    four spaces\n\n\ttab <s> not special </s>",
    "aaaaaaaaaaaaaaaaaaaaaaa",
]

pytestmark = pytest.mark.slow


def athanor(home: Path, *arguments: str) -> Any:
    """Run the command line; the JSON that it prints."""
    done = subprocess.run(
        [str(Path(sys.executable).parent / "athanor"), *arguments],
        env={**os.environ, "ATHANOR_HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
        cwd=home,
        timeout=1800,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout) if "--json" in arguments else done.stdout


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("quickstart")


@pytest.fixture(scope="module")
def first(home: Path) -> dict[str, Any]:
    """The first run's summary."""
    summary: dict[str, Any] = athanor(home, "run", "quickstart", *SHORT, "--json")
    return summary


def statuses(summary: dict[str, Any]) -> dict[str, str]:
    return {name: step["status"] for name, step in summary["steps"].items()}


def artifacts(summary: dict[str, Any]) -> dict[str, str]:
    return {name: step["artifact"] for name, step in summary["steps"].items()}


def exported(home: Path, step: str) -> Path:
    folder = home / f"exported-{step}"
    if not folder.exists():
        athanor(home, "export", f"quickstart/{step}", str(folder))
    return folder


def test_everything_is_built_once_and_then_reused(home: Path, first: dict[str, Any]) -> None:
    assert set(statuses(first).values()) == {"built"}
    plan = athanor(home, "plan", "quickstart", *SHORT, "--json")
    assert {step["action"] for step in plan["steps"].values()} == {"reuse"}
    again = athanor(home, "run", "quickstart", *SHORT, "--json")
    assert set(statuses(again).values()) == {"reused"}
    assert {n: s["artifact"] for n, s in again["steps"].items()} == {
        n: s["artifact"] for n, s in first["steps"].items()
    }


def test_another_similarity_rebuilds_the_deduplication_and_stops_where_bytes_are_the_same(
    home: Path, first: dict[str, Any]
) -> None:
    other = [*SHORT, "--set", "unique.similarity=0.79"]
    plan = athanor(home, "plan", "quickstart", *other, "--json")["steps"]
    assert plan["unique"]["action"] == "build"
    assert "similarity 0.8 → 0.79" in plan["unique"]["why"]
    # The tokenizer is pinned: other documents alone do not train it again.
    assert plan["tokenizer"]["action"] == "reuse"
    after = [name for name in AFTER_SCRUBBED[1:] if name != "tokenizer"]
    assert all(plan[name]["action"] == "depends" for name in after)
    run = athanor(home, "run", "quickstart", *other, "--json")
    same = run["steps"]["unique"]["artifact"] == first["steps"]["unique"]["artifact"]
    assert statuses(run)["unique"] == "built"
    assert all(status == "reused" for name, status in statuses(run).items() if name not in AFTER_SCRUBBED)
    assert statuses(run)["tokenizer"] == "reused"
    assert all((statuses(run)[name] == "reused") == same for name in after)


def test_the_report_compares_with_baselines_that_learnt_from_the_same_text(home: Path, first: dict[str, Any]) -> None:
    report = json.loads((exported(home, "report") / "report.json").read_text())
    assert set(report) == {"base", "tuned", "unigram", "trigram"}
    for figures in report.values():
        for part in figures.values():
            assert part["perplexity"] == pytest.approx(math.exp(part["loss"]), rel=1e-4)
    base, unigram = report["base"]["validation"], report["unigram"]["validation"]
    assert base["tokens"] == unigram["tokens"]
    assert base["perplexity"] < unigram["perplexity"]
    assert report["tuned"]["examples"]["perplexity"] < report["base"]["examples"]["perplexity"]


@pytest.mark.parametrize("step", ["base", "tuned"])
def test_exported_models_open_in_transformers_and_measure_the_same(
    home: Path, first: dict[str, Any], step: str
) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from model.formats.huggingface import load

    folder = exported(home, step)
    theirs = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    ours = load(folder)
    ours.eval()
    store = Store(str(home / "store"), home)
    shards = store.open(store.resolve("quickstart/shards"))
    assert isinstance(shards, Shards)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    for text in TEXTS:
        assert tokenizer(text, add_special_tokens=False)["input_ids"] == shards.tokenizer.encode(text).tolist()
    split = shards.split("validation")
    context = theirs.config.max_position_embeddings
    tokens = torch.from_numpy(split.document(0)[:context].astype(np.int64))[None]
    with torch.no_grad():
        difference = theirs(tokens).logits - ours(tokens)
    assert difference.abs().max() < 1e-4
    report = json.loads((exported(home, "report") / "report.json").read_text())
    assert _loss(theirs, split, context) == pytest.approx(report[step]["validation"]["loss"], abs=1e-4)


def _loss(model: Any, split: Any, context: int) -> float:
    """Nats per token over documents cut into pieces of ``context`` predictions, written out plainly."""
    nats, predicted = 0.0, 0
    with torch.no_grad():
        for number in range(split.documents):
            tokens = torch.from_numpy(split.document(number).astype(np.int64))
            for start in range(0, len(tokens) - 1, context):
                piece = tokens[start : start + context + 1]
                logits = model(piece[None, :-1]).logits[0].double()
                nats += float(torch.nn.functional.cross_entropy(logits, piece[1:], reduction="sum"))
                predicted += len(piece) - 1
    return nats / predicted


def test_the_store_is_whole_and_says_where_a_model_came_from(home: Path, first: dict[str, Any]) -> None:
    athanor(home, "verify")
    lineage = athanor(home, "lineage", "quickstart/tuned")
    assert all(step in lineage for step in ("base", "shards", "unique", "pages", "questions"))
    assert athanor(
        home, "generate", "quickstart/tuned", "--prompt", "Question: What is the function len?\nAnswer: "
    ).strip()
