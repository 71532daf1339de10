"""Have people judge a sample of documents, and learn from it what each rule of a filter is worth."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator

from storage.artifact import JsonValue
from storage.corpus import EXAMPLES_SCHEMA, Documents, Examples, is_validation, table_of, write_table
from storage.errors import SourceError, StepFailed
from tasks.judging.agreement import Estimate, agreement, estimate
from tasks.judging.judgements import Consensus, Judgement, consensus, read_judgements
from tasks.judging.sample import Population, Stratum, survey, texts_of, write_sample
from tasks.sources.paths import files_at
from tasks.task import Context, Input, Kind, Outside, Result, Sample, Task, World

_SHOWN = 8
_SHOWN_CHARACTERS = 1_000
_PLACE = "quality_check.judgements"


class QualityCheck(Task):
    """Draw documents for people to judge (``sample.csv``), and read back what they say.

    Give it documents that a filter has tagged (``action: tag``): those without a tag count as kept.
    Every stratum (a rule, a source, a language) has documents in the sample, whatever its size;
    the estimates give each its true weight. Judged documents become examples, which
    ``train_classifier`` and ``finetune`` take; before anything is judged there are none.
    Memory holds the sample, not the corpus.
    """

    makes: ClassVar[Kind] = Examples

    documents: Input[Documents]
    """Documents to judge."""
    by: tuple[Literal["source", "language"], ...] = ("source", "language")
    """What sets documents apart in the sample, besides the rule that would drop them first."""
    per_stratum: int = Field(20, ge=1)
    """Documents that are drawn of each stratum."""
    max_documents: int = Field(2_000, ge=1)
    """Documents in the sample: where there would be more, each stratum gives fewer (one at least)."""
    text_characters: int = Field(2_000, ge=100, le=30_000)
    """Characters of a document that the spreadsheet shows; the examples hold the whole text."""
    judgements: Annotated[tuple[str, ...], Outside()] = ()
    """Filled-in copies of ``sample.csv``: paths, folders or globs. Every judge has a file, or a name in its
    column ``judge``."""
    response: Literal["verdict", "label"] = "verdict"
    """What the examples answer: ``accept`` or ``reject``, or what is in the column ``label``."""
    validation_fraction: float = Field(0.1, ge=0, lt=1)
    """The share of judged documents, by id, that the examples hold out."""

    @field_validator("judgements", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    def outside(self, world: World) -> JsonValue:
        """Names and contents of the judgements: the names too, since they stand for judges without one."""
        return [[name, world.digest_of_file(path)] for name, path in self._files(world)]

    def _files(self, world: World) -> list[tuple[str, Path]]:
        """Name to show, and path, of each file; SourceError if one of the settings means none."""
        found: dict[str, Path] = {}
        for setting in self.judgements:
            root, files = files_at(world.folder, setting, _PLACE)
            for file in files:
                other = found.setdefault(file.name, root / file.name)
                if other != root / file.name:
                    raise SourceError(
                        f"{_PLACE}: two files are called {file.name!r}; rename one, since names tell judges"
                    )
        return sorted(found.items())

    def run(self, context: Context) -> Result:
        """Write ``sample.csv``, ``agreement.json``, ``train.parquet`` and ``validation.parquet``."""
        documents = context.open(self.documents)
        judgements = read_judgements(self._files(context.world))
        asked = {judgement.document for judgement in judgements}
        population = survey(documents, self.by, self.per_stratum, self.max_documents, asked)
        if not population.sizes:
            raise StepFailed("quality_check: there is no document to judge")
        _check_known(judgements, population)
        rows = texts_of(documents, population.drawn.keys() | population.known.keys())
        write_sample(context.output / "sample.csv", population.drawn, rows, self.text_characters)
        said = {d: what for d, what in consensus(judgements).items() if d in population.known}
        report = report_of(judgements, said, population)
        text = json.dumps(report, indent=2, ensure_ascii=False, allow_nan=False)
        (context.output / "agreement.json").write_text(text + "\n", encoding="utf-8")
        train, held_out = self._write_examples(context.output, said, rows)
        return Result(
            counts={"train": train, "validation": held_out},
            metrics=_metrics(report) | {"train.examples": train, "validation.examples": held_out},
            headline=_headline(report),
            samples=_disputed(judgements, said, rows) or _to_judge(population, rows),
        )

    def _write_examples(
        self, folder: Path, said: Mapping[str, Consensus], rows: Mapping[str, Mapping[str, Any]]
    ) -> tuple[int, int]:
        """Examples from judged documents; how many to train on, and how many are held out."""
        splits: dict[bool, list[dict[str, Any]]] = {False: [], True: []}
        for document, what in sorted(said.items()):
            answer = what.verdict if self.response == "verdict" else what.label
            if answer:
                row = {"id": document, "document_id": document, "prompt": rows[document]["text"], "response": answer}
                held_out = is_validation(document, self.validation_fraction)
                splits[held_out].append(row | {"source": rows[document]["source"]})
        for held_out, part in splits.items():
            write_table(
                table_of(part, EXAMPLES_SCHEMA), folder / ("validation.parquet" if held_out else "train.parquet")
            )
        return len(splits[False]), len(splits[True])


def _check_known(judgements: Sequence[Judgement], population: Population) -> None:
    """Raise SourceError if the judgements are mostly about other documents. (Some may have left the corpus.)"""
    unknown = [judgement for judgement in judgements if judgement.document not in population.known]
    if 2 * len(unknown) > len(judgements):
        raise SourceError(
            f"{unknown[0].place}: there is no document with id {unknown[0].document!r} ({len(unknown)} of "
            f"{len(judgements)} judgements are of unknown documents); were they made for another step, or did a "
            "spreadsheet change the ids?"
        )


@dataclass(frozen=True)
class _Judged:
    """A document with a verdict, and how many documents it stands for."""

    rejected: bool
    tags: tuple[str, ...]
    weight: float


def report_of(judgements: Sequence[Judgement], said: Mapping[str, Consensus], population: Population) -> dict[str, Any]:
    """What ``agreement.json`` says: the sample, the judges' agreement, and estimates for rules and kept documents."""
    known = [judgement for judgement in judgements if judgement.document in population.known]
    report: dict[str, Any] = {
        "documents": sum(population.sizes.values()),
        "strata": [
            {**stratum._asdict(), "documents": size, "sampled": drawn}
            for (stratum, size), drawn in _with_drawn(population)
        ],
        "judgements": {
            "read": len(judgements),
            "unknown_document": len(judgements) - len(known),
            "documents": len(said),
            "disputed": sum(not what.verdict and not what.label for what in said.values()),
        },
    }
    for name in ("verdict", "label"):
        ratings: dict[str, dict[str, str]] = {}
        for judgement in known:
            if getattr(judgement, name):
                ratings.setdefault(judgement.judge, {})[judgement.document] = getattr(judgement, name)
        if ratings:
            report[name] = agreement(ratings)
    return report | _estimates(said, population)


