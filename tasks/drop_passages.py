"""Cutting passages that repeat from document to document: navigation, licences, notices, quoted texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import numpy as np
import pyarrow as pa
from pydantic import Field

from storage.artifact import JsonValue
from storage.corpus import Documents, Partition, read_table, write_table
from storage.identity import digest_of_bytes, digest_of_value
from storage.mixing import mixed
from tasks.copies.passages import Unit, group_key, passages_of, repeated, save_keys, with_punctuation, without
from tasks.copies.precedence import precedence
from tasks.gate import check_source_loss
from tasks.rows import RowWork, Worked
from tasks.tally import Tally, counts_of, result_of
from tasks.task import Context, Guard, Input, PartitionResult, Result, Task

_EXAMPLE_CHARACTERS = 80
_CUTS = "cuts"
_OF_SOURCE, _LEFT_OF_SOURCE = "documents_of.", "left_of."
"""Counted by source, for the check that none loses too much."""


class DropPassages(Task):
    """Cut passages that stand in many documents.

    A passage is a line, a paragraph, or a run of words. It is *repeated* if at least
    ``min_documents`` documents and the share ``min_share`` of all documents of one site (or source,
    or the corpus) hold it. With ``keep: first`` it stays in the first of those documents in the
    order (first_seen, id), those of sources held out for validation before all others, so no passage
    is lost altogether. How often one document holds it does not matter. With ``unit: words``, every
    run of at least ``words`` words that a passage's first document shares with later ones is cut
    from these, wherever it begins and ends.

    So the result depends on neither the order of arrival nor workers nor partitions. Documents of
    which nothing is left are dropped (``dropped.repeated``).

    Time grows linearly with the text, apart from sorting the passages' keys. These lie on disk, 16 bytes
    for every passage of every document (for every word, with ``unit: words``, about three times the text)
    and are counted in slices of four million; memory further holds about 100 bytes a document.
    """

    makes = Documents

    documents: Input[Documents]
    unit: Unit = "lines"
    """What is compared: ``lines``, ``paragraphs`` (between blank lines), or ``words``: runs of ``words`` words."""
    per: Literal["site", "source", "corpus"] = "site"
    """Where documents are counted together: a site is a host of a source; files are their source's."""
    min_documents: int = Field(10, ge=2)
    """In how many documents a passage stands, at least, to be a repeated one; 2 for each copied passage."""
    min_share: float = Field(0.0, ge=0, le=1)
    """In what share of the documents counted together it stands, at least."""
    keep: Literal["first", "none"] = "first"
    """Which occurrence stays."""
    min_characters: int = Field(20, ge=1)
    """Shorter lines and paragraphs are left alone; characters of scripts without spaces count twice."""
    words: int = Field(50, ge=5)
    """Length of a run of words; in scripts without spaces every character is a word."""
    max_source_loss: float = Field(0.9, gt=0, le=1)
    """The step fails if nothing would be left of more than this share of the documents of one source."""
    min_source_documents: int = Field(20, ge=1)
    """Sources with fewer documents than this are exempt from ``max_source_loss``."""

    def run(self, context: Context) -> Result:
        documents = context.open(self.documents)
        folder = context.scratch / "passages"
        made = context.map_partitions(find_passages, self, documents.partitions, output=folder)
        work = self._cuts(documents.partitions, made, folder)
        results = context.map_rows(Cut(self, folder), work)
        self._check(documents, counts_of(results), results)
        result = result_of("drop_passages", results)
        by_source = (_OF_SOURCE, _LEFT_OF_SOURCE)
        return replace(result, metrics={n: c for n, c in result.metrics.items() if not n.startswith(by_source)})

    def _cuts(self, partitions: Sequence[Partition], made: Sequence[PartitionResult], folder: Path) -> list[Partition]:
        """Lay down per partition what to cut, and return partitions whose digests speak for that too."""
        files = [result.files[f"{result.name}.keys.npy"] for result in made]
        tables = [read_table(result.files[f"{result.name}.about.parquet"]) for result in made]
        starts = np.cumsum([0, *(table.num_rows for table in tables)])
        about = pa.concat_tables(tables).combine_chunks()
        in_order = precedence(about)
        rank = np.empty(len(in_order), np.int64)
        rank[in_order] = np.arange(len(in_order))
        _, group, sizes = np.unique(about["group"].to_numpy(), return_inverse=True, return_counts=True)
        # 0.07 × 100 is a little more than 7 in floating point.
        least = np.maximum(self.min_documents, np.ceil(sizes * self.min_share - 1e-9)).astype(np.int64)
        folder.mkdir(parents=True, exist_ok=True)  # where all passages were known, nothing has been written to it
        cuts = [folder / f"{partition.name}.cuts" for partition in partitions]
        for path in cuts:
            path.write_bytes(b"")
        for keys, numbers in repeated(files, starts[:-1], rank, group, least, self.keep == "first"):
            owner = np.searchsorted(starts, numbers, side="right") - 1
            for at in np.unique(owner).tolist():
                mine = owner == at
                with cuts[at].open("ab") as file:
                    file.write(np.stack([(numbers[mine] - starts[at]).astype(np.uint64), keys[mine]], axis=1))
        return [_with_cuts(partition, path) for partition, path in zip(partitions, cuts, strict=True)]

    def _check(self, documents: Documents, total: Mapping[str, int], results: Sequence[PartitionResult]) -> None:
        def of(prefix: str) -> dict[str, int]:
            return {name.removeprefix(prefix): count for name, count in total.items() if name.startswith(prefix)}

        def example(source: str) -> str:
            """A document of the source of which nothing is left."""
            for partition, result in zip(documents.partitions, results, strict=True):
                table = read_table(partition.path, ["id", "source", "url", "text"])
                left = set(read_table(result.files[result.name], ["id"])["id"].to_pylist())
                for row in table.to_pylist():
                    if row["source"] == source and row["id"] not in left:
                        return f"{row['url']}: {' '.join(row['text'].split())[:_EXAMPLE_CHARACTERS]!r}"
            return "none"

        check_source_loss(
            "drop_passages",
            of(_OF_SOURCE),
            of(_LEFT_OF_SOURCE),
            most=self.max_source_loss,
            smallest=self.min_source_documents,
            cause="for holding nothing but repeated passages",
            remedy="look whether its documents are copies of each other (`dedup` first), raise `min_documents`",
            example=example,
        )


