"""Turning documents into token shards."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from storage.artifact import JsonValue, Manifest, include
from storage.corpus import Documents, is_validation, read_table
from storage.errors import StepFailed
from storage.shard_index import index_of, packed_lengths, unpacked_lengths, write_index
from storage.shards import Shards, TokenType, shard_schema, token_type, write_shard
from storage.tokenizer import Tokenizer
from tasks.packed import packing_metrics
from tasks.rows import Positions, RowWork, Worked, rows_of
from tasks.tally import Tally, chosen, counts_of
from tasks.task import Context, Guard, Input, PartitionResult, Result, Task

_LENGTH_BOUNDS = [2**power for power in range(4, 21)]
"""Documents are counted by the least of these that their tokens do not exceed."""
_LENGTHS = "length."
_SPLITS = ("train", "validation")
_SHOWN_CHARACTERS = 300
_SHOWN_PIECES = 1000


class Shard(Task):
    """Encode every document and write memory-mapped shards, two for each partition: training and validation.

    A document is on the validation side by its id alone, so growth never moves one; those of sources
    with ``split: validation`` always are. Tokens are stored with the beginning and the end token, as
    16-bit numbers where the vocabulary allows.

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
        work = Encode(
            self.validation_fraction,
            str(tokenizer.folder.resolve()),
            tokenizer.manifest.model_dump_json(),
        )
        made = context.map_rows(work, documents.partitions, depends_on=[tokenizer])
        include(context.output, "tokenizer", tokenizer)
        index = index_of({name: part for result in made for name, part in _indexed(result)})
        write_index(context.output, index)
        total = counts_of(made)
        documents_made = total["train.documents"] + total["validation.documents"]
        if not documents_made:
            raise StepFailed("shard: there are no documents; look at what the steps before have dropped")
        if not total["train.documents"]:
            raise StepFailed(
                f"shard: all {documents_made} documents are held out for validation; "
                f"lower validation_fraction (now {self.validation_fraction}) or give more documents"
            )
        tokens = total["train.tokens"] + total["validation.tokens"]
        return Result(
            counts={"tokens": tokens, "documents": documents_made},
            metrics=_metrics(total) | packing_metrics(index),
            headline=f"{tokens:,} tokens",
            samples=chosen(made),
        )


