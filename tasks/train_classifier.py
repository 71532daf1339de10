"""Train a small, fast text classifier from labelled documents."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import compress, islice, takewhile
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from storage.artifact import Classifier
from storage.corpus import Documents, Examples, is_validation
from storage.errors import UserError
from storage.identity import digest_of_text
from tasks.classifiers.linear import LinearClassifier
from tasks.classifiers.measure import report
from tasks.classifiers.ngrams import Counts, Ngrams, counts_of
from tasks.task import Context, Input, Kind, Result, Sample, Task

if TYPE_CHECKING:
    from tasks.classifiers.fit import Fitted

_MOST_LABELS = 1_000
_READ_ROWS = 1_000
_SHOWN = 6
_SHOWN_CHARACTERS = 1_000
_TEMPLATE_FROM = 20
"""From so many prompts on, what all of them begin and end with is taken for a template."""
_TEMPLATE_CHARACTERS = 5


class Labelled(NamedTuple):
    """A text, the label it should be given, and on which side of the split it is."""

    document_id: str
    text: str
    label: str
    held_out: bool


class Shown(NamedTuple):
    """What is kept of a text for a person to read, and its label."""

    excerpt: str
    label: str


class Side:
    """The texts on one side of the split: counted n-grams and labels."""

    def __init__(self) -> None:
        from tasks.classifiers.fit import CountsBuilder

        self.texts: list[Shown] = []
        self._builder = CountsBuilder()

    def add(self, counts: Counts, texts: Sequence[Labelled], chosen: NDArray[np.bool_]) -> None:
        """Take the texts that are chosen, (texts)."""
        self._builder.add(counts, chosen)
        taken = compress(texts, chosen)
        self.texts += [Shown(text.text[:_SHOWN_CHARACTERS] if text.held_out else "", text.label) for text in taken]

    def counts(self) -> Counts:
        return self._builder.counts()

    def targets(self, labels: Sequence[str]) -> NDArray[np.int64]:
        """Position of each text's label, (texts)."""
        position = {label: number for number, label in enumerate(labels)}
        return np.array([position[text.label] for text in self.texts], dtype=np.int64)


class TrainClassifier(Ngrams, Task):
    """Learn to tell labels from texts: logistic regression over hashed n-grams of words, letters and signs.

    Documents are held out by their ids, and the classifier is measured on them: precision, recall
    and F1 of each label, at thresholds too, in ``report.json``. The time grows linearly with the
    text; memory holds the distinct n-grams of each training text (20 bytes each).
    """

    makes: ClassVar[Kind] = Classifier
    libraries: ClassVar[tuple[str, ...]] = ("safetensors", "scikit-learn", "scipy", "threadpoolctl")

    examples: Input[Examples] | None = None
    """Labelled texts: the prompt is the text, the response its label. Make them with ``template: "{prompt}"``."""
    classes: dict[str, Input[Documents]] = Field(default_factory=dict)
    """Documents by label: all documents of a step are of one label, ``{good: encyclopedia, other: web}``."""
    documents_per_label: int = Field(100_000, ge=1)
    """Of a label in ``classes`` that has more documents, about so many are taken, chosen by their ids."""
    validation_fraction: float = Field(0.1, ge=0, lt=1)
    """The share of documents, by id, that the classifier is measured on and not trained on. What ``examples``
    hold out is held out here as well."""
    regularisation: float = Field(0.1, gt=0)
    """Strength of the penalty on large weights; the fewer or noisier the labels, the larger."""
    balanced: bool = True
    """Whether each label weighs the same in training, whatever its number of documents. False leaves rare labels
    as unlikely as they are in the training documents."""
    iterations: int = Field(200, ge=1)
    """Passes over the training documents at most; the fit ends before when it has converged."""

    @model_validator(mode="after")
    def _has_texts(self) -> Self:
        if self.examples is None and len(self.classes) < 2:
            raise ValueError("give examples, or classes with at least two labels: {good: STEP, other: STEP}")
        if self.word_ngrams == 0 and self.letter_ngrams == 0 and self.piece_ngrams is None:
            raise ValueError("word_ngrams, letter_ngrams and piece_ngrams are all 0: there is nothing to count")
        return self

    def run(self, context: Context) -> Result:
        """Write ``classifier.json``, ``weights.safetensors`` and ``report.json``."""
        from tasks.classifiers.fit import fit

        training, held_out = Side(), Side()
        for counts, texts in _counted(self._texts(context), self):
            chosen = np.array([text.held_out for text in texts])
            training.add(counts, texts, ~chosen)
            held_out.add(counts, texts, chosen)
            context.progress(len(training.texts) + len(held_out.texts), None, "documents", "counting n-grams")
        labels = _labels_of(training, held_out)
        context.progress(len(training.texts), None, "documents", "fitting")
        fitted = fit(
            training.counts(),
            training.targets(labels),
            labels,
            Ngrams.model_validate({name: getattr(self, name) for name in Ngrams.model_fields}),
            regularisation=self.regularisation,
            balanced=self.balanced,
            iterations=self.iterations,
        )
        fitted.classifier.save(context.output)
        found = _measured(fitted, training, held_out)
        text = json.dumps(found, indent=2, ensure_ascii=False, allow_nan=False)
        (context.output / "report.json").write_text(text + "\n", encoding="utf-8")
        return Result(
            counts={"labels": list(labels), "training": len(training.texts), "held_out": len(held_out.texts)},
            metrics=_metrics(found, fitted),
            headline=_headline(found, labels),
            samples=_mistakes(fitted.classifier, held_out),
        )

    def _texts(self, context: Context) -> Iterator[Labelled]:
        """Every labelled text."""
        if self.examples is not None:
            yield from self._of_examples(context.open(self.examples))
        for label, reference in self.classes.items():
            yield from self._of_documents(label, context.open(reference))

    def _of_examples(self, examples: Examples) -> Iterator[Labelled]:
        for split in ("train", "validation"):
            rows = examples.split(split).to_pylist()
            _refuse_template(rows)
            for row in rows:
                held_out = split == "validation" or is_validation(row["document_id"], self.validation_fraction)
                yield Labelled(row["document_id"], row["prompt"], row["response"].strip(), held_out)

    def _of_documents(self, label: str, documents: Documents) -> Iterator[Labelled]:
        share = self.documents_per_label / max(documents.rows, 1)
        for table in documents.tables(["id", "text"]):
            for batch in table.to_batches(max_chunksize=_READ_ROWS):
                for row in batch.to_pylist():
                    if share >= 1 or int(digest_of_text(f"classifier\n{row['id']}")[:13], 16) / 16**13 < share:
                        held_out = is_validation(row["id"], self.validation_fraction)
                        yield Labelled(row["id"], row["text"], label, held_out)


