"""Token files that other trainers were fed with, as shards."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from glob import glob
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field, field_validator, model_validator

from storage.artifact import JsonValue, Manifest, include
from storage.corpus import Partition, document_id, is_validation
from storage.errors import SourceError, StepFailed
from storage.identity import digest_of_value
from storage.shard_index import write_index
from storage.shards import Shards, index_of_files, token_type, write_shard
from storage.token_files import Format, MegatronFile, NanoGPTFile, Range
from storage.tokenizer import Tokenizer
from tasks.packed import packing_metrics
from tasks.task import Context, Guard, Input, Outside, Result, Task, World

_PARTITION_TOKENS = 1 << 24
"""Tokens of a shard file, about."""
_SPLITS = ("train", "validation")


class ImportTokens(Task):
    """Make shards of documents that are tokens already.

    ``format: nanogpt`` reads files of ids, each document with an end token behind it (a file
    without any is one document); ``megatron`` reads ``.bin`` files with their ``.idx`` beside
    them, a document being all its sequences. Beginning and end tokens found around a document are
    taken off, and those of the tokenizer put around it. An id that the tokenizer does not have
    fails the step: it says that the tokenizer is another one. Documents are decoded once, since a
    model is measured in bits per byte of text.

    Time grows linearly with the tokens; memory is that of one shard file per worker.
    """

    makes = Shards
    libraries = ("sentencepiece", "tokenizers")

    format: Format
    """``nanogpt`` or ``megatron``."""
    train: Annotated[list[str], Outside()]
    """The ``.bin`` files to train on: paths, or globs (``corpus/*.bin``)."""
    validation: Annotated[list[str], Outside()] = Field([])
    """Those to validate on: ``[data/val.bin]``."""
    tokenizer: Input[Tokenizer]
    """The tokenizer that made the ids: ``{path: FOLDER}`` with any Hugging Face tokenizer, or a step."""
    validation_fraction: float = Field(0.0, ge=0, lt=1)
    """The share of the documents of ``train`` that is held out as well, by their ids."""
    end_token: int | None = Field(None, ge=0)
    """Id that ends a document in the files; default: the tokenizer's end token (50256 for GPT-2)."""
    dtype: Literal["uint16", "uint32"] = "uint16"
    """Type of an id in nanoGPT's files; Megatron's say it themselves."""
    name: str = "tokens"
    """Source of the documents: part of their ids, which are made of it, the file's name and the place in the file."""

    @field_validator("train", "validation", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.train:
            raise ValueError("train: name at least one .bin file")
        return self

    def outside(self, world: World) -> JsonValue:
        """Names and digests of the files, by split."""
        return {
            split: [[path.name, self._digest(world, path)] for path in self._files(world, split)] for split in _SPLITS
        }

    def run(self, context: Context) -> Result:
        """Raises SourceError for files that are not what they should be, StepFailed if nothing is left to train on."""
        tokenizer = context.open(self.tokenizer)
        parts = [part for split in _SPLITS for part in self._parts(context.world, split, tokenizer.eos_id)]
        ranges = {partition.name: part for partition, part in parts}
        partitions = [partition for partition, _ in parts]
        digests = {
            path.name: self._digest(context.world, path) for s in _SPLITS for path in self._files(context.world, s)
        }
        payload = Payload(self, ranges, digests, str(tokenizer.folder.resolve()), tokenizer.manifest.model_dump_json())
        made = context.map_partitions(import_partition, payload, partitions, depends_on=[tokenizer])
        include(context.output, "tokenizer", tokenizer)
        index = index_of_files({name: path for result in made for name, path in result.files.items()})
        write_index(context.output, index)
        result = _result([result.stats for result in made])
        return replace(result, metrics=result.metrics | packing_metrics(index))

    def _parts(self, world: World, split: str, eos: int) -> list[tuple[Partition, Range]]:
        """The files of a split, cut into parts; each becomes a shard file."""
        found: list[tuple[Partition, Range]] = []
        for path in self._files(world, split):
            digest = self._digest(world, path)
            for part in _opened(self.format, path, self.dtype, self._end(eos)).ranges(_PARTITION_TOKENS):
                name = f"{split}-{len(found):05}.arrow"
                identity = digest_of_value([digest, path.name, split, part.start, part.stop])
                found.append((Partition(name, path, identity), part))
        return found

    def _end(self, eos: int) -> int:
        return eos if self.end_token is None else self.end_token

    def _files(self, world: World, split: str) -> list[Path]:
        found: list[Path] = []
        for path in self.train if split == "train" else self.validation:
            files = [name for name in sorted(glob(str(world.folder / path), recursive=True)) if Path(name).is_file()]
            if not files:
                raise SourceError(
                    f"import_tokens.{split}: there is no file {path!r} in {world.folder}; correct the path"
                )
            found += map(Path, files)
        if len({path.name for path in found}) < len(found):
            raise SourceError(f"import_tokens.{split}: two files have the same name; a document is known by it")
        return found

    def _digest(self, world: World, path: Path) -> str:
        """Of all that is read of a file."""
        index = path.with_suffix(".idx")
        paths = [path, index] if self.format == "megatron" and index.is_file() else [path]
        return digest_of_value([world.digest_of_file(path) for path in paths])


@dataclass(frozen=True)
class Payload:
    """What a worker needs."""

    task: ImportTokens
    parts: dict[str, Range]
    """By partition, what of its file belongs to it."""
    digests: dict[str, str]
    """Of the files, by name."""
    tokenizer: str
    """Its folder."""
    manifest: str


def _opened(form: Format, path: Path, dtype: Literal["uint16", "uint32"], end: int) -> NanoGPTFile | MegatronFile:
    return MegatronFile(path) if form == "megatron" else NanoGPTFile(path, dtype, end)


@lru_cache(maxsize=2)
def _kept_open(
    form: Format, path: Path, digest: str, dtype: Literal["uint16", "uint32"], end: int
) -> NanoGPTFile | MegatronFile:
    """The file with this digest, opened and checked once per worker."""
    return _opened(form, path, dtype, end)


@lru_cache(maxsize=2)
def _tokenizer(folder: str, manifest: str) -> Tokenizer:
    """The tokenizer, opened once per worker."""
    return Tokenizer(Path(folder), Manifest.model_validate_json(manifest))


def import_partition(payload: Payload, source: Path, output: Path, guard: Guard) -> dict[str, JsonValue]:
    """Write the documents of a part of a file, and of training documents those held out beside them."""
    task = payload.task
    tokenizer = _tokenizer(payload.tokenizer, payload.manifest)
    end = task._end(tokenizer.eos_id)
    file = _kept_open(task.format, source, payload.digests[source.name], task.dtype, end)
    sides: dict[str, list[tuple[str, npt.NDArray[np.int64], int]]] = {}
    split, _, rest = output.name.partition("-")
    sides[split] = []
    for place, pieces in file.documents(payload.parts[output.name]):
        ids = np.concatenate([np.zeros(0, np.int64), *pieces])
        _check_ids(ids, source, place, tokenizer.vocab_size)
        inner = ids[int(len(ids) > 0 and ids[0] == tokenizer.bos_id) :]
        inner = inner[: len(inner) - int(len(inner) > 0 and int(inner[-1]) in (end, tokenizer.eos_id))]
        identity = document_id(task.name, f"{split}/{source.name}#{place}")
        held = split == "train" and is_validation(identity, task.validation_fraction)
        whole = np.concatenate([[tokenizer.bos_id], inner, [tokenizer.eos_id]])
        size = len(tokenizer.decode(inner).encode("utf-8", "surrogatepass"))
        sides.setdefault("validation" if held else split, []).append((identity, whole, size))
    stats: dict[str, JsonValue] = {}
    for side, documents in sides.items():
        # Held-out documents of training files come in files of their own, apart from those of `validation`.
        path = output if side == split else output.with_name(f"{side}-held-{rest}")
        tokens, sizes = [ids for _, ids, _ in documents], [size for _, _, size in documents]
        write_shard(path, [name for name, _, _ in documents], tokens, sizes, token_type(tokenizer.vocab_size))
        stats |= {
            f"{side}.documents": len(documents),
            f"{side}.tokens": sum(map(len, tokens)),
            f"{side}.bytes": sum(sizes),
        }
    return stats


def _check_ids(ids: npt.NDArray[np.int64], source: Path, place: int, vocabulary: int) -> None:
    if len(ids) and not 0 <= int(ids.min()) <= int(ids.max()) < vocabulary:
        wrong = int(ids.min()) if ids.min() < 0 else int(ids.max())
        raise SourceError(
            f"{source}: the document at {place} has the id {wrong}, but the tokenizer has {vocabulary}; "
            "name the tokenizer that made the file, and the right `dtype`"
        )


def _result(stats: list[dict[str, JsonValue]]) -> Result:
    total = {
        f"{split}.{what}": sum(int(one.get(f"{split}.{what}", 0)) for one in stats)
        for split in _SPLITS
        for what in ("documents", "tokens", "bytes")
    }
    if not total["train.documents"]:
        raise StepFailed("import_tokens: no document is left to train on; lower validation_fraction or give more files")
    documents, tokens = (total[f"train.{what}"] + total[f"validation.{what}"] for what in ("documents", "tokens"))
    metrics: dict[str, float] = {**total, "tokens": tokens, "documents_out": documents}
    metrics["tokens_per_document"] = tokens / documents
    return Result(counts={"tokens": tokens, "documents": documents}, metrics=metrics, headline=f"{tokens:,} tokens")
