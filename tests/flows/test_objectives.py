"""Recipes of encoders and of continued training: what is refused before anything runs, and whole runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flows.recipe import parse_recipe
from storage.errors import RecipeError

ENCODER = """\
name: encoder
steps:
  pages: {task: collect, sources: [{kind: files, path: "made/*.html"}]}
  documents: {task: clean_html, pages: pages}
  tokenizer: {task: train_tokenizer, documents: documents, vocab_size: 400, special_tokens: ["<mask>"]}
  shards: {task: shard, documents: documents, tokenizer: tokenizer, validation_fraction: 0.2}
  base:
    task: pretrain
    data: shards
    objective: masked
    model: {layers: 1, width: 32, heads: 2, context: 64, attention: bidirectional}
    tokens: 20_480
    batch_tokens: 1_024
    optimizer: {learning_rate: 1e-2, warmup_tokens: 1_024}
"""
LAST = "warmup_tokens: 1_024}\n"
REPORT = "  report: {task: evaluate, models: [base], data: shards}\n"
MORE = "  more: {task: pretrain, data: shards, start: base, tokens: 1_024, batch_tokens: 1_024}\n"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            ', special_tokens: ["<mask>"]',
            "",
            "encoder.yaml:7: base: objective masked: the tokenizer of 'shards' has no mask token; say special_tokens: "
            "['<mask>'] in step 'tokenizer'",
        ),
        (
            "attention: bidirectional",
            "attention: causal",
            "objective masked needs attention: bidirectional; the model's is causal",
        ),
        ("objective: masked", "objective: mask", "base.objective = 'mask': there is no objective 'mask'; take 'next_"),
        ("objective: masked", "objective: {name: masked, whole_word: true}", "did you mean 'whole_words'?"),
        ("    model: {layers", "    context: 8\n    model: {layers", "context: it goes with start"),
        (LAST, LAST + REPORT, "step 'base' makes a network, not a model or an adapter"),
        (LAST, LAST + MORE, "more: start: step 'base' does not make a model that predicts the next token"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_runs(old: str, new: str, message: str, tmp_path: Path) -> None:
    parse_recipe(ENCODER, "encoder.yaml", tmp_path)
    assert message in _refused(ENCODER, old, new, "encoder.yaml", tmp_path)


def _refused(recipe: str, old: str, new: str, place: str, folder: Path) -> str:
    """The line that a recipe with one thing changed is refused with."""
    assert old in recipe
    with pytest.raises(RecipeError) as caught:
        parse_recipe(recipe.replace(old, new, 1), place, folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


SPANS = ENCODER.replace('special_tokens: ["<mask>"]', "sentinels: 4").replace(", attention: bidirectional", "")
SPANS = SPANS.replace("name: encoder", "name: gaps").replace("objective: masked", "objective: spans")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "sentinels: 4",
            "sentinels: 2",
            "gaps.yaml:7: base: objective spans: the tokenizer of 'shards' has 2 sentinels where a context of 64 needs "
            "3; say sentinels: 3 in step 'tokenizer'",
        ),
        (", sentinels: 4", "", "has no sentinels where a context of 64 needs 3; say sentinels: 3"),
        (", sentinels: 4", ', special_tokens: ["<extra_id_0>"], sentinels: 4', "'<extra_id_0>' is there already"),
        ("context: 64", "context: 8", "objective: a text and its gaps do not fit a context of 8; take 16 or more"),
        ("context: 64", "context: 64, attention: bidirectional", "objective spans needs attention: causal"),
        ("objective: spans", "objective: {name: spans, span_token: 3}", "did you mean 'span_tokens'?"),
        (LAST, LAST + REPORT, "report: models: 'base' fills gaps and has not learnt to predict a whole text"),
    ],
)
def test_gaps_that_cannot_be_are_refused_before_anything_runs(old: str, new: str, message: str, tmp_path: Path) -> None:
    parse_recipe(SPANS, "gaps.yaml", tmp_path)
    assert message in _refused(SPANS, old, new, "gaps.yaml", tmp_path)


FOREIGN = """\
name: foreign
steps:
  questions: {task: examples, sources: [{kind: jsonl, path: q.jsonl, prompt: q, response: a}]}
  tuned: {task: finetune, model: {path: other}, examples: questions}
  more: {task: finetune, model: tuned, examples: questions}
resources:
  steps: {more: {recompute: true, processes: 2}}
"""


@pytest.mark.parametrize(("kind", "refused"), [("mamba", True), ("llama", False)])
def test_resources_that_a_foreign_network_cannot_use_are_refused_before_anything_runs(
    tmp_path: Path, kind: str, refused: bool
) -> None:
    """Also where another step lies between: what it makes is the same network."""
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.json").write_text(json.dumps({"model_type": kind}))
    parse_recipe(FOREIGN.replace("recompute: true, ", ""), "foreign.yaml", tmp_path)
    if not refused:
        parse_recipe(FOREIGN, "foreign.yaml", tmp_path)
        return
    with pytest.raises(RecipeError, match="more cannot run on its resources: recompute: for our own network alone"):
        parse_recipe(FOREIGN, "foreign.yaml", tmp_path)
    shared = FOREIGN.replace("recompute: true", "sequence_processes: 2")
    with pytest.raises(RecipeError, match="more cannot run on its resources: sequence_processes: for our own"):
        parse_recipe(shared, "foreign.yaml", tmp_path)