def _counted(texts: Iterator[Labelled], ngrams: Ngrams) -> Iterator[tuple[Counts, list[Labelled]]]:
    """The texts' n-grams, a few texts at a time."""
    while chunk := list(islice(texts, _READ_ROWS)):
        rest = iter(chunk)
        for counts in counts_of([text.text for text in chunk], ngrams):
            yield counts, list(islice(rest, len(counts.starts) - 1))


def _refuse_template(rows: Sequence[dict[str, Any]]) -> None:
    """Raise UserError if all prompts stand in one frame, which the texts to be classified will not have."""
    if len(rows) < _TEMPLATE_FROM:
        return
    before = _shared_start([row["prompt"] for row in rows])
    after = _shared_start([row["prompt"][::-1] for row in rows])[::-1]
    if min(len(before), len(after)) >= _TEMPLATE_CHARACTERS:
        raise UserError(
            f"train_classifier.examples: every prompt is of the form {before!r} … {after!r}; "
            'make the examples with `template: "{prompt}"`, so that the prompt is the text alone'
        )


def _shared_start(texts: Sequence[str]) -> str:
    """What all the texts begin with: what the first and the last in their order do."""
    pairs = zip(min(texts), max(texts), strict=False)
    return "".join(one for one, _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def _labels_of(training: Side, held_out: Side) -> tuple[str, ...]:
    """The labels in their order. Raises UserError if they cannot be learnt."""
    counted = Counter(text.label for text in training.texts)
    if missing := sorted({text.label for text in held_out.texts} - set(counted)):
        raise UserError(
            f"train_classifier: no document labelled {missing[0]!r} is left to train on; give more, "
            "or hold out fewer (validation_fraction)"
        )
    if not 2 <= len(counted) <= _MOST_LABELS:
        shown = ", ".join(repr(label[:40]) for label in sorted(counted)[:3]) or "none"
        raise UserError(
            f"train_classifier: {len(counted):,} different labels among {len(training.texts):,} training documents "
            f"({shown}{', …' if len(counted) > 3 else ''}); give documents of 2 to {_MOST_LABELS:,} labels"
        )
    return tuple(sorted(counted))


def _measured(fitted: Fitted, training: Side, held_out: Side) -> dict[str, Any]:
    """What ``report.json`` says."""
    labels = fitted.classifier.labels
    found: dict[str, Any] = {"training_documents": dict(sorted(Counter(t.label for t in training.texts).items()))}
    if held_out.texts:
        probabilities = fitted.classifier.of_counts(held_out.counts())
        found["held_out"] = report(labels, held_out.targets(labels), probabilities)
    return found


def _metrics(found: dict[str, Any], fitted: Fitted) -> dict[str, float]:
    metrics: dict[str, float] = {
        "training_documents": sum(found["training_documents"].values()),
        "iterations": fitted.iterations,
        "converged": float(fitted.converged),
    }
    if measured := found.get("held_out"):
        metrics |= {name: measured[name] for name in ("accuracy", "precision", "recall", "f1")}
        metrics["held_out_documents"] = measured["documents"]
        metrics["calibration_error"] = measured["calibration"]["expected_error"]
        for label, row in measured["labels"].items():
            metrics |= {f"{label}.{name}": row[name] for name in ("precision", "recall", "f1", "documents")}
    return metrics


def _headline(found: dict[str, Any], labels: Sequence[str]) -> str:
    measured = found.get("held_out")
    if not measured:
        return f"{len(labels)} labels, not measured: no document is held out"
    return f"F1 {measured['f1']:.2f} on {measured['documents']:,} held-out documents"


def _mistakes(classifier: LinearClassifier, held_out: Side) -> list[Sample]:
    """The held-out texts that are given a wrong label with the most confidence."""
    if not held_out.texts:
        return []
    probabilities = classifier.of_counts(held_out.counts())
    predicted = probabilities.argmax(axis=1)
    wrong = np.flatnonzero(predicted != held_out.targets(classifier.labels))
    worst = wrong[np.argsort(-probabilities[wrong].max(axis=1), kind="stable")][:_SHOWN]
    return [
        Sample(
            f"labelled {held_out.texts[n].label}, taken for {classifier.labels[predicted[n]]} "
            f"({probabilities[n].max():.2f})",
            held_out.texts[n].excerpt,
        )
        for n in worst
    ]