def _with_drawn(population: Population) -> list[tuple[tuple[Stratum, int], int]]:
    drawn = Counter(population.drawn.values())
    return [((stratum, size), drawn[stratum]) for stratum, size in sorted(population.sizes.items())]


def _estimates(said: Mapping[str, Consensus], population: Population) -> dict[str, Any]:
    """What people would say of all documents: share of each rule's drops, and of all, that they would drop too
    (precision), share of kept documents that they would drop, and share of those they would drop that the
    filter drops (recall)."""
    verdicts = {document: what.verdict for document, what in said.items() if what.verdict}
    per_stratum = Counter(population.known[document][0] for document in verdicts)
    judged = []
    for document, verdict in verdicts.items():
        stratum, tags = population.known[document]
        judged.append(_Judged(verdict == "reject", tags, population.sizes[stratum] / per_stratum[stratum]))
    found: dict[str, Any] = {"rules": {}}
    for rule, documents in sorted(population.tagged.items()):
        share = _share_rejected([one for one in judged if rule in one.tags])
        found["rules"][rule] = {"documents": documents, **({"precision": share.as_json()} if share else {})}
    kept = _share_rejected([one for one in judged if not one.tags])
    found["kept"] = {"documents": population.kept, **({"rejected": kept.as_json()} if kept else {})}
    if dropped := _share_rejected([one for one in judged if one.tags]):
        found["filter"] = {"precision": dropped.as_json()}
    bad = [one for one in judged if one.rejected]
    if bad and kept:  # recall needs documents of which a rule had nothing to say
        recall = estimate([bool(one.tags) for one in bad], [one.weight for one in bad])
        found.setdefault("filter", {})["recall"] = recall.as_json()
    return found