def _with_cuts(partition: Partition, path: Path) -> Partition:
    """Sort what to cut by rows and keys; the partition's digest depends on it from now on."""
    cuts = np.fromfile(path, np.uint64).reshape(-1, 2)
    cuts = cuts[np.lexsort((cuts[:, 1], cuts[:, 0]))]
    cuts.tofile(path)
    return replace(partition, digest=digest_of_value([partition.digest, digest_of_bytes(cuts.tobytes())]))


def group_of(per: str, source: str, url: str) -> str:
    """Which documents are counted together with this one."""
    if per == "corpus":
        return ""
    host = urlsplit(url).hostname if per == "site" and "//" in url else None
    return f"{source}\n{host or ''}"


def find_passages(task: DropPassages, source: Path, output: Path, guard: Guard) -> dict[str, JsonValue]:
    """Write the keys of the documents' passages, and a table of the documents."""
    table = read_table(source, ["id", "text", "url", "source", "first_seen"])
    names = zip(table["source"].to_pylist(), table["url"].to_pylist(), strict=True)
    groups = np.array([group_key(group_of(task.per, name, url)) for name, url in names], np.uint64)
    texts = table["text"].to_pylist()
    keys = [found.keys for found in passages_of(texts, task.unit, task.words, task.min_characters)]
    save_keys(output.with_name(f"{output.name}.keys.npy"), keys, groups)
    about = table.select(["id", "first_seen"]).append_column("group", pa.array(groups))
    write_table(about, output.with_name(f"{output.name}.about.parquet"))
    return {"documents": len(texts)}


@dataclass(frozen=True)
class Cut(RowWork):
    """The documents without the passages to be cut; what to cut from a row is a column of it."""

    task: DropPassages
    folder: Path
    """Where it is laid down what to cut."""

    def load(self, source: Path, name: str) -> pa.Table:
        table = read_table(source)
        cuts = np.fromfile(self.folder / f"{name}.cuts", np.uint64).reshape(-1, 2)
        starts = np.searchsorted(cuts[:, 0], np.arange(len(table) + 1, dtype=np.uint64))
        column = pa.LargeListArray.from_arrays(pa.array(starts, pa.int64()), pa.array(np.ascontiguousarray(cuts[:, 1])))
        return table.append_column(_CUTS, column)

    def work(self, rows: pa.Table, guard: Guard) -> Worked:
        table, tally = rows.drop_columns([_CUTS]), Tally()
        documents = rows.select(["text", "url", "source", _CUTS]).to_pylist()
        cut = _texts_after(self.task, documents, tally)
        kept, texts = [], []
        for number, row in enumerate(documents):
            tally.row = number
            text, size = cut.get(number, row["text"]), len(row["text"].encode())
            tally.count(f"{_OF_SOURCE}{row['source']}")
            if number in cut and not text:
                tally.drop("repeated", size, row["url"], row["text"])
                continue
            tally.count(f"{_LEFT_OF_SOURCE}{row['source']}")
            tally.keep(size, text)
            kept.append(number)
            texts.append(text)
        left = table.take(pa.array(kept, pa.int64()))
        place = table.schema.get_field_index("text")
        changed = left.set_column(place, table.schema.field("text"), pa.array(texts, pa.string()))
        return Worked(changed, kept, tally)


def _texts_after(task: DropPassages, rows: Sequence[dict[str, Any]], tally: Tally) -> dict[int, str]:
    """What is left of the rows that something is cut from."""
    numbers = [number for number, row in enumerate(rows) if row[_CUTS]]
    texts = [rows[number]["text"] for number in numbers]
    left = {}
    for number, passages in zip(numbers, passages_of(texts, task.unit, task.words, task.min_characters), strict=True):
        tally.row, row = number, rows[number]
        group = group_key(group_of(task.per, row["source"], row["url"]))
        spans = passages.spans(np.isin(mixed(passages.keys ^ group), np.array(row[_CUTS], np.uint64)))
        if task.unit == "words":
            spans = with_punctuation(row["text"], spans)
        text = without(row["text"], spans)
        tally.count("cut.passages", len(spans))
        tally.count("cut.bytes", len(row["text"].encode()) - len(text.encode()))
        if text:
            tally.show(f"repeated {task.unit} cut", row["text"], text, row["url"])
        left[number] = text
    return left
