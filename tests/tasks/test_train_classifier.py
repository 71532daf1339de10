"""A classifier is learnt, measured on documents it has not seen, and read again without any library's format."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from threadpoolctl import threadpool_limits

from storage.corpus import is_validation
from storage.errors import SourceError, UserError
from tasks.classifiers.interface import load
from tasks.classifiers.linear import LinearClassifier, features
from tasks.classifiers.ngrams import count
from tasks.train_classifier import TrainClassifier
from tests.helpers import SHARED, Outcome, run_task
from tests.made import made_examples
from tests.tasks.corpora import make_documents

KITCHEN, COURT = (
    text.split()
    for text in (
        "knead the dough and let it rest then bake it in a hot oven until the crust is brown",
        "the judge heard the witness and the court ruled that the appeal was to be dismissed",
    )
)
SEA = list("潮水退去以后渔民把船拖上沙滩修补破旧的渔网等待风浪平息")
HILL = list("山谷里的果园开满白花蜜蜂飞来飞去农夫们忙着修剪枝条")


def pairs_of(words: dict[str, list[str]], each: int, glue: str = " ", seed: int = 0) -> list[tuple[str, str]]:
    """Texts of twelve words drawn from each label's, and from all labels' now and then."""
    rng = np.random.default_rng(seed)
    everything = [word for some in words.values() for word in some]
    made = []
    for number in range(each):
        for label, some in words.items():
            drawn = [str(rng.choice(some if rng.random() < 0.8 else everything)) for _ in range(12)]
            made.append((glue.join([*drawn, str(number)]), label))
    return made


def train(folder: Path, pairs: list[tuple[str, str]], name: str = "step", **settings: Any) -> Outcome:
    examples = made_examples(folder / f"{name}-examples", {"train": pairs, "validation": []})
    task = TrainClassifier.model_validate({"examples": "e", **settings})
    return run_task(task, {"examples": examples}, folder, name=name)


def report_of(outcome: Outcome) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(outcome.artifact.path("report.json").read_text("utf-8"))
    return found


ENGLISH = pairs_of({"kitchen": KITCHEN, "court": COURT}, 150)
CHINESE = pairs_of({"海": SEA, "山": HILL}, 150, glue="")


@pytest.mark.parametrize(("pairs", "sure"), [(ENGLISH, "bake the dough"), (CHINESE, "渔民修补渔网")])
def test_labels_are_learnt_and_measured(tmp_path: Path, pairs: list[tuple[str, str]], sure: str) -> None:
    outcome = train(tmp_path, pairs)
    held_out = report_of(outcome)["held_out"]
    assert held_out["f1"] > 0.95
    expected = sum(is_validation(f"train{n:04}", 0.1) for n in range(len(pairs)))
    assert held_out["documents"] == expected
    assert outcome.result.headline == f"F1 {held_out['f1']:.2f} on {expected} held-out documents"
    assert outcome.result.metrics["f1"] == held_out["f1"]
    classifier = load(outcome.artifact.folder)
    assert classifier.labels == tuple(sorted({label for _, label in pairs}))
    likely = classifier.probabilities([sure])
    assert likely.dtype == np.float32
    assert classifier.labels[int(likely[0].argmax())] == pairs[0][1]


def test_classes_take_the_documents_of_steps_by_label(tmp_path: Path) -> None:
    made = {}
    for label in ("kitchen", "court", "sea"):
        words = {"kitchen": KITCHEN, "court": COURT, "sea": SEA}[label]
        texts = {f"{label}/{n}": text for n, (text, _) in enumerate(pairs_of({label: words}, 80))}
        made[f"classes.{label}"] = make_documents(tmp_path / label, [texts])
    task = TrainClassifier.model_validate({"classes": {"kitchen": "k", "court": "c", "sea": "s"}})
    outcome = run_task(task, made, tmp_path)
    assert load(outcome.artifact.folder).labels == ("court", "kitchen", "sea")
    assert report_of(outcome)["held_out"]["accuracy"] == 1
    thinned = run_task(task.model_copy(update={"documents_per_label": 40}), made, tmp_path, name="thin")
    taken = report_of(thinned)["training_documents"]
    assert all(20 <= number <= 55 for number in taken.values())


def test_what_the_examples_hold_out_is_held_out(tmp_path: Path) -> None:
    examples = made_examples(tmp_path / "examples", {"train": ENGLISH[:200], "validation": ENGLISH[200:]})
    task = TrainClassifier.model_validate({"examples": "e", "validation_fraction": 0})
    outcome = run_task(task, {"examples": examples}, tmp_path)
    assert report_of(outcome)["held_out"]["documents"] == len(ENGLISH) - 200
    bare = train(tmp_path, ENGLISH, "bare", validation_fraction=0)
    assert "held_out" not in report_of(bare)
    assert bare.result.headline == "2 labels, not measured: no document is held out"


def objective(classifier: LinearClassifier, texts: list[str], targets: list[int], regularisation: float) -> float:
    """The function that the fit minimises, two labels balanced, written out in a loop."""
    counts = count(texts, classifier.ngrams)
    values = features(counts, classifier.idf)
    weights = classifier.weights.astype(np.float64)
    total = 0.0
    for number, target in enumerate(targets):
        part = slice(counts.starts[number], counts.starts[number + 1])
        scores = [float(weights[n, counts.buckets[part]] @ values[part]) + float(classifier.bias[n]) for n in (0, 1)]
        nats = np.log(np.exp(scores[0]) + np.exp(scores[1])) - scores[target]
        total += nats * len(targets) / (2 * targets.count(target))
    difference = weights[1] - weights[0]
    return total + regularisation / 2 * float(difference @ difference)


def test_the_fit_ends_where_the_loss_is_least(tmp_path: Path) -> None:
    pairs = ENGLISH[:60] + [pair for pair in ENGLISH[60:120] if pair[1] == "court"]
    outcome = train(tmp_path, pairs, validation_fraction=0, regularisation=0.5, buckets=1024)
    classifier = load(outcome.artifact.folder)
    assert isinstance(classifier, LinearClassifier)
    texts, targets = [text for text, _ in pairs], [classifier.labels.index(label) for _, label in pairs]
    least = objective(classifier, texts, targets, 0.5)
    rng = np.random.default_rng(0)
    for _ in range(30):
        step = rng.normal(0, 0.02, 1024).astype(np.float32)
        moved = LinearClassifier(
            classifier.labels,
            classifier.ngrams,
            classifier.weights + np.stack([-step, step]),
            classifier.bias + np.float32(rng.normal(0, 0.02)) * np.array([-1, 1], np.float32),
            classifier.idf,
        )
        assert objective(moved, texts, targets, 0.5) > least - 1e-5


def test_probabilities_are_those_of_scikit_learns_own_pipeline(tmp_path: Path) -> None:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    words = {"kitchen": KITCHEN, "court": COURT, "both": KITCHEN[:8] + COURT[:8]}
    pairs = pairs_of(words, 60)
    texts, labels = [text for text, _ in pairs], [label for _, label in pairs]
    found = load(train(tmp_path, pairs, validation_fraction=0, buckets=1 << 22).artifact.folder).probabilities(texts)
    vectors = TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2), token_pattern=r"\w+").fit_transform(texts)
    solver = LogisticRegression(C=10, class_weight="balanced", max_iter=200).fit(vectors, labels)
    assert np.abs(found - solver.predict_proba(vectors)).max() < 1e-3


def test_the_same_texts_give_the_same_bytes_whatever_the_threads(tmp_path: Path) -> None:
    digests = set()
    for threads in (1, 4):
        with threadpool_limits(threads):
            outcome = train(tmp_path, ENGLISH + CHINESE, name=f"with{threads}", piece_ngrams=[1, 8])
        digests.add(outcome.artifact.digest)
    assert len(digests) == 1


def test_a_text_is_judged_alone(tmp_path: Path) -> None:
    classifier = load(train(tmp_path, ENGLISH).artifact.folder)
    texts = [text for text, _ in ENGLISH[:20]] + ["", "\ud800", "x" * 1_000_000, "\x00 "]
    together = classifier.probabilities(texts)
    assert np.allclose(together.sum(axis=1), 1)
    for number, text in enumerate(texts):
        assert np.array_equal(classifier.probabilities([text])[0], together[number])
    assert classifier.probabilities([]).shape == (0, 2)


@pytest.mark.parametrize(
    ("pairs", "settings", "message"),
    [
        (ENGLISH[:1], {"validation_fraction": 0}, "1 different labels among 1 training documents ('kitchen')"),
        ([(text, text) for text, _ in pairs_of({"a": KITCHEN}, 1_100)], {"validation_fraction": 0}, "1,100 different"),
        ([(f"Question: {t}\nAnswer: ", label) for t, label in ENGLISH], {}, 'make the examples with `template: "{prom'),
    ],
)
def test_texts_that_teach_nothing_are_refused(
    tmp_path: Path, pairs: list[tuple[str, str]], settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError) as error:
        train(tmp_path, pairs, **settings)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_label_that_is_held_out_whole_is_refused(tmp_path: Path) -> None:
    examples = made_examples(tmp_path / "examples", {"train": ENGLISH[:50], "validation": [("a text", "rare")]})
    with pytest.raises(UserError, match="no document labelled 'rare' is left to train on"):
        run_task(TrainClassifier.model_validate({"examples": "e"}), {"examples": examples}, tmp_path)


@pytest.mark.parametrize(
    "settings",
    [{}, {"classes": {"only": "one"}}, {"examples": "e", "word_ngrams": 0, "letter_ngrams": 0}],
)
def test_settings_that_cannot_be_trained_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        TrainClassifier.model_validate(settings)


@pytest.mark.parametrize("damage", ["version", "labels", "shape", "truncated", "absent"])
def test_a_damaged_folder_is_one_line(tmp_path: Path, damage: str) -> None:
    folder = train(tmp_path, ENGLISH[:60]).artifact.folder
    description, weights = folder / "classifier.json", folder / "weights.safetensors"
    content = json.loads(description.read_text())
    if damage == "version":
        content["version"] = 99
    elif damage == "labels":
        content["labels"] = ["one"]
    elif damage == "shape":
        content["ngrams"]["buckets"] = 1024
    elif damage == "truncated":
        weights.write_bytes(weights.read_bytes()[:1000])
    else:
        weights.unlink()
    description.write_text(json.dumps(content))
    with pytest.raises(SourceError) as error:
        load(folder)
    assert "\n" not in str(error.value)


@pytest.mark.skipif(not (SHARED / "sentiment").exists(), reason="../shared/data is absent")
def test_opinions_of_films(tmp_path: Path) -> None:
    with zipfile.ZipFile(SHARED / "sentiment" / "sentence_polarity.zip") as archive:
        pairs = [
            (line.strip(), label)
            for label in ("neg", "pos")
            for line in archive.read(f"sentence_polarity/rt-polarity.{label}").decode("latin-1").splitlines()
        ]
    outcome = train(tmp_path, pairs)
    assert outcome.result.metrics["held_out_documents"] > 1_000
    assert outcome.result.metrics["f1"] > 0.76