def _share_rejected(judged: Sequence[_Judged]) -> Estimate | None:
    """The share of documents that people would drop; None where nothing is judged."""
    return estimate([one.rejected for one in judged], [one.weight for one in judged]) if judged else None


def _metrics(report: Mapping[str, Any]) -> dict[str, float]:
    metrics: dict[str, float] = {
        "documents": report["documents"],
        "strata": len(report["strata"]),
        "sampled": sum(stratum["sampled"] for stratum in report["strata"]),
    }
    metrics |= {f"judgements.{name}": value for name, value in report["judgements"].items()}
    for name in ("verdict", "label"):
        found = report.get(name, {})
        metrics |= {f"{name}.{n}": found[n] for n in ("agreement", "fleiss_kappa") if found.get(n) is not None}
        for pair in found.get("pairs", []):
            if pair["kappa"] is not None:
                metrics[f"{name}.kappa.{'.'.join(pair['judges'])}"] = pair["kappa"]
    estimates = {f"rule.{rule}.precision": figures.get("precision") for rule, figures in report["rules"].items()}
    estimates["kept.rejected"] = report["kept"].get("rejected")
    estimates |= {f"filter.{name}": value for name, value in report.get("filter", {}).items()}
    for name, value in estimates.items():
        if value:
            metrics |= {name: value["share"], f"{name}.low": value["low"], f"{name}.high": value["high"]}
    return metrics


def _headline(report: Mapping[str, Any]) -> str:
    judged = report["judgements"]["documents"]
    if not judged:
        sampled = sum(stratum["sampled"] for stratum in report["strata"])
        return f"{sampled:,} documents to judge, in {len(report['strata']):,} strata"
    parts = [f"{judged:,} documents judged"]
    if precision := report.get("filter", {}).get("precision"):
        parts.append(f"{precision['share']:.0%} of drops right")
    if kept := report["kept"].get("rejected"):
        parts.append(f"{kept['share']:.0%} of kept bad")
    return ", ".join(parts)


def _disputed(
    judgements: Sequence[Judgement], said: Mapping[str, Consensus], rows: Mapping[str, Mapping[str, Any]]
) -> list[Sample]:
    """Documents that judges do not agree on."""
    verdicts: dict[str, dict[str, str]] = {}
    for judgement in judgements:
        if judgement.verdict and judgement.document in said:
            verdicts.setdefault(judgement.document, {})[judgement.judge] = judgement.verdict
    return [
        Sample("judges differ: " + ", ".join(f"{j} {v}" for j, v in sorted(by.items())), _excerpt(rows[document]))
        for document, by in sorted(verdicts.items())
        if len(set(by.values())) > 1
    ][:_SHOWN]


def _to_judge(population: Population, rows: Mapping[str, Mapping[str, Any]]) -> list[Sample]:
    """The first document of each reason."""
    shown: dict[str, Sample] = {}
    for document, stratum in population.drawn.items():
        title = f"would be dropped: {stratum.reason}" if stratum.reason else "kept"
        shown.setdefault(stratum.reason, Sample(title, _excerpt(rows[document])))
    return list(shown.values())[:_SHOWN]


def _excerpt(row: Mapping[str, Any]) -> str:
    return f"{row['url']}\n\n{row['text'][:_SHOWN_CHARACTERS]}"
