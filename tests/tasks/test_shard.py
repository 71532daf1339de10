"""Shards hold every document once, whole, on the side that its id says."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from storage.corpus import Documents, is_validation
from storage.errors import StepFailed
from storage.shards import Shards, index_of_files
from storage.tokenizer import Tokenizer
from tasks.shard import Shard
from tasks.train_tokenizer import TrainTokenizer
from tests.helpers import SHARED, Outcome, run_task
from tests.made import made_tokenizer
from tests.tasks.test_train_tokenizer import CHINESE, CODE, ENGLISH, made_documents

TEXTS = [f"{ENGLISH} {number}\n\n{CHINESE}{CODE * (number % 3)}" for number in range(50)] + ["", "一", "\n"]


def _shard(tmp_path: Path, documents: Documents, tokenizer: Tokenizer, name: str = "step", **settings: Any) -> Outcome:
    workers = settings.pop("workers", 2)
    task = Shard(documents="documents", tokenizer="tokenizer", **settings)  # type: ignore[arg-type]
    return run_task(task, {"documents": documents, "tokenizer": tokenizer}, tmp_path, name=name, workers=workers)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    folder = tmp_path_factory.mktemp("tokenizer")
    documents = made_documents(folder / "documents", TEXTS)
    task = TrainTokenizer(documents="documents", vocab_size=450)  # type: ignore[arg-type]
    artifact = run_task(task, {"documents": documents}, folder).artifact
    assert isinstance(artifact, Tokenizer)
    return artifact


def test_every_document_is_there_whole_with_its_ends(tmp_path: Path, tokenizer: Tokenizer) -> None:
    documents = made_documents(tmp_path / "in", TEXTS)
    outcome = _shard(tmp_path, documents, tokenizer, validation_fraction=0.3)
    shards = outcome.artifact
    assert isinstance(shards, Shards)
    files = [f"{split}-{n:05}.arrow" for split in ("train", "validation") for n in range(3)]
    assert shards.names("*.arrow") == ["index.arrow", *files]
    assert shards.index.files == files
    opened = index_of_files({name: shards.path(name) for name in files})
    for what in ("lengths", "bounds", "utf8_bytes"):
        assert getattr(shards.index, what).tolist() == getattr(opened, what).tolist(), what
    found: dict[str, str] = {}
    tokens = 0
    for name, held_out in (("train", False), ("validation", True)):
        split = shards.split(name)  # type: ignore[arg-type]
        assert all(is_validation(identity, 0.3) is held_out for identity in split.ids)
        for number, identity in enumerate(split.ids):
            ids = split.document(number)
            assert ids.dtype == np.uint16
            assert (ids[0], ids[-1]) == (1, 2)
            found[identity] = shards.tokenizer.decode(ids)
            tokens += len(ids)
    expected = {
        i: t
        for table in documents.tables()
        for i, t in zip(*(table[c].to_pylist() for c in ("id", "text")), strict=True)
    }
    assert found == expected
    metrics = outcome.result.metrics
    size = sum(len(text.encode()) for text in TEXTS)
    assert outcome.result.counts == {"tokens": tokens, "documents": len(TEXTS)}
    assert metrics["train.bytes"] + metrics["validation.bytes"] == size == metrics["bytes_in"]
    assert metrics["bytes_per_token"] == pytest.approx(size / (tokens - 2 * len(TEXTS)))
    assert sum(count for name, count in metrics.items() if name.startswith("documents_up_to")) == len(TEXTS)
    assert metrics["validation_empty"] == 0
    urls = {url for table in documents.tables(["url"]) for url in table["url"].to_pylist()}
    assert outcome.result.samples
    assert {sample.place for sample in outcome.result.samples} <= urls, "by its URL a sample is found that has to go"
    lengths = [len(shards.split("train").document(n)) - 1 for n in range(shards.split("train").documents)]
    assert metrics["documents_cut.1024"] == sum(length > 1024 for length in lengths) / len(lengths)
    assert 0 <= metrics["padding.1024"] < 0.5
    sequences = sum(lengths) / (1 - metrics["padding.1024"]) / 1024
    assert sequences == pytest.approx(round(sequences))


def test_the_bytes_depend_on_neither_workers_nor_the_place(tmp_path: Path, tokenizer: Tokenizer) -> None:
    documents = made_documents(tmp_path / "in", TEXTS, per_partition=7)
    first = _shard(tmp_path, documents, tokenizer, "first", workers=1)
    second = _shard(tmp_path / "elsewhere", documents, tokenizer, "second", workers=2)
    assert first.artifact.digest == second.artifact.digest


def test_growth_moves_no_document_and_changes_no_old_shard(tmp_path: Path, tokenizer: Tokenizer) -> None:
    small = _shard(tmp_path, made_documents(tmp_path / "small", TEXTS[:40]), tokenizer, "a", validation_fraction=0.3)
    large = _shard(tmp_path, made_documents(tmp_path / "large", TEXTS), tokenizer, "b", validation_fraction=0.3)
    files = {name: entry for name, entry in small.artifact.manifest.files.items() if name != "index.arrow"}
    assert {name: large.artifact.manifest.files[name] for name in files} == files


def test_an_empty_validation_split_is_fine_and_said(tmp_path: Path, tokenizer: Tokenizer) -> None:
    outcome = _shard(tmp_path, made_documents(tmp_path / "in", TEXTS[:2]), tokenizer, validation_fraction=0)
    assert isinstance(outcome.artifact, Shards)
    assert outcome.artifact.split("validation").documents == 0
    assert outcome.result.metrics["validation_empty"] == 1


def test_nothing_to_train_on_fails(tmp_path: Path, tokenizer: Tokenizer) -> None:
    with pytest.raises(StepFailed, match="no documents"):
        _shard(tmp_path, made_documents(tmp_path / "none", []), tokenizer)
    with pytest.raises(StepFailed, match="lower validation_fraction"):
        _shard(
            tmp_path,
            made_documents(tmp_path / "one", ["x"]),
            tokenizer,
            "all",
            validation_fraction=math.nextafter(1, 0),
        )


def test_a_large_foreign_vocabulary_takes_32_bits(tmp_path: Path) -> None:
    tokenizer = made_tokenizer(tmp_path / "foreign", extra=[f"unused{n}" for n in range(70_000)])
    outcome = _shard(tmp_path, made_documents(tmp_path / "in", TEXTS[:5]), tokenizer, validation_fraction=0)
    shards = outcome.artifact
    assert isinstance(shards, Shards)
    split = shards.split("train")
    assert split.document(0).dtype == np.uint32
    assert shards.tokenizer.decode(split.document(0)) == TEXTS[0]
    table = pa.ipc.open_file(shards.path("train-00000.arrow")).read_all()
    assert table.schema.field("tokens").type.value_type == pa.uint32()


@pytest.mark.skipif(not SHARED.exists(), reason=f"real texts are not at {SHARED}")
def test_real_poems_come_back(tmp_path: Path, tokenizer: Tokenizer) -> None:
    with (SHARED / "text/tang_poems.jsonl").open(encoding="utf-8") as lines:
        poems = [json.loads(line)["text"] for line in itertools.islice(lines, 500)]
    outcome = _shard(tmp_path, made_documents(tmp_path / "in", poems, 100), tokenizer, validation_fraction=0.1)
    shards = outcome.artifact
    assert isinstance(shards, Shards)
    splits = [shards.split("train"), shards.split("validation")]
    assert 20 < splits[1].documents < 90
    found = {shards.tokenizer.decode(split.document(n)) for split in splits for n in range(split.documents)}
    assert found == set(poems)
