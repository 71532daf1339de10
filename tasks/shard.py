"""Turning documents into token shards."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import Field

from storage.artifact import JsonValue, Manifest, include
from storage.corpus import Documents, is_validation, read_table
from storage.errors import StepFailed
from storage.shards import Shards, token_type, write_shard
from storage.tokenizer import Ids, Tokenizer
from tasks.task import Context, Guard, Input, PartitionResult, Result, Sample, Task

_TEXTS_AT_ONCE = 256
_LENGTH_BOUNDS = [2**power for power in range(4, 21)]
"""Documents are counted by the least of these that their tokens do not exceed."""
_SHOWN_CHARACTERS = 300


class Shard(Task):
    """Encode every document and write memory-mapped shards, two for each partition: training and validation.

    A document is on the validation side by its id alone, so growth never moves one. Tokens are
    stored with the beginning and the end token, as 16-bit numbers where the vocabulary allows.

    Time grows linearly with the text; memory is that of one partition per worker.
    """

    makes = Shards
    libraries = ("sentencepiece", "tokenizers")

    documents: Input[Documents]
    tokenizer: Input[Tokenizer]
    """A step that trains one, or ``{path: FOLDER}`` with any Hugging Face tokenizer."""
    validation_fraction: float = Field(0.05, ge=0, lt=1)
    """The share of the documents that is held out."""

    def run(self, context: Context) -> Result:
        documents, tokenizer = context.open(self.documents), context.open(self.tokenizer)
        payload = {
            "fraction": self.validation_fraction,
            "tokenizer": str(tokenizer.folder.resolve()),
            "manifest": tokenizer.manifest.model_dump_json(),
        }
        made = context.map_partitions(shard_partition, payload, documents.partitions, depends_on=[tokenizer])
        include(context.output, "tokenizer", tokenizer)
        total = _Totals(made)
        if not total["documents"]:
            raise StepFailed("shard: there are no documents; look at what the steps before have dropped")
        if not total["train.documents"]:
            raise StepFailed(
                f"shard: all {total['documents']} documents are held out for validation; "
                f"lower validation_fraction (now {self.validation_fraction}) or give more documents"
            )
        return Result(
            counts={"tokens": total["tokens"], "documents": total["documents"]},
            metrics=total.metrics(),
            headline=f"{total['tokens']:,} tokens",
            samples=_samples(documents, tokenizer),
        )


def shard_partition(payload: dict[str, Any], source: Path, output: Path, guard: Guard) -> dict[str, JsonValue]:
    """Write ``train-STEM.arrow`` and ``validation-STEM.arrow`` beside ``output``; returns counts per split."""
    tokenizer = _opened(payload["tokenizer"], payload["manifest"])
    table = read_table(source, ["id", "text"])
    ids, texts = table["id"].to_pylist(), table["text"].to_pylist()
    held_out = [is_validation(identity, payload["fraction"]) for identity in ids]
    stats: dict[str, JsonValue] = {"lengths": [0] * (len(_LENGTH_BOUNDS) + 1)}
    for split, wanted in (("train", False), ("validation", True)):
        chosen = [number for number, held in enumerate(held_out) if held is wanted]
        tokens = _with_ends(tokenizer, [texts[number] for number in chosen])
        sizes = [len(texts[number].encode()) for number in chosen]
        path = output.with_name(f"{split}-{source.stem}.arrow")
        write_shard(path, [ids[number] for number in chosen], tokens, sizes, token_type(tokenizer.vocab_size))
        stats |= {
            f"{split}.documents": len(chosen),
            f"{split}.tokens": sum(map(len, tokens)),
            f"{split}.bytes": sum(sizes),
        }
        stats["lengths"] = [a + b for a, b in zip(stats["lengths"], _histogram(tokens), strict=True)]
    return stats


@lru_cache(maxsize=2)
def _opened(folder: str, manifest: str) -> Tokenizer:
    """The tokenizer, opened once per worker."""
    return Tokenizer(Path(folder), Manifest.model_validate_json(manifest))


def _with_ends(tokenizer: Tokenizer, texts: Sequence[str]) -> list[Ids]:
    """Ids of the texts, each between the beginning and the end token."""
    made = []
    for start in range(0, len(texts), _TEXTS_AT_ONCE):
        for ids in tokenizer.encode_many(texts[start : start + _TEXTS_AT_ONCE]):
            made.append(np.concatenate([[tokenizer.bos_id], ids, [tokenizer.eos_id]]).astype(np.int32))
    return made


def _histogram(tokens: Sequence[npt.NDArray[np.int32]]) -> list[int]:
    """Documents per class of length (see ``_LENGTH_BOUNDS``; the last class is open)."""
    classes = np.searchsorted(_LENGTH_BOUNDS, [len(ids) for ids in tokens])
    return [int(count) for count in np.bincount(classes, minlength=len(_LENGTH_BOUNDS) + 1)]


class _Totals:
    """Counts of all partitions together."""

    def __init__(self, made: Sequence[PartitionResult]) -> None:
        self._stats = [result.stats for result in made]
        self._lengths = np.sum([stats["lengths"] for stats in self._stats], axis=0) if made else np.zeros(0, int)

    def __getitem__(self, name: str) -> int:
        if "." not in name:
            return self[f"train.{name}"] + self[f"validation.{name}"]
        return sum(int(stats[name]) for stats in self._stats)

    def metrics(self) -> dict[str, float]:
        names = [f"{split}.{what}" for split in ("train", "validation") for what in ("documents", "tokens", "bytes")]
        metrics: dict[str, float] = {name: self[name] for name in names}
        metrics |= {
            "documents_in": self["documents"],
            "documents_out": self["documents"],
            "bytes_in": self["bytes"],
            "tokens": self["tokens"],
            "tokens_per_document": self["tokens"] / self["documents"],
            "bytes_per_token": self["bytes"] / max(1, self["tokens"] - 2 * self["documents"]),
            "validation_empty": float(self["validation.documents"] == 0),
        }
        named = zip([*_LENGTH_BOUNDS, "more"], self._lengths, strict=True)
        return metrics | {f"documents_up_to_tokens.{bound}": int(count) for bound, count in named if count}


def _samples(documents: Documents, tokenizer: Tokenizer) -> list[Sample]:
    for table in documents.tables(["text"]):
        for text in table["text"].to_pylist()[:1]:
            cut = text[:_SHOWN_CHARACTERS]
            pieces = "|".join(tokenizer.decode([token]) for token in tokenizer.encode(cut))
            return [Sample("the beginning of a document, in pieces", pieces[:1000], before_is="pieces")]
    return []
