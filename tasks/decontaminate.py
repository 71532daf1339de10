"""Dropping or cutting documents that overlap an evaluation set."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import pyarrow as pa
from pydantic import Field, model_validator

from storage.artifact import JsonValue
from storage.corpus import Documents, Examples, read_table, write_table
from storage.errors import SourceError
from tasks.overlap.index import MOST_SETS, Matches, NgramIndex
from tasks.overlap.items import items_of
from tasks.overlap.spans import Span, excerpt, merged, pieces_around, spans_of_words
from tasks.rows import RowWork, Worked
from tasks.tally import Tally, result_of
from tasks.task import Context, Guard, Input, Result, Task


class Decontaminate(Task):
    """Drop or cut documents that overlap an evaluation set: that have ``ngram_words`` words in a row in common with it.

    Words are compared without case, punctuation and compatibility forms; in scripts without spaces
    every character is a word (see ``tasks.copies.shingles``). The practice is that of GPT-3 (Brown
    et al. 2020, appendix C: 13 words, a margin of 200 characters, pieces of at least 200 characters,
    documents in more than 10 pieces dropped, n-grams in more than 10 documents ignored), but that
    short items are matched whole, and that nothing is ignored unless ``common_in`` asks for it.

    What is found is there: hashes only say where to compare words. Time grows linearly with the
    text; memory is that of the evaluation sets (about 40 bytes a word, mapped) and one partition a worker.
    """

    makes = Documents
    names_its_inputs = True

    documents: Input[Documents]
    """Documents to be trained on."""
    against: tuple[Input[Examples | Documents], ...] = Field(min_length=1, max_length=MOST_SETS)
    """The evaluation sets: steps that make examples or documents, or ``{path: FOLDER}``."""
    splits: tuple[Literal["train", "validation"], ...] = Field(("train", "validation"), min_length=1)
    """The splits of examples that are looked for. With ``validation`` alone the rest may be trained on."""
    ngram_words: int = Field(13, ge=1, le=100)
    """Words in a row (characters, in scripts without spaces) that are an overlap."""
    short_item_words: int = Field(8, ge=1)
    """Items of fewer than ``ngram_words`` words are looked for whole if they have at least so many; others never."""
    common_in: int | None = Field(None, ge=1)
    """Ignore n-grams that more than so many documents have (licences, proverbs); null ignores none.
    Counted over all documents, so that a change of any partition has every partition looked at again."""
    action: Literal["drop", "cut"] = "drop"
    """``drop`` a document with an overlap, or ``cut`` the overlap out and join what remains as paragraphs."""
    margin_characters: int = Field(200, ge=0)
    """With ``cut``: what is cut on both sides of an overlap, up to the next white space if that is near."""
    piece_characters: int = Field(200, ge=1)
    """With ``cut``: shorter pieces are left out."""
    max_pieces: int = Field(10, ge=1)
    """With ``cut``: documents that fall into more pieces are dropped."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        names = [reference.name for reference in self.against]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"against: the name {name!r} is taken twice in the counts")
        if self.short_item_words > self.ngram_words:
            raise ValueError(
                f"short_item_words {self.short_item_words} is more than ngram_words {self.ngram_words}: lower it"
            )
        return self

    @property
    def names(self) -> list[str]:
        """The evaluation sets' names."""
        return [reference.name for reference in self.against]

    def run(self, context: Context) -> Result:
        """Raises SourceError for an evaluation set with nothing to look for, StepFailed if no document is left."""
        documents, sets = context.open(self.documents), [context.open(reference) for reference in self.against]
        folder = context.scratch / "index"
        items = [items_of(artifact, self.splits) for artifact in sets]
        counts = NgramIndex.build(folder, items, self.ngram_words, self.short_item_words)
        for name, met in zip(self.names, counts, strict=True):
            if not met["items"]:
                raise SourceError(
                    f"against: none of the {met['too_short']} items of {name} has {self.short_item_words} words, "
                    "so there is nothing to look for; give another set, or lower short_item_words"
                )
        payload = {"task": self, "index": str(folder), "common": None}
        ignored = 0
        if self.common_in is not None:
            payload["common"], ignored = str(folder / "common.npy"), self._find_common(context, payload)
        whole = [] if self.common_in is None else [documents]
        made = context.map_rows(Cleanse(payload), documents.partitions, depends_on=[*sets, *whole])
        return self._result(result_of("decontaminate", made), counts, ignored)

    def _find_common(self, context: Context, payload: dict[str, Any]) -> int:
        """Write down the n-grams that too many documents have; returns how many there are."""
        documents, sets = context.open(self.documents), [context.open(reference) for reference in self.against]
        found = context.map_partitions(
            count_partition, payload, documents.partitions, depends_on=sets, output=context.scratch / "counts"
        )
        counts = np.zeros(NgramIndex(Path(payload["index"])).size, np.int64)
        for result in found:
            table = read_table(result.files[result.name])
            counts[table["gram"].to_numpy()] += table["documents"].to_numpy()
        assert self.common_in is not None
        common = counts > self.common_in
        np.save(Path(payload["index"]) / "common.npy", common)
        return int(common.sum())

    def _result(self, result: Result, counts: list[dict[str, int]], ignored: int) -> Result:
        metrics = dict(result.metrics)
        for name, met in zip(self.names, counts, strict=True):
            metrics |= {f"items.{name}": met["items"], f"items_too_short.{name}": met["too_short"]}
            for count in ("contaminated", "overlap_characters"):
                metrics.setdefault(f"{count}.{name}", 0)
        for name in ("contaminated", "cut", "characters_cut"):
            metrics.setdefault(name, 0)
        if self.common_in is not None:
            metrics["common_ngrams_ignored"] = ignored
        headline = f"{result.headline}, {metrics['contaminated']:,.0f} overlapped"
        return replace(result, metrics=metrics, headline=headline)


