"""Documents are dropped or tagged by what a classifier says of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from storage.artifact import Artifact, Classifier
from storage.corpus import Documents
from storage.errors import UserError
from tasks.classifiers.interface import load
from tasks.filter import Filter
from tests.helpers import Outcome, run_task
from tests.tasks.classifiers.networks import made_text_classifier
from tests.tasks.corpora import make_documents, rows_of
from tests.tasks.test_train_classifier import COURT, HILL, KITCHEN, SEA, pairs_of, train

WORDS = {"kitchen": KITCHEN, "court": COURT, "海": SEA, "山": HILL}
TEXTS = {
    "bread": "Knead the dough and let it rest, then bake it until the crust is brown.",
    "appeal": "The judge heard the witness and ruled that the appeal was to be dismissed.",
    "boats": "潮水退去以后，渔民把船拖上沙滩，修补破旧的渔网。",
    "orchard": "山谷里的果园开满白花，农夫们忙着修剪枝条。",
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    pairs = pairs_of({name: WORDS[name] for name in ("kitchen", "court")}, 80)
    pairs += pairs_of({name: WORDS[name] for name in ("海", "山")}, 80, glue="")
    return train(tmp_path_factory.mktemp("classifier"), pairs).artifact


def filtered(tmp_path: Path, model: Artifact, *rules: Any, name: str = "step", **settings: Any) -> Outcome:
    documents = make_documents(tmp_path / f"{name}-in", [TEXTS])
    task = Filter.model_validate({"documents": "d", "rules": rules, **settings})
    inputs = {slot: documents if slot == "documents" else model for slot in task.inputs()}
    return run_task(task, inputs, tmp_path, name=name, workers=1)


def kept(outcome: Outcome) -> set[str]:
    assert isinstance(outcome.artifact, Documents)
    return set(rows_of(outcome.artifact))


def test_what_is_surely_or_hardly_the_label_is_dropped(tmp_path: Path, trained: Artifact) -> None:
    above = filtered(tmp_path, trained, {"classifier": "c", "label": "court", "above": 0.5})
    assert kept(above) == {"bread", "boats", "orchard"}
    assert above.result.metrics["dropped.classifier.court"] == 1
    below = filtered(tmp_path, trained, {"classifier": "c", "label": "海", "below": 0.5}, name="below")
    assert kept(below) == {"boats"}
    assert below.result.metrics["dropped.classifier.海"] == 3
    both = filtered(
        tmp_path,
        trained,
        {"classifier": "c", "label": "court", "above": 0.5},
        {"classifier": "c", "label": "山", "above": 0.5},
        name="both",
    )
    assert kept(both) == {"bread", "boats"}


def test_documents_can_be_tagged_instead(tmp_path: Path, trained: Artifact) -> None:
    rules = [{"classifier": "c", "label": label, "above": 0.5} for label in ("kitchen", "海")]
    outcome = filtered(tmp_path, trained, *rules, "length", action="tag")
    assert isinstance(outcome.artifact, Documents)
    tags = {url: row["tags"] for url, row in rows_of(outcome.artifact).items()}
    assert "classifier.kitchen" in tags["bread"]
    assert "classifier.海" in tags["boats"]
    assert not {"classifier.kitchen", "classifier.海"} & {*(tags["appeal"] or ()), *(tags["orchard"] or ())}


@pytest.mark.slow  # transformers is imported here and in a worker
def test_a_classifier_of_transformers_judges_as_well(tmp_path: Path) -> None:
    folder = made_text_classifier(tmp_path / "network", ("low", "high"))
    classifier = load(folder)
    likely = dict(zip(TEXTS, classifier.probabilities(list(TEXTS.values()))[:, 1], strict=True))
    bound = float(sorted(likely.values())[1]) + 1e-4
    rule = {"classifier": {"path": "network"}, "label": "high", "above": bound}
    outcome = filtered(tmp_path, Classifier.of_folder(folder), rule)
    assert kept(outcome) == {url for url, p in likely.items() if p <= bound}
    assert 0 < len(kept(outcome)) < 4


def test_an_unknown_label_is_one_line_with_the_labels(tmp_path: Path, trained: Artifact) -> None:
    with pytest.raises(UserError) as error:
        filtered(tmp_path, trained, {"classifier": "c", "label": "kitchens", "above": 0.5})
    assert str(error.value) == (
        "rule classifier: the classifier 'c' has no label 'kitchens', only court, kitchen, 山, 海; "
        "did you mean 'kitchen'?"
    )


@pytest.mark.parametrize(
    "rule",
    [
        "classifier",
        {"classifier": "c"},
        {"classifier": "c", "label": "a"},
        {"classifier": "c", "label": "a", "above": "much"},
        {"classifier": "c", "label": "a", "abov": 0.5},
        {"classifier": {"folder": "x"}, "label": "a", "above": 0.5},
    ],
)
def test_mistakes_in_a_recipe(rule: Any) -> None:
    with pytest.raises(ValidationError):
        Filter.model_validate({"documents": "d", "rules": [rule]})


def test_classifiers_are_inputs_and_only_then_do_their_libraries_count() -> None:
    plain = Filter.model_validate({"documents": "d", "rules": ["gopher"]})
    rules = ["gopher", {"classifier": "c", "label": "a", "above": 0.5}]
    own = Filter.model_validate({"documents": "d", "rules": rules})
    whole = {"classifier": {"model": {"path": "x"}, "label": "a", "below": 0}}
    folder = Filter.model_validate({"documents": "d", "rules": [whole]})
    assert list(own.inputs()) == ["documents", "rules[1].classifier.model"]
    assert Filter.model_validate(own.model_dump()) == own
    assert Filter.model_validate(folder.model_dump()) == folder
    assert set(own.shaping_libraries()) - set(plain.shaping_libraries()) == {"safetensors"}
    assert set(folder.shaping_libraries()) == set(Filter.libraries)
