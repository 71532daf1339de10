"""Text classifiers of transformers: the same figures as transformers itself gives, text by text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flows.adoption import files_to_adopt, kind_to_adopt
from storage.artifact import Classifier
from storage.errors import SourceError
from tasks.classifiers.folders import labels_of
from tasks.classifiers.interface import load
from tests.made import made_examples, made_model, made_network, made_tokenizer
from tests.tasks.classifiers.networks import made_text_classifier

TEXTS = ["bake the dough", "the judge to the court", "", "海船山花", "the " * 500, "unknown words \ud800", "oven"]


def logits_of(folder: Path, text: str) -> np.ndarray:
    """What transformers says of one text."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    network = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokens = tokenizer(text.replace("\ud800", "?"), truncation=True, max_length=32, return_tensors="pt")
    with torch.inference_mode():
        found: np.ndarray = (
            network(input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"]).logits[0].double().numpy()
        )
    return found


@pytest.mark.parametrize(
    ("kind", "labels", "config"),
    [
        ("bert", ("kitchen", "court", "sea"), {}),
        ("bert", ("toxic", "insult"), {"problem_type": "multi_label_classification"}),
        ("bert", ("score",), {"problem_type": "regression"}),
        ("bert", ("score",), {}),
        ("bert", ("LABEL_0", "LABEL_1"), {}),  # names that transformers does not write down
        ("llama", ("low", "high"), {}),
    ],
)
def test_probabilities_are_those_of_transformers(
    tmp_path: Path, kind: str, labels: tuple[str, ...], config: dict[str, Any]
) -> None:
    folder = made_text_classifier(tmp_path / "folder", labels, kind, **config)
    classifier = load(folder)
    assert classifier.labels == labels == labels_of(folder)
    found = classifier.probabilities(TEXTS)
    assert found.dtype == np.float32
    assert classifier.probabilities([]).shape == (0, len(labels))
    for text, row in zip(TEXTS, found, strict=True):
        logits = logits_of(folder, text)
        if len(labels) == 1:
            expected = logits
        elif config:
            expected = 1 / (1 + np.exp(-logits))
        else:
            expected = np.exp(logits) / np.exp(logits).sum()
        assert np.allclose(row, expected, atol=1e-5), text


def test_what_belongs_to_a_classifier_is_adopted_and_the_rest_stays_outside(tmp_path: Path) -> None:
    folder = made_text_classifier(tmp_path / "folder", ("a", "b"))
    (folder / "pytorch_model.bin").write_bytes(b"pickled")
    (folder / "picture.png").write_bytes(b"")
    assert kind_to_adopt(folder, (Classifier,)) == "classifier"
    assert sorted(files_to_adopt("classifier", folder)) == [
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ]


def change(folder: Path, **fields: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **fields}))


def test_a_folder_that_is_no_classifier_is_named_before_anything_runs(tmp_path: Path) -> None:
    from model.config import ModelConfig

    tokenizer = made_tokenizer(tmp_path / "tokenizer")
    network = made_network(ModelConfig(layers=1, width=16, heads=2, context=16), tokenizer.vocab_size)
    made_model(tmp_path / "causal", network, tokenizer)
    made_examples(tmp_path / "examples", {"train": [("a", "b")]})
    pickled = made_text_classifier(tmp_path / "pickled", ("a", "b"))
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    broken = made_text_classifier(tmp_path / "broken", ("a", "b"))
    (broken / "config.json").write_text("{")
    for name, message in {
        "nowhere": "there is no such folder",
        "causal": "LlamaForCausalLM, which is no text classifier",
        "examples": "no classifier in it",
        "pickled": "no *.safetensors in it",
        "broken": "cannot be read as JSON",
    }.items():
        with pytest.raises(SourceError) as error:
            files_to_adopt("classifier", tmp_path / name)
        assert message in str(error.value)
        assert "\n" not in str(error.value)


def test_weights_without_a_trained_head_are_refused(tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    folder = made_text_classifier(tmp_path / "folder", ("a", "b"))
    weights = load_file(folder / "model.safetensors")
    kept = {name: tensor for name, tensor in weights.items() if not name.startswith("classifier")}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(SourceError, match=r"lack classifier\.bias \(2 missing\)"):
        load(folder)


def test_code_in_a_folder_is_never_run(tmp_path: Path) -> None:
    folder = made_text_classifier(tmp_path / "folder", ("a", "b"))
    change(
        folder, model_type="own", auto_map={"AutoConfig": "own.Own", "AutoModelForSequenceClassification": "own.Own"}
    )
    (folder / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    with pytest.raises(SourceError, match="transformers cannot open it"):
        load(folder)
    assert not (tmp_path / "ran").exists()