@dataclass(frozen=True)
class Encode(RowWork):
    """The work of ``Shard`` on documents: rows of a document's id, tokens and bytes."""

    fraction: float
    tokenizer: str
    """Its folder."""
    manifest: str

    def load(self, source: Path, name: str) -> pa.Table:
        return read_table(source, ["id", "text", "url"])

    def work(self, rows: pa.Table, guard: Guard) -> Worked:
        """Encode the documents in their order, and count them by split and length."""
        tokenizer = _opened(self.tokenizer, self.manifest)
        ids, urls = rows["id"].to_pylist(), rows["url"].to_pylist()
        tokens, ends = tokenizer.encode_documents(rows["text"])
        lengths = np.diff(ends)
        sizes = pc.binary_length(rows["text"]).cast(pa.int64())
        classes = np.searchsorted(_LENGTH_BOUNDS, lengths).tolist()
        tally = Tally()
        for row, (identity, length, size) in enumerate(zip(ids, lengths.tolist(), sizes.to_pylist(), strict=True)):
            tally.row = row
            split = "validation" if is_validation(identity, self.fraction) else "train"
            tally.count(f"{split}.documents")
            tally.count(f"{split}.tokens", length)
            tally.count(f"{split}.bytes", size)
            tally.count(f"{_LENGTHS}{classes[row]}")
            in_pieces = partial(_in_pieces, tokenizer, rows["text"], row)
            tally.show("the beginning of a document, in pieces", in_pieces, None, urls[row], before_is="pieces")
        dtype = token_type(tokenizer.vocab_size)
        schema = shard_schema(dtype)
        column = pa.LargeListArray.from_arrays(
            pa.array(ends), pa.array(tokens.astype(dtype)), type=schema.field("tokens").type
        )
        return Worked(pa.table([rows["id"], column, sizes], schema=schema), range(len(ids)), tally)

    def save(self, made: pa.Table, output: Path) -> Positions:
        """Write ``train-STEM.arrow`` and ``validation-STEM.arrow`` beside ``output``."""
        sides = self._sides(made)
        dtype: TokenType = "uint16" if made.schema == shard_schema("uint16") else "uint32"
        for split, rows in zip(_SPLITS, sides, strict=True):
            side = rows_of(made, rows).combine_chunks()
            path = output.with_name(f"{split}-{output.stem}.arrow")
            write_shard(path, side["id"].to_pylist(), _lists(side["tokens"]), side["utf8_bytes"].to_pylist(), dtype)
        return np.concatenate(sides)

    def note(self, made: pa.Table) -> dict[str, JsonValue]:
        """What the index says of the two files: lengths of the documents, and bytes of their texts."""
        lengths, sizes = pc.list_value_length(made["tokens"]).to_numpy(), made["utf8_bytes"].to_numpy()
        sides = zip(_SPLITS, self._sides(made), strict=True)
        return {"index": {split: [packed_lengths(lengths[rows]), int(sizes[rows].sum())] for split, rows in sides}}

    def saved(self, files: Mapping[str, Path]) -> pa.Table:
        paths = [path for split in _SPLITS for name, path in files.items() if name.startswith(f"{split}-")]
        return pa.concat_tables(pa.ipc.open_file(pa.memory_map(str(path), "r")).read_all() for path in paths)

    def _sides(self, made: pa.Table) -> list[Positions]:
        """The rows that go to each split."""
        held = np.array([is_validation(identity, self.fraction) for identity in made["id"].to_pylist()], np.bool_)
        return [np.flatnonzero(~held), np.flatnonzero(held)]


def _indexed(result: PartitionResult) -> Iterator[tuple[str, tuple[npt.NDArray[np.uint32], int]]]:
    """What the index says of a partition's files."""
    for name in result.files:
        lengths, size = result.stats["index"][name.partition("-")[0]]
        yield name, (unpacked_lengths(lengths), size)


@lru_cache(maxsize=2)
def _opened(folder: str, manifest: str) -> Tokenizer:
    """The tokenizer, opened once per worker."""
    return Tokenizer(Path(folder), Manifest.model_validate_json(manifest))


def _lists(column: pa.ChunkedArray) -> list[npt.NDArray[np.integer]]:
    """The lists of a column, as views."""
    lists = []
    for chunk in column.chunks:
        values = chunk.values.to_numpy(zero_copy_only=True)
        lists += [values[begin:end] for begin, end in pairwise(chunk.offsets.to_numpy().tolist())]
    return lists


def _metrics(total: Counter[str]) -> dict[str, float]:
    names = [f"{split}.{what}" for split in _SPLITS for what in ("documents", "tokens", "bytes")]
    metrics: dict[str, float] = {name: total[name] for name in names}
    documents, tokens, size = (
        sum(total[f"{split}.{what}"] for split in _SPLITS) for what in ("documents", "tokens", "bytes")
    )
    metrics |= {
        "documents_in": documents,
        "documents_out": documents,
        "bytes_in": size,
        "tokens": tokens,
        "tokens_per_document": tokens / documents,
        "bytes_per_token": size / max(1, tokens - 2 * documents),
        "validation_empty": float(total["validation.documents"] == 0),
    }
    bounds = enumerate([*_LENGTH_BOUNDS, "more"])
    return metrics | {
        f"documents_up_to_tokens.{bound}": total[f"{_LENGTHS}{at}"] for at, bound in bounds if total[f"{_LENGTHS}{at}"]
    }


def _in_pieces(tokenizer: Tokenizer, texts: pa.ChunkedArray, row: int) -> str:
    """The beginning of a text, cut into pieces."""
    tokens = tokenizer.encode(texts[row].as_py()[:_SHOWN_CHARACTERS])
    return "|".join(tokenizer.decode([token]) for token in tokens)[:_SHOWN_PIECES]