@lru_cache(maxsize=2)
def _opened(folder: str, common: str | None) -> tuple[NgramIndex, Any]:
    """The index, and which n-grams are ignored, opened once per worker."""
    return NgramIndex(Path(folder)), np.load(common) if common else None


def _find(payload: dict[str, Any], texts: list[str]) -> Iterator[Matches]:
    """The overlaps of each text, in words of the normalised text."""
    index, common = _opened(payload["index"], payload["common"])
    for matches in index.matches(texts):
        yield matches if common is None or not len(matches) else matches.where(~common[matches.grams])


def count_partition(payload: dict[str, Any], source: Path, output: Path, guard: Guard) -> dict[str, JsonValue]:
    """Write how many documents of a partition have each n-gram."""
    counts: Counter[int] = Counter()
    for matches in _find({**payload, "common": None}, read_table(source, ["text"])["text"].to_pylist()):
        counts.update(set(matches.grams.tolist()))
    columns = {"gram": pa.array(sorted(counts), pa.int64())}
    columns["documents"] = pa.array([counts[gram] for gram in sorted(counts)], pa.int64())
    write_table(pa.table(columns), output)
    return {}


@dataclass(frozen=True)
class Cleanse(RowWork):
    """The work of ``Decontaminate`` on documents."""

    payload: dict[str, Any]
    """The task, where the index lies, and the file with the n-grams that are ignored."""

    def work(self, rows: pa.Table, guard: Guard) -> Worked:
        """Drop or cut the documents that overlap; the others stay as they are, in their order."""
        task, tally = self.payload["task"], Tally()
        texts, urls = rows["text"].to_pylist(), rows["url"].to_pylist()
        kept = []
        for number, matches in enumerate(_find(self.payload, texts)):
            tally.row, text = number, texts[number]
            size = len(text.encode())
            if not len(matches):
                tally.keep(size, text)
                kept.append(number)
                continue
            first = _count(self.payload, tally, urls[number], text, matches)
            reason, remains = ("overlap", "") if task.action == "drop" else _cut(self.payload, text, matches)
            if reason is not None:
                tally.drop(reason, size, urls[number], excerpt(text, first))
                continue
            tally.keep(size, remains)
            tally.count("cut")
            tally.count("characters_cut", len(text) - len(remains))
            tally.show("cut", text, remains, urls[number], after_is="cut")
            texts[number] = remains
            kept.append(number)
        column = rows.schema.get_field_index("text")
        changed = rows.set_column(column, rows.schema.field("text"), pa.array(texts, pa.string()))
        return Worked(changed.take(pa.array(kept, pa.int64())), kept, tally)


def _count(payload: dict[str, Any], tally: Tally, url: str, text: str, matches: Matches) -> Span:
    """Count a document's overlaps by evaluation set, and show them; returns where the first stands."""
    tally.count("contaminated")
    index, _ = _opened(payload["index"], payload["common"])
    spans = spans_of_words(text)
    for bit, name in enumerate(payload["task"].names):
        of_set = matches.where((matches.sets >> np.uint64(bit)) & np.uint64(1) == 1)
        if len(of_set):
            passages = _passages(spans, of_set)
            tally.count(f"contaminated.{name}")
            tally.count(f"overlap_characters.{name}", sum(end - start for start, end in passages))
            item = index.item_with(int(of_set.grams[0]))
            tally.show(f"overlaps {name}", excerpt(text, passages[0]), item, url, "document", name)
    return _passages(spans, matches)[0]


def _passages(spans: list[Span], matches: Matches) -> list[Span]:
    """Where the overlaps stand in the text, those that touch or overlap each other as one."""
    windows = zip(matches.starts.tolist(), matches.lengths.tolist(), strict=True)
    return merged((spans[start][0], spans[start + length - 1][1]) for start, length in windows)


def _cut(payload: dict[str, Any], text: str, matches: Matches) -> tuple[str | None, str]:
    """Why the document is dropped, or what remains of its text: never empty, and without any overlap."""
    task = payload["task"]
    while len(matches):
        pieces = pieces_around(text, _passages(spans_of_words(text), matches), task.margin_characters)
        if len(pieces) > task.max_pieces:
            return "overlap.pieces", ""
        text = "\n\n".join(piece for piece in pieces if len(piece) >= task.piece_characters)
        if not text:
            return "overlap.nothing_left", ""
        # Where two pieces were joined, an overlap may have come about.
        matches = next(_find(payload, [text]))
    return None, text
