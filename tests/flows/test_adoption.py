"""Which kind of artifact a folder of the user's becomes."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.adoption import files_to_adopt, kind_to_adopt
from storage.artifact import Network
from storage.corpus import Documents, Examples
from storage.errors import SourceError
from tests.made import made_examples
from tests.tasks.corpora import make_documents


def test_a_folder_of_an_evaluation_set_is_examples_or_documents(tmp_path: Path) -> None:
    made_examples(tmp_path / "exam", {"train": [("q", "a")], "validation": []})
    make_documents(tmp_path / "book", [{"1": "text"}])
    kinds = (Examples, Documents)
    assert kind_to_adopt(tmp_path / "exam", kinds) == "examples"
    assert kind_to_adopt(tmp_path / "book", kinds) == "documents"
    assert list(files_to_adopt("documents", tmp_path / "book")) == ["00000.parquet"]


def test_a_folder_of_a_network_is_taken_without_its_pickled_weights(tmp_path: Path) -> None:
    names = (
        "config.json",
        "model.safetensors",
        "pytorch_model.bin",
        "source.spm",
        "target.spm",
        "vocab.json",
        "notes.md",
    )
    for name in names:
        (tmp_path / name).write_text("{}")
    assert kind_to_adopt(tmp_path, (Network,)) == "network"
    assert set(files_to_adopt("network", tmp_path)) == set(names) - {"pytorch_model.bin", "notes.md"}


def test_a_model_needs_the_tokenizer_that_it_was_trained_with(tmp_path: Path) -> None:
    for name in ("config.json", "model.safetensors", "tokenizer_config.json"):
        (tmp_path / name).write_text("{}")
    with pytest.raises(SourceError, match=r"tokenizer\.model or tokenizer\.json; put the tokenizer"):
        files_to_adopt("model", tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    assert "tokenizer.json" in files_to_adopt("model", tmp_path)
